"""Frames of a file, a camera or a network stream as they come, each with its time."""

import re
import sys
import time
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
from av.container import InputContainer

from tsi_keras.data.cutting import SpanReader
from tsi_keras.data.live_clock import LiveClock
from tsi_keras.data.span import WHOLE
from tsi_keras.data.video_container import VideoError
from tsi_keras.data.video_container import open_container
from tsi_keras.data.video_container import video_stream
from tsi_keras.utils.console import errors
from tsi_keras.utils.errors import InputError

SCHEMES = (
    "http",
    "https",
    "rtmp",
    "rtmps",
    "rtp",
    "rtsp",
    "rtsps",
    "srt",
    "tcp",
    "udp",
)
# Only these also carry files, which have an end.
_WEB = ("http", "https")
# Pauses before the attempts to get a lost stream back, in seconds.
PAUSES = (1, 2, 4, 8, 16)
_TIMEOUT = 10.0  # seconds for opening, and for any single read
# Keys of addresses whose values are secret; rather one too many.
_SECRET = re.compile(
    r"([^/?&;#=]*(?:pas|pw|token|key|secret|auth|sig)[^/?&;#=]*=)[^&]*", re.IGNORECASE
)
# FFmpeg numbers these frames by an assumed rate; their arrival says more.
_WITHOUT_TIMES = ("mpjpeg", "mjpeg")


class TimedFrame(NamedTuple):
    """A decoded frame, not converted yet.

    Attributes:
        frame: as decoded; `FrameConverter` makes an upright RGB picture of it.
        seconds: since the first frame of the stream.
    """

    frame: av.VideoFrame
    seconds: Fraction


@dataclass(frozen=True)
class Source:
    """Where frames come from.

    Attributes:
        kind: `"file"`, `"camera"` or `"network"`.
        target: what FFmpeg opens.
        shown: how messages call it: without passwords.
    """

    kind: str
    target: str
    shown: str

    @property
    def scheme(self) -> str:
        """Of a network address, `rtsp`; otherwise empty."""
        return self.target.partition("://")[0].lower() * (self.kind == "network")


def parse_source(source: str | Path | int) -> Source:
    """Tell files, cameras and addresses apart.

    Args:
        source: the path of a video, the number of a camera (`0` is `/dev/video0`), or
            an address such as `rtsp://user:password@camera/stream`.

    Raises:
        InputError: FFmpeg is not asked for addresses of that kind here.

    Example:
        ```python
        parse_source("0").target  # "/dev/video0"
        ```
    """
    text = str(source)
    if text.isdecimal():
        return Source("camera", f"/dev/video{int(text)}", f"camera {int(text)}")
    if re.fullmatch(r"/dev/video\d+", text):
        return Source("camera", text, text)
    if "://" not in text:
        return Source("file", text, text)
    if text.partition("://")[0].lower() not in SCHEMES:
        raise InputError(
            f"{_masked(text)} cannot be read as a stream; give a file, the number of a "
            f"camera, or an address that begins with one of {', '.join(SCHEMES)}."
        )
    return Source("network", text, _masked(text))


def _masked(address: str) -> str:
    """An address without its passwords.

    These may hold any sign, `@` and `/` too, so that all up to the last `@` counts as
    one: rather too much is hidden than too little.
    """
    without_login = re.sub(r"(?s)://([^:]*):.*@", r"://\1:***@", address)
    return _SECRET.sub(r"\1***", without_login)


