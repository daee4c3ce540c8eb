"""Frames of a listed video, whatever it lies in: a file, a part of one, a folder."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from tsi_keras.data.annotations.entries import VideoEntry
from tsi_keras.data.decoding import FrameStream
from tsi_keras.data.decoding import convert_video
from tsi_keras.data.frame_conversion import Planes
from tsi_keras.data.raw_frames import FrameFolderStream
from tsi_keras.data.raw_frames import convert_frame_folder
from tsi_keras.data.remote import RemotePath
from tsi_keras.data.remote_input import video_as_file
from tsi_keras.data.span import Span

T = TypeVar("T")


def convert_entry(
    entry: VideoEntry,
    *,
    convert: Callable[[np.ndarray | Planes], T],
    planes: bool = False,
    **options,
) -> tuple[FrameStream | FrameFolderStream, list[T]]:
    """`convert_video` for an entry: cut where it says so, raw frames where it has such.

    Args:
        entry: the video.
        convert: see `convert_video`.
        planes: see `convert_video`; raw frames always come as RGB.
        **options: `short_side`, `fps`, `min_frames`, see `convert_video`.

    Returns:
        The exhausted stream (`fps`, `source_fps`, `source_num_frames`) and the list of
        converted frames.

    Raises:
        VideoError: the video cannot be used.
    """
    if isinstance(entry.path, RemotePath):
        with video_as_file(entry.path) as path:
            local = replace(entry, path=path)
            return convert_entry(local, convert=convert, planes=planes, **options)
    span = Span(entry.start, entry.end, entry.start_frame, entry.end_frame)
    if entry.frames is not None:
        return convert_frame_folder(
            entry.path, entry.frames, convert=convert, span=span, **options
        )
    return convert_video(
        entry.path, convert=convert, planes=planes, span=span, **options
    )
