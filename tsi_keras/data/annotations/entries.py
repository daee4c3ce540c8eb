"""What every annotation format becomes: a list of labelled videos."""

import hashlib
import re
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

# UCF101 and its kin: v_Archery_g03_c02.avi is clip 2 cut from video 3.
_CLIP_OF_GROUP = re.compile(r"^(?P<group>.+_g\d+)_")

BY_NAME = "sorted by name"


@dataclass(frozen=True)
class FrameFiles:
    """How the images of a raw frame folder are called.

    Attributes:
        pattern: file name with the number as `{:05d}` or `%05d`; `None` takes the one
            numbered series of images in the folder.
        first: number of the first frame; `None` takes the lowest there is.
        count: number of frames; `None` goes up to the highest number there is.
        fps: frames per second; image files do not tell it.
    """

    pattern: str | None = None
    first: int | None = None
    count: int | None = None
    fps: float | None = None

    def over(self, default: "FrameFiles") -> "FrameFiles":
        """These settings, with those of `default` where nothing is set."""

        def pick(name: str):
            own = getattr(self, name)
            return getattr(default, name) if own is None else own

        return FrameFiles(*(pick(n) for n in ("pattern", "first", "count", "fps")))


@dataclass(frozen=True)
class VideoEntry:
    """One labelled video.

    Attributes:
        id: unique name.
        path: the video file, or the folder of raw frames; it need not exist.
        label: class name.
        split: "train", "val" or "test" where the input says, else `None`.
        group: videos of one group must stay in one split.
        start: first second to use, counted from the first frame; `None`: from there.
        end: the second before which to stop; `None`: the end of the file.
        frames: set where `path` is a folder of raw frames.
        start_frame: first frame to use, from 0; instead of `start`.
        end_frame: the frame before which to stop; instead of `end`.
    """

    id: str
    path: Path
    label: str
    split: str | None
    group: str
    start: float | None = None
    end: float | None = None
    frames: FrameFiles | None = None
    start_frame: int | None = None
    end_frame: int | None = None


@dataclass
class Annotations:
    """What an input holds.

    Attributes:
        entries: the videos, sorted by id.
        skipped: `(path, why)` of everything else that lies or is listed there.
        official_classes: class names in the data set's own order, classes without a
            video included; `None` where there is no such order.
        class_order: where the order comes from, in words.
        notes: what the reader should know about the whole, one sentence each.
        format: name of the format that was read.
        files: the annotation files and class list that were read.
    """

    entries: list[VideoEntry]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    official_classes: list[str] | None = None
    class_order: str = BY_NAME
    notes: list[str] = field(default_factory=list)
    format: str = ""
    files: list[Path] = field(default_factory=list)

    @property
    def class_digest(self) -> str:
        """How the classes are ordered, so that two orders can be told apart."""
        if self.official_classes is None:
            return self.class_order
        text = "\n".join(self.official_classes).encode("utf-8")
        return f"{self.class_order} ({hashlib.sha256(text).hexdigest()[:12]})"

    @property
    def class_names(self) -> list[str]:
        """Class names in the official order, else sorted; the position is the label."""
        if self.official_classes is not None:
            return list(self.official_classes)
        return sorted({entry.label for entry in self.entries})


def default_group(entry_id: str) -> str:
    """Group of a video by its name: `a/v_Archery_g03_c02.avi` is in `a/v_Archery_g03`.

    Args:
        entry_id: id of a video.

    Returns:
        The id up to `_gNN` where the name has the form of UCF101, else the id.
    """
    folder, _, name = entry_id.rpartition("/")
    match = _CLIP_OF_GROUP.match(name)
    if not match:
        return entry_id
    return f"{folder}/{match['group']}" if folder else match["group"]
