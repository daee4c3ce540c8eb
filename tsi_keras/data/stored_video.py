"""One video as a record keeps it: frames chosen, resized and compressed."""

from dataclasses import dataclass

import numpy as np
import simplejpeg

from tsi_keras.data.annotations import VideoEntry
from tsi_keras.data.decoding import VideoError
from tsi_keras.data.frame_conversion import Planes
from tsi_keras.data.frame_selection import Spread
from tsi_keras.data.video_source import convert_entry

_MAX_RECORD_BYTES = 2_000_000_000  # protocol buffers end at 2 GiB


@dataclass(frozen=True)
class RecordOptions:
    """What decides the bytes of a record; see `prepare` for the meaning."""

    fps: float | None
    short_side: int | None
    quality: int
    min_frames: int
    frames: int | None = None

    @property
    def thinning(self) -> float | Spread | None:
        """Which frames to keep, for `convert_video`."""
        return self.fps if self.frames is None else Spread(self.frames)


@dataclass(frozen=True)
class StoredVideo:
    """A video as a record keeps it.

    Attributes:
        jpegs: its frames in display order, each a whole JPEG file.
        height: of the frames in pixels.
        width: of the frames in pixels.
        fps: stored frames per second.
        source_num_frames: frames of the file.
        source_fps: frames per second of the file.
    """

    jpegs: list[bytes]
    height: int
    width: int
    fps: float
    source_num_frames: int
    source_fps: float

    def record(self, video_id: str, label: int, class_name: str) -> bytes:
        """The serialised `tf.train.SequenceExample`, see `records.encode_record`."""
        from tsi_keras.data.records import encode_record

        names = {"video_id": video_id, "label": label, "class_name": class_name}
        return encode_record(**names, **vars(self))


def store_video(entry: VideoEntry, options: RecordOptions) -> StoredVideo:
    """Decode one video, compressing each frame at once.

    Args:
        entry: the video; `label`, `split` and `group` do not matter.
        options: how to decode and encode.

    Returns:
        The frames of its record.

    Raises:
        VideoError: the video cannot be used.
        RemoteError: the storage it lies on refuses or does not answer.
    """
    encoder = _JpegEncoder(options.quality)
    stream, jpegs = convert_entry(
        entry,
        short_side=options.short_side,
        fps=options.thinning,
        min_frames=options.min_frames,
        convert=encoder,
        planes=True,
    )
    height, width = encoder.size
    source = stream.source_num_frames, stream.source_fps
    return StoredVideo(jpegs, height, width, stream.fps, *source)


class _JpegEncoder:
    """Frames of one video to JPEG files (4:2:0), all of one size."""

    def __init__(self, quality: int):
        self._quality = quality
        self._bytes = 0
        self.size = (0, 0)

    def __call__(self, frame: np.ndarray | Planes) -> bytes:
        """Compress uint8 RGB `(H, W, 3)`, or `Planes`."""
        shape = (frame.y if isinstance(frame, Planes) else frame).shape[:2]
        if self.size not in ((0, 0), shape):
            raise VideoError("its frames change their shape on the way")
        self.size = shape
        data = self._compress(frame)
        self._bytes += len(data)
        if self._bytes > _MAX_RECORD_BYTES:
            raise VideoError(
                "it is too long for one record (2 GB); cut it, or choose a lower fps"
            )
        return data

    def _compress(self, frame: np.ndarray | Planes) -> bytes:
        if isinstance(frame, Planes):
            return simplejpeg.encode_jpeg_yuv_planes(*frame, quality=self._quality)
        return simplejpeg.encode_jpeg(
            frame, quality=self._quality, colorsubsampling="420"
        )
