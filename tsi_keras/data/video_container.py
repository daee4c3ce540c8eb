"""Open a video file and check it against its own header."""

from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

MOST_PIXELS = 8192 * 8192  # damaged headers ask for gigabytes


class VideoError(Exception):
    """One video that cannot be used.

    Attributes:
        reason: why, in one readable line without the file's name.
    """

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


def open_container(path: Path) -> InputContainer:
    """Open a container, or say what the file is instead.

    Args:
        path: the file.

    Returns:
        The open container; close it or use it as a context manager.

    Raises:
        VideoError: the file is missing, empty, unreadable or no video.
    """
    try:
        if path.is_dir():
            raise VideoError("it is a folder, not a file")
        if path.stat().st_size == 0:
            raise VideoError("the file is empty (0 bytes)")
        # FFmpeg would take a name like "a:b.mp4" for a protocol; "file:" forbids it.
        return av.open(f"file:{path}", metadata_errors="replace")
    except FileNotFoundError as error:
        raise VideoError("the file does not exist") from error
    except PermissionError as error:
        raise VideoError("the file cannot be read: permission denied") from error
    except av.error.FFmpegError as error:
        raise VideoError(f"it is not a readable video: {error.strerror}") from error
    except OSError as error:
        raise VideoError(f"the file cannot be read: {error.strerror}") from error


def video_stream(container: InputContainer) -> VideoStream:
    """Return the main video stream, to be decoded on the calling thread.

    Args:
        container: an open file.

    Returns:
        The stream; pictures attached to music do not count.

    Raises:
        VideoError: there is none, its codec is not known, or its frames are larger
            than 8192x8192.
    """
    stream = container.streams.best("video")
    if stream is None or stream.disposition & Disposition.attached_pic:
        raise VideoError("it holds no video stream")
    if stream.codec_context is None:
        raise VideoError("its video codec is not known to FFmpeg")
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    if stream.width * stream.height > MOST_PIXELS:
        raise VideoError(
            f"its frames are {stream.width}x{stream.height} pixels; more than "
            f"{MOST_PIXELS:,} are taken for damage"
        )
    # The frames themselves may say otherwise than the header.
    stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
    return stream


def check_end(
    container: InputContainer,
    stream: VideoStream,
    decoded: int | None,
    end: Fraction,
    longest_step: Fraction,
) -> None:
    """Raise when the file ends well before what its header announces.

    Two frames or 2 % may be missing: some writers count frames they left out.

    Args:
        container: the open file.
        stream: its video stream.
        decoded: frames that came out; `None` if decoding did not begin at the start.
        end: timestamp of the last one, in seconds on the stream's own time line.
        longest_step: longest time between two frames, in seconds.

    Raises:
        VideoError: frames are missing at the end.
    """
    announced = _announced_frames(stream)
    if decoded is not None and announced - decoded > max(2, announced // 50):
        raise VideoError(
            f"it ends early: {decoded} of {announced} announced frames are there"
        )
    counted = decoded is not None and announced
    duration = 0 if counted else _announced_seconds(container, stream)
    # The last frame may be held as long as any other, hence the longest step.
    missing = duration - end - longest_step
    if missing > max(longest_step, duration / 50):
        raise VideoError(
            f"it ends early: {float(end):.2f} of "
            f"{float(duration):.2f} announced seconds are there"
        )


def expected_frames(path: Path) -> int:
    """How many frames a file will probably give, without decoding it.

    Args:
        path: the file.

    Returns:
        What the header says, else the number of coded pictures.

    Raises:
        VideoError: the file cannot be opened or read.
    """
    with open_container(path) as container:
        stream = video_stream(container)
        try:
            announced = _announced_frames(stream)
            return announced or sum(1 for p in container.demux(stream) if p.size)
        except av.error.FFmpegError as error:
            raise VideoError(f"it cannot be read: {error.strerror}") from error


def _announced_frames(stream: VideoStream) -> int:
    """Frames that the header promises to show; 0 if it does not say."""
    # The index of an MP4 knows the samples an edit list hides; elsewhere it lists
    # key frames only, or nothing.
    entries = stream.index_entries
    if stream.frames and len(entries) == stream.frames:
        return sum(not entry.is_discard for entry in entries)
    return stream.frames


def _announced_seconds(container: InputContainer, stream: VideoStream) -> Fraction:
    """Length of the video stream by the header; 0 if it does not say."""
    for key, value in stream.metadata.items():
        if key.upper().startswith("DURATION"):  # Matroska keeps it as a tag
            return _parse_duration(value)
    if stream.duration is not None:
        return stream.duration * stream.time_base
    if container.duration is not None and len(container.streams) == 1:
        return Fraction(container.duration, av.time_base)
    return Fraction(0)


def _parse_duration(text: str) -> Fraction:
    """Seconds of "HH:MM:SS.fraction"; 0 for anything else."""
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return Fraction(0)
