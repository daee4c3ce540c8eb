"""`StreamingClassifier`: what is to be seen in a stream, window after window."""

from collections import deque
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from fractions import Fraction
from typing import Any

import av
import numpy as np
import tensorflow as tf

from tsi_keras.data.clip_options import check_positive
from tsi_keras.data.frame_conversion import FrameConverter
from tsi_keras.data.preprocessing import resize_and_center_crop
from tsi_keras.data.span import exact_seconds
from tsi_keras.evaluation.metrics import softmax
from tsi_keras.evaluation.predict import decoding_options
from tsi_keras.evaluation.predictions import Candidate
from tsi_keras.evaluation.predictions import rank_classes
from tsi_keras.evaluation.protocols import clip_options
from tsi_keras.export.stream_features import FrameFeatures
from tsi_keras.export.stream_windows import Window
from tsi_keras.export.stream_windows import WindowGrid
from tsi_keras.export.stream_windows import WindowMaker
from tsi_keras.export.stream_windows import plan_windows
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.utils.errors import InputError


@dataclass(frozen=True)
class StreamPrediction:
    """What a model says about one window of a stream.

    Attributes:
        start: seconds where the window begins, on the time line of the frames.
        end: seconds where it ends.
        label: the most probable class; None if it is less probable than asked for.
        index: its number, or None.
        probability: of the most probable class, after smoothing, 0..1.
        candidates: the most probable classes, best first.
        num_stored: frames a record of the window would hold.
        dropped: windows dropped since the stream began; not zero only where frames
            come faster than the model is.
        logits: float32 `(K,)`, the model's scores of this window alone.
    """

    start: float
    end: float
    label: str | None
    index: int | None
    probability: float
    candidates: list[Candidate]
    num_stored: int
    dropped: int = 0
    logits: np.ndarray | None = field(default=None, repr=False, compare=False)

    def as_json(self) -> dict[str, Any]:
        """Plain types: times to the microsecond, no logits."""
        return {
            "start": round(self.start, 6),
            "end": round(self.end, 6),
            "label": self.label,
            "index": self.index,
            "probability": self.probability,
            "frames": self.num_stored,
            "dropped": self.dropped,
            "predictions": [asdict(each) for each in self.candidates],
        }


