"""Folders of raw frames, read as if they were videos: numbered images, none missing."""

import re
from collections.abc import Callable
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from PIL import Image
from PIL import ImageOps

from tsi_keras.data.annotations.entries import FrameFiles
from tsi_keras.data.annotations.frame_names import parse_pattern
from tsi_keras.data.annotations.frame_names import problem_of
from tsi_keras.data.annotations.media import is_image_name
from tsi_keras.data.decoding import enough_frames
from tsi_keras.data.frame_conversion import FrameConverter
from tsi_keras.data.frame_selection import Spread
from tsi_keras.data.frame_selection import selector_for
from tsi_keras.data.span import WHOLE
from tsi_keras.data.span import Span
from tsi_keras.data.video_container import VideoError

T = TypeVar("T")
_LAST_NUMBER = re.compile(r"^(.*?)(\d+)(\D*)$", re.DOTALL)
_SHOWN = 5  # missing frames named in a reason


def list_frames(folder: str | Path, files: FrameFiles) -> list[Path]:
    """Find the frames of a folder in order.

    Args:
        folder: the folder.
        files: how they are called.

    Returns:
        The image files by number, without a gap.

    Raises:
        VideoError: there is none, one is missing, or it cannot be told which images
            are the frames.
    """
    if problem := problem_of(files):
        raise VideoError(problem)
    folder = Path(folder)
    names = _names(folder)
    if files.pattern is None:
        numbered = _only_series(names)
    else:
        numbered = _matching(names, files.pattern)
    if not numbered:
        raise VideoError(_why_no_frames(names, files))
    first = min(numbered) if files.first is None else files.first
    last = max(numbered) if files.count is None else first + files.count - 1
    missing = [number for number in range(first, last + 1) if number not in numbered]
    if missing:
        raise VideoError(
            f"{len(missing)} of its {last - first + 1} frames are missing: number "
            f"{_ranges(missing)}"
        )
    return [folder / numbered[number] for number in range(first, last + 1)]


