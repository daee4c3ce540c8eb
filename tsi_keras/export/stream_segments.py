"""Windows of equal label, one after the other, as one segment of the stream."""

from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tsi_keras.export.stream_classifier import StreamPrediction


@dataclass(frozen=True)
class Segment:
    """A stretch of the stream in which the label stays.

    Attributes:
        start: seconds where it begins.
        end: seconds where it ends.
        label: the class, or None where no class was probable enough.
        index: its number, or None.
        probability: mean over the windows, 0..1.
        windows: how many there are.
    """

    start: float
    end: float
    label: str | None
    index: int | None
    probability: float
    windows: int

    def as_json(self) -> dict[str, Any]:
        """Plain types, times to the microsecond."""
        return {
            "start": round(self.start, 6),
            "end": round(self.end, 6),
            "label": self.label,
            "index": self.index,
            "probability": self.probability,
            "windows": self.windows,
        }


def merge_segments(predictions: Iterable[StreamPrediction]) -> Iterator[Segment]:
    """Merge consecutive windows of equal label; segments do not overlap.

    Where two overlapping windows disagree, the border lies halfway between their
    middles; where there is a hole between them, each keeps its own end.

    Args:
        predictions: in order of time; read as segments are asked for.

    Yields:
        Each segment as soon as a window with another label comes, the last at the end.

    Example:
        ```python
        for segment in merge_segments(classify_stream("day.mp4", classifier)):
            print(segment.start, segment.end, segment.label)
        ```
    """
    last, start, mean = None, 0.0, _Mean()
    for prediction in predictions:
        if last is None:
            start = prediction.start
        elif prediction.index != last.index or prediction.start > last.end:
            end, begin = _border(last, prediction)
            yield _segment(start, end, last, mean)
            start, mean = begin, _Mean()
        last = prediction
        mean.add(prediction.probability)
    if last is not None:
        yield _segment(start, last.end, last, mean)


class _Mean:
    """A mean that does not keep its terms: segments may last for days."""

    def __init__(self):
        self.count = 0
        self._sum = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self._sum += value

    @property
    def value(self) -> float:
        return self._sum / self.count


def _border(last: StreamPrediction, new: StreamPrediction) -> tuple[float, float]:
    """Where the one's segment ends and the other's begins."""
    if new.start >= last.end:
        return last.end, new.start
    border = (last.start + last.end + new.start + new.end) / 4
    return border, border


def _segment(start: float, end: float, last: StreamPrediction, mean: _Mean) -> Segment:
    return Segment(start, end, last.label, last.index, mean.value, mean.count)
