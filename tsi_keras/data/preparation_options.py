"""What decides the result of a preparation: which videos, which splits, which records."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tsi_keras.data.annotations import Annotations
from tsi_keras.data.annotations import FrameFiles
from tsi_keras.data.annotations import scan
from tsi_keras.data.splitting import parse_ratios
from tsi_keras.data.stored_video import RecordOptions
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.errors import check_positive


@dataclass(frozen=True)
class PreparationOptions:
    """Options of a preparation that shape the data set, checked.

    Attributes: as the arguments of `prepare` of the same names, which also says what
        they mean.

    Raises:
        InputError: a value cannot work.

    Example:
        ```python
        options = PreparationOptions(fps=None, short_side=128)
        print(options.record.quality)
        ```
    """

    format: str = "auto"
    annotations: str | Path | Sequence[str | Path] | None = None
    labels: str | Path | None = None
    split_number: int | None = None
    frame_files: FrameFiles | None = None
    split: str = "0.8/0.1/0.1"
    seed: int = 0
    fps: float | None = 12.0
    frames: int | None = None
    short_side: int | None = 256
    quality: int = 90
    min_frames: int = 2
    videos_per_shard: int | None = None

    def __post_init__(self) -> None:
        parse_ratios(self.split)
        check_positive("min_frames", self.min_frames)
        for name in ("short_side", "videos_per_shard"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise InputError(
                f"`fps` must be above 0 and at most 1000. Received: {self.fps}"
            )
        if not 1 <= self.quality <= 100:
            raise InputError(
                f"`quality` must be from 1 to 100. Received: {self.quality}"
            )
        if self.frames is not None and self.frames < self.min_frames:
            raise InputError(
                f"`frames` must be at least `min_frames`, {self.min_frames}. "
                f"Received: {self.frames}"
            )

    @property
    def ratios(self) -> dict[str, float]:
        """Share of each split."""
        return parse_ratios(self.split)

    @property
    def record(self) -> RecordOptions:
        """How to decode and encode."""
        return RecordOptions(
            fps=self.fps if self.frames is None else None,
            short_side=self.short_side,
            quality=self.quality,
            min_frames=self.min_frames,
            frames=self.frames,
        )

    def scan(self, source: str | Path) -> Annotations:
        """Read the list of videos.

        Args:
            source: see `prepare`.

        Raises:
            InputError: the input is not usable.
        """
        return scan(
            source,
            format=self.format,
            annotations=self.annotations,
            labels=self.labels,
            split_number=self.split_number,
            frame_files=self.frame_files,
        )