class FrameFolderStream:
    """One pass over the frames of a folder; the others are not even opened.

    Args:
        folder: the folder.
        files: how the images are called, and their rate.
        short_side: see `FrameStream`.
        fps: see `FrameStream`.
        span: part of the frames to give.

    Attributes (final once iteration has ended):
        num_frames: frames given.
        fps: frames per second of the frames given.
        source_num_frames: frames in the folder, or in the part of it.
        source_fps: their frames per second.
    """

    def __init__(
        self,
        folder: str | Path,
        files: FrameFiles,
        *,
        short_side: int | None,
        fps: float | Spread | None,
        span: Span = WHOLE,
    ):
        self._folder = folder
        self._files = files
        self._selector = selector_for(fps)
        self._convert = FrameConverter(short_side)
        self._span = span
        self.num_frames = 0
        self.fps = 0.0
        self.source_num_frames = 0
        self.source_fps = float(files.fps or 0)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield uint8 RGB arrays `(H, W, 3)`.

        Raises:
            VideoError: frames are missing or damaged, or the rate is not known.
        """
        for path in self._selected():
            self.num_frames += 1
            yield self._convert(_read_image(path))
        self.fps = self._selector.rate(self.source_fps)

    def _selected(self) -> Iterator[Path]:
        if not self._files.fps:
            raise VideoError("the rate of its raw frames is not known")
        paths = self._in_span(list_frames(self._folder, self._files))
        self.source_num_frames = len(paths)
        step = 1 / Fraction(self._files.fps).limit_denominator(1_000_000)
        for index, path in enumerate(paths):
            # Selectors hand their frames through; a path is as good as a picture.
            yield from self._selector.push(path, index * step)
        yield from self._selector.finish()

    def _in_span(self, paths: list[Path]) -> list[Path]:
        """The frames of the part, by the rules of `SpanReader`."""
        span = self._span
        if problem := span.problem():
            raise VideoError(f"its part cannot be cut out: {problem}")
        step = 1 / Fraction(self._files.fps).limit_denominator(1_000_000)
        if problem := span.outside(len(paths) * step, len(paths)):
            raise VideoError(problem)
        return [
            path
            for index, path in enumerate(paths)
            if not span.starts_after(index * step, index)
            and not span.ends_before(index * step, index)
        ]


def convert_frame_folder(
    folder: str | Path,
    files: FrameFiles,
    *,
    short_side: int | None,
    fps: float | Spread | None,
    min_frames: int,
    convert: Callable[[np.ndarray], T],
    span: Span = WHOLE,
) -> tuple[FrameFolderStream, list[T]]:
    """`convert_video` for a folder of raw frames.

    Args:
        folder: the folder.
        files: how the images are called, and their rate.
        short_side: see `read_video`.
        fps: see `FrameStream`.
        min_frames: see `read_video`.
        convert: function of a uint8 `(H, W, 3)` array; what it returns is collected.
        span: part of the frames to convert.

    Returns:
        The exhausted stream and the list of converted frames.

    Raises:
        VideoError: frames are missing or damaged, or there are too few.
    """

    def read(
        fps: float | Spread | None, seek: bool
    ) -> tuple[FrameFolderStream, list[T]]:
        stream = FrameFolderStream(
            folder, files, short_side=short_side, fps=fps, span=span
        )
        return stream, [convert(frame) for frame in stream]

    return enough_frames(read, fps, min_frames, span)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        raise VideoError("the folder of frames does not exist") from None
    except NotADirectoryError:
        raise VideoError("it is a file, not a folder of frames") from None
    except OSError as error:
        raise VideoError(f"the folder cannot be read: {error.strerror}") from error


def _matching(names: list[str], pattern: str) -> dict[int, str]:
    """Names of a pattern by number; other padding is another name."""
    before, digits, after = parse_pattern(pattern)
    found = {}
    for name in names:
        number = name[len(before) : len(name) - len(after)]
        if name == before + number + after and number.isdecimal():
            if number == f"{int(number):0{digits}d}":
                found[int(number)] = name
    return found


def _only_series(names: list[str]) -> dict[int, str]:
    """The one numbered series of images in a folder."""
    series: dict[tuple[str, str], dict[int, str]] = {}
    for name in names:
        match = _LAST_NUMBER.match(name.rpartition(".")[0])
        if not is_image_name(name) or name.startswith(".") or not match:
            continue
        key = match[1], match[3] + "." + name.rpartition(".")[2]
        numbered = series.setdefault(key, {})
        number = int(match[2])
        if number in numbered:
            raise VideoError(f"{numbered[number]} and {name} have the same number")
        numbered[number] = name
    if len(series) > 1:
        kinds = ", ".join(f"{before}#{after}" for before, after in series)
        raise VideoError(
            f"its folder holds several series of images: {kinds}; say which with "
            "--frame-pattern"
        )
    return next(iter(series.values()), {})


def _why_no_frames(names: list[str], files: FrameFiles) -> str:
    images = [name for name in names if is_image_name(name)]
    if not images:
        return "its folder holds no images"
    if files.pattern is None:
        return f"its images are not numbered: {images[0]}"
    return (
        f"its folder holds no {files.pattern} but {images[0]}; say how frames are "
        "called with --frame-pattern"
    )


def _ranges(numbers: list[int]) -> str:
    """1, 2, 3, 7 as "1-3, 7"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    words = [f"{a}" if a == b else f"{a}-{b}" for a, b in runs[:_SHOWN]]
    return ", ".join(words) + (", ..." if len(runs) > _SHOWN else "")


def _read_image(path: Path) -> av.VideoFrame:
    """An image as a frame, upright and without transparency."""
    try:
        with Image.open(path) as image:
            rgb = ImageOps.exif_transpose(image).convert("RGB")
            return av.VideoFrame.from_ndarray(np.asarray(rgb), format="rgb24")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        message = " ".join(str(error).split()).replace(str(path), path.name)
        raise VideoError(f"frame {path.name} cannot be read: {message}") from error
