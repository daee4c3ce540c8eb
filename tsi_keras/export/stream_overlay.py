"""An annotated copy of a video: every frame with what the model says about it."""

import contextlib
import secrets
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from tsi_keras.data.frame_conversion import FrameConverter
from tsi_keras.data.video_container import VideoError
from tsi_keras.data.video_stream import TimedFrame
from tsi_keras.data.video_stream import VideoStream
from tsi_keras.export.stream_caption import draw_caption
from tsi_keras.export.stream_classifier import StreamPrediction
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import is_same_file

# Fine enough for any frame rate, and what other tools use.
_TIME_BASE = Fraction(1, 90_000)
_CODEC = {"preset": "veryfast", "crf": "20"}
# Written in pieces, an endless file needs no index at its end to be played.
_IN_PIECES = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


class Overlay:
    """Writes an MP4 (H.264, no sound) with the size and the timing of the source.

    Frames are upright. An odd width or height loses its last column or row, which H.264
    cannot store; frames of another size than the first are scaled to it. The file
    appears under its name when it is complete; until then it lies beside it, called
    `NAME.XXXXXXXX.part` with eight digits that no other file has.

    Args:
        path: the file to write.
        source: what to read the frames from again, for `draw_until`.
        overwrite: replace the file if it exists.

    Raises:
        InputError: the file exists, is the source, has another suffix, or cannot be
            written there.
    """

    def __init__(self, path: str | Path, source: str, *, overwrite: bool = False):
        self._path = _checked(Path(path).expanduser(), source, overwrite)
        self._part: Path | None = None
        self._source = source
        self._frames: Iterator[TimedFrame] | None = None
        self._pending: TimedFrame | None = None
        self._latest: StreamPrediction | None = None
        self._lock = threading.Lock()
        self._convert = FrameConverter(None)
        self._writer: _Writer | None = None
        self._closed = False

    def draw(
        self,
        frame: av.VideoFrame,
        seconds: Fraction,
        prediction: StreamPrediction | None,
    ) -> None:
        """Add a frame of a live source."""
        with self._lock:
            self._write(frame, seconds, prediction, in_pieces=True)

    def draw_until(self, prediction: StreamPrediction, hop: float) -> None:
        """Add the frames of a file that are nearer to this window than to the next.

        Args:
            prediction: the next window.
            hop: seconds from one window to the next.
        """
        self._latest = prediction
        self._draw_before((prediction.start + prediction.end + hop) / 2)

    def draw_rest(self) -> None:
        """Add the other frames of a file, or those in front of a damaged place."""
        try:
            self._draw_before(float("inf"))
        except VideoError:
            pass  # whoever reads the file for its windows reports this

    def close(self, *, keep: bool = True) -> None:
        """Complete the file.

        Args:
            keep: False throws away what was written, and leaves an earlier file of that
                name as it is.
        """
        with self._lock:
            if self._frames is not None:
                self._frames.close()
            try:
                if keep and self._writer is not None and not self._closed:
                    self._writer.close()
                    self._part.replace(self._path)
            finally:
                self._closed = True
                self._discard()

    def _discard(self) -> None:
        """Let go of the unfinished file, if there is one."""
        if self._writer is not None:
            self._writer.abandon()
        if self._part is not None:
            self._part.unlink(missing_ok=True)

    def _draw_before(self, limit: float) -> None:
        if self._frames is None:
            self._frames = _frames_of(self._source)
        with self._lock:
            while True:
                self._pending = self._pending or next(self._frames, None)
                if self._pending is None or self._pending.seconds >= limit:
                    return
                self._write(*self._pending, self._latest, in_pieces=False)
                self._pending = None

    def _write(self, frame, seconds, prediction, *, in_pieces: bool) -> None:
        if self._closed:
            return
        picture = draw_caption(self._convert(frame), float(seconds), prediction)
        if self._writer is None:
            height, width = picture.shape[:2]
            self._part = _new_file_beside(self._path)
            self._writer = _Writer(self._part, width, height, in_pieces)
        self._writer.write(picture, seconds)


class _Writer:
    """An H.264 stream in an MP4 container."""

    def __init__(self, path: Path, width: int, height: int, in_pieces: bool):
        self._size = width, height
        options = _IN_PIECES if in_pieces else {}
        self._container = av.open(str(path), "w", format="mp4", options=options)
        self._stream = self._container.add_stream("libx264", rate=30, options=_CODEC)
        self._stream.width, self._stream.height = width // 2 * 2, height // 2 * 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = _TIME_BASE

    def write(self, picture: np.ndarray, seconds: Fraction) -> None:
        """Add uint8 `(H, W, 3)` at a time in seconds."""
        if picture.shape[1::-1] != self._size:
            picture = np.asarray(Image.fromarray(picture).resize(self._size))
        stream = self._stream
        picture = np.ascontiguousarray(picture[: stream.height, : stream.width])
        frame = av.VideoFrame.from_ndarray(picture, "rgb24")
        frame.pts, frame.time_base = round(seconds / _TIME_BASE), _TIME_BASE
        self._container.mux(stream.encode(frame))

    def close(self) -> None:
        """Complete the file."""
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def abandon(self) -> None:
        """Let go of the file as it is; after `close` this does nothing."""
        # Why it is given up counts, not that its end cannot be written either.
        with contextlib.suppress(av.error.FFmpegError):
            self._container.close()


def _new_file_beside(path: Path) -> Path:
    """An empty file of a name that nothing else has."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    part.touch(exist_ok=False)
    return part


def _frames_of(source: str) -> Iterator[TimedFrame]:
    with VideoStream(source) as stream:
        yield from stream


def _checked(path: Path, source: str, overwrite: bool) -> Path:
    """The path, if a file may be written there."""
    if "libx264" not in av.codecs_available:
        raise InputError(
            "`--overlay` needs PyAV with libx264, which the wheels of PyPI have; leave "
            "the option out or install `av` from there."
        )
    if path.suffix.lower() != ".mp4" or not path.absolute().parent.is_dir():
        raise InputError(
            f"`--overlay` {path} must be a .mp4 file in an existing folder."
        )
    if is_same_file(path, source):
        raise InputError(
            f"`--overlay` {path} is the video itself; choose another file."
        )
    if path.exists() and not overwrite:
        raise InputError(
            f"`--overlay` {path} exists; nothing was written. Choose another file or "
            "add --overwrite."
        )
    return path