class VideoStream:
    """One pass over the frames of a source, in constant memory.

    A file, or a file behind an http address, gives its frames at the speed they are
    asked for, and any damage ends it, as everywhere in this package. Cameras and
    streams have no end and cannot be asked again: damaged frames are left out and
    counted, and a lost connection is opened again up to five times without a frame in
    between, with a line on the terminal each; the time of the frames goes on meanwhile.

    Args:
        source: see `parse_source`.
        live: whether frames come at their own speed; None finds out: cameras and
            addresses other than http(s) do, and http(s) where no length is stated. An
            http(s) connection that ends is opened again only with True.
        notify: called with one line when a connection is lost.

    Attributes:
        source: the parsed source.
        live: the answer; final once opened.
        rate: frames per second by the header, or None.
        num_frames: frames given so far.
        damaged: damaged frames or packets of a live source that were left out.
        reconnects: connections that were lost and opened again.

    Raises:
        InputError: the source cannot be opened (on entering the context).
        VideoError: the file is damaged, or the connection does not come back; the
            message says at what time (while iterating).

    Example:
        ```python
        with VideoStream("rtsp://camera/door") as stream:
            for frame, seconds in stream:
                print(float(seconds), frame.width, frame.height)
        ```
    """

    def __init__(
        self,
        source: str | Path | int,
        *,
        live: bool | None = None,
        notify: Callable[[str], None] | None = None,
    ):
        self.source = parse_source(source)
        self.live = live
        self.rate: Fraction | None = None
        self.num_frames = 0
        self.damaged = 0
        self.reconnects = 0
        self._given_live = live
        self._notify = notify or _to_terminal
        self._container: InputContainer | None = None
        self._stream = None
        self._endless = False
        self._attempts = 0  # to open it again, since the last frame
        self._seconds = Fraction(0)

    def __enter__(self) -> "VideoStream":
        if self._container is not None:
            return self
        try:
            self._open()
        except VideoError as error:
            raise InputError(f"{self.source.shown}: {error.reason}") from error
        stated = self._stream.average_rate or self._stream.guessed_rate
        self.rate = Fraction(stated) if stated else None
        self._endless = self.source.kind != "file" and not (
            self.source.scheme in _WEB and self._container.duration is not None
        )
        if self._given_live and not self._endless and not self.source.scheme:
            self.close()
            raise InputError(f"{self.source.shown} is a file; it cannot be live.")
        self.live = self._endless if self._given_live is None else self._given_live
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file, camera or connection."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def __iter__(self) -> Iterator[TimedFrame]:
        """Yield the frames; see the class for what is raised."""
        for frame, seconds in self._connections() if self._endless else self._file():
            self.num_frames += 1
            self._seconds = seconds
            yield TimedFrame(frame, seconds)

    def _open(self) -> None:
        """Open the source anew."""
        self.close()
        self._container = _open(self.source)
        self._stream = video_stream(self._container)

    def _file(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Frames up to the end; an error says at what time."""
        try:
            yield from SpanReader(self._container, self._stream, WHOLE, seek=False)
        except VideoError as error:
            raise self._failure(error.reason) from error

    def _connections(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Frames of one connection after the other."""
        clock = LiveClock(by_arrival=self._container.format.name in _WITHOUT_TIMES)
        while True:
            reason = "the stream ended"
            try:
                for frame in self._frames():
                    self._attempts = 0
                    yield frame, clock.tick(frame)
            except av.error.FFmpegError as error:
                reason = _reason(error)
            if self.source.scheme in _WEB and not self._given_live:
                # It may be a file whose length the server did not state; from the
                # beginning it would come again and again.
                self._notify(f"{self._lost(reason)}; taken for its end")
                return
            self._open_again(reason)
            clock.restart()

    def _frames(self) -> Iterator[av.VideoFrame]:
        """Whole frames of the connection; what is damaged is counted."""
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                self.damaged += 1
                continue
            self.damaged += packet.is_corrupt
            for frame in frames:
                if frame.is_corrupt:
                    self.damaged += not packet.is_corrupt
                else:
                    yield frame

    def _open_again(self, reason: str) -> None:
        """Try to get the source back, with growing pauses.

        What opens but gives no frame is not back: the attempts are counted on.
        """
        while self._attempts < len(PAUSES):
            pause = PAUSES[self._attempts]
            self._attempts += 1
            self._notify(
                f"{self._lost(reason)}; opening it again in {pause} s "
                f"(attempt {self._attempts} of {len(PAUSES)})"
            )
            time.sleep(pause)
            try:
                self._open()
            except VideoError as error:
                reason = error.reason
                continue
            self.reconnects += 1
            self._notify(f"{self.source.shown}: open again")
            return
        raise self._failure(f"{reason}, and so {len(PAUSES)} more times")

    def _lost(self, reason: str) -> str:
        return f"{self.source.shown}: {reason} at {float(self._seconds):.2f} s"

    def _failure(self, reason: str) -> VideoError:
        """An error with the time up to which frames came."""
        if not self.num_frames:
            return VideoError(reason)
        return VideoError(f"{reason} (last frame at {float(self._seconds):.2f} s)")


def _open(source: Source) -> InputContainer:
    """Open a source, or say what is wrong with it."""
    if source.kind == "file":
        return open_container(Path(source.target).expanduser())
    try:
        if source.kind == "camera":
            return _open_camera(source)
        secure = source.scheme in ("rtsp", "rtsps")
        # TCP: lost UDP packets would be damaged pictures.
        options = {"rtsp_transport": "tcp"} if secure else {}
        return av.open(
            source.target, options=options, timeout=_TIMEOUT, metadata_errors="replace"
        )
    except av.error.FFmpegError as error:
        raise VideoError(
            f"it cannot be opened: {_reason(error)}; check the address and whether "
            "what it names is running"
        ) from error


def _open_camera(source: Source) -> InputContainer:
    """Open a camera through Video4Linux."""
    if not sys.platform.startswith("linux"):
        raise VideoError(
            "cameras are opened by number on Linux only; give the address of a stream"
        )
    if not Path(source.target).exists():
        found = sorted(str(path) for path in Path("/dev").glob("video*"))
        raise VideoError(
            f"there is no {source.target}; cameras found: {', '.join(found) or 'none'}"
        )
    return av.open(source.target, format="v4l2", timeout=_TIMEOUT)


def _reason(error: av.error.FFmpegError) -> str:
    """What FFmpeg says, in one line."""
    if isinstance(error, av.error.ExitError):
        return f"nothing came for {_TIMEOUT:.0f} s"
    return str(error.strerror or error).strip()


def _to_terminal(line: str) -> None:
    errors.print(line, markup=False)