class StreamingClassifier:
    """Classifies sliding windows of a stream, computing what it can only once.

    A window is what the evaluation would make of the same piece: frames thinned to the
    rate of the model's records, T of them chosen by its sampling, resized and cropped
    alike. Without smoothing, the scores are those of the model on that clip. Frames are
    counted over the whole stream; where a window does not begin on a frame of the
    source, a file cut there may be thinned to other frames.

    The layers in front of the first that mixes frames (all of TSN, res2 to res4 of a
    network with `stages=(5,)`) are computed once per frame. Modules that mix frames see
    zeros or a repeated frame beyond the ends of their window, so that what comes after
    them belongs to this window alone and is computed for each.

    Args:
        model: the classifier; its `preprocessing` says how frames are prepared.
        window: seconds of a window; default and rounding: `stream_windows.plan_windows`.
        hop: seconds from window to window; likewise.
        smooth: mean of the probabilities of so many windows; 1 for none. It begins anew
            after windows without frames.
        min_probability: a less probable best class is no label but None.
        top_k: candidates per window.
        rate: frames per second of the source; only for models whose records hold every
            frame (`fps: null`), which otherwise do not tell how long a window is.
        reuse: False computes every window anew; the results are the same.

    Attributes:
        grid: the rounded lengths.
        features: counts what was computed and reused.

    Raises:
        InputError: an argument is out of range, or the model does not say how its
            frames are prepared.

    Example:
        ```python
        from tsi_keras.export import StreamingClassifier
        from tsi_keras.models import load_classifier

        classifier = StreamingClassifier(load_classifier("runs/mine"), window=2, hop=0.5)
        for number, frame in enumerate(frames):  # uint8 (H, W, 3), RGB, 30 per second
            for prediction in classifier.push(frame, number / 30):
                print(prediction.start, prediction.end, prediction.label)
        for prediction in classifier.flush():
            print(prediction.start, prediction.end, prediction.label)
        ```
    """

    def __init__(
        self,
        model: VideoClassifier,
        window: float | None = None,
        hop: float | None = None,
        smooth: int = 1,
        *,
        min_probability: float = 0.0,
        top_k: int = 5,
        rate: float | None = None,
        reuse: bool = True,
    ):
        check_positive("smooth", smooth)
        check_positive("top_k", top_k)
        if not 0 <= min_probability <= 1:
            raise InputError(
                f"`min_probability` must be from 0 to 1. Received: {min_probability}"
            )
        self.model = model
        self.options = clip_options(model)
        self.decoding = decoding_options(model)
        self.grid = plan_windows(self.options, self._stored_rate(rate), window, hop)
        self.features = FrameFeatures(model, reuse=reuse)
        self._min_probability = min_probability
        self._top_k = top_k
        self._recent: deque[np.ndarray] = deque(maxlen=smooth)
        self._crop = tf.function(
            self._cropped,
            input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)],
        )
        self.reset()

    def reset(self) -> None:
        """Forget the stream; the next frame begins another."""
        self.windows = WindowMaker(
            self.grid, self.decoding["fps"], self.decoding["min_frames"]
        )
        self._converter = FrameConverter(self.decoding["short_side"])
        self._recent.clear()

    def push(self, frame: np.ndarray, seconds: float) -> list[StreamPrediction]:
        """Take the next frame of the stream.

        Args:
            frame: uint8 `(H, W, 3)`, RGB, upright, of any size. It is scaled to the
                short side of the model's records, if it has another, as their
                preparation scales; from video files `classify_stream` does this
                together with the conversion of colours, which rounds once less.
            seconds: its time, later than that of the frame before.

        Returns:
            Predictions of the windows that are complete with this frame; mostly none.

        Raises:
            ValueError: the frame is of another kind, or the time does not grow.
        """
        if (
            not isinstance(frame, np.ndarray)
            or frame.dtype != np.uint8
            or frame.ndim != 3
            or frame.shape[-1] != 3
        ):
            raise ValueError(
                "`frame` must be a uint8 array (H, W, 3). Received: "
                f"{getattr(frame, 'dtype', type(frame).__name__)} "
                f"{getattr(frame, 'shape', '')}"
            )

        def picture():
            return self.cropped(av.VideoFrame.from_ndarray(frame, "rgb24"))

        time = exact_seconds(float(seconds))
        return [self.classify(window) for window in self.windows.push(picture, time)]

    def flush(self) -> list[StreamPrediction]:
        """End the stream: predictions of what is left, a shorter window at most.

        The classifier is ready for another stream afterwards.

        Raises:
            VideoError: the stream had fewer frames than a usable video.
        """
        predictions = [self.classify(window) for window in self.windows.flush()]
        self.reset()
        return predictions

    def cropped(self, frame: av.VideoFrame) -> np.ndarray:
        """Return what the model sees of a decoded frame: uint8 `(S, S, 3)`."""
        return self._crop(self._converter(frame)[None]).numpy()[0]

    def classify(self, window: Window, dropped: int = 0) -> StreamPrediction:
        """Score one window; windows must come in their order.

        Raises:
            InputError: the scores are not finite numbers.
        """
        logits = self.features.logits(window.frames)
        if not np.isfinite(logits).all():
            raise InputError(
                f"The model's scores from {window.start:.2f} to {window.end:.2f} s are "
                "not finite numbers; use another checkpoint."
            )
        if not window.joined:
            self._recent.clear()
        self._recent.append(softmax(logits))
        probabilities = np.mean(self._recent, axis=0)
        candidates = rank_classes(self.model.label_names, probabilities, self._top_k)
        best = candidates[0]
        sure = best.probability >= self._min_probability
        return StreamPrediction(
            start=window.start,
            end=window.end,
            label=best.label if sure else None,
            index=best.index if sure else None,
            probability=best.probability,
            candidates=candidates,
            num_stored=window.num_stored,
            dropped=dropped,
            logits=logits,
        )

    def describe(self, window: float | None, hop: float | None) -> str:
        """One line on the windows; says what was asked for where it was rounded."""
        grid: WindowGrid = self.grid
        frames = f"{self.options.num_frames} of {grid.length} stored frames"
        lengths = f"{_rounded('window', grid.window, window)}: {frames}"
        return f"{lengths}, {_rounded('hop', grid.seconds_per_hop, hop)}"

    def _stored_rate(self, rate: float | None) -> Fraction:
        """Stored frames per second."""
        stored = self.decoding["fps"] or rate
        if not stored or not stored > 0:
            raise InputError(
                "The model's records hold every frame of their videos (`fps: null`); "
                "`rate` must tell the frames per second of the source. "
                f"Received: rate={rate}"
            )
        return Fraction(stored).limit_denominator(1_000_000)

    def _cropped(self, frames: tf.Tensor) -> tf.Tensor:
        """The evaluation's resize and crop."""
        return resize_and_center_crop(
            frames,
            short_side=self.options.short_side,
            crop_size=self.options.crop_size,
        )


def _rounded(name: str, value: float, asked: float | None) -> str:
    """A length, and what was asked for where that is another."""
    note = "" if asked is None or abs(value - asked) < 5e-4 else f" (for {asked:g})"
    return f"{name} {value:.3f} s{note}"
