"""Scores of windows, with what the network makes of single frames computed once."""

from collections.abc import Sequence
from fractions import Fraction

import keras
import numpy as np
import tensorflow as tf

from tsi_keras.evaluation.protocols import clip_options
from tsi_keras.export.stream_graph import CLIPS
from tsi_keras.export.stream_graph import run_calls
from tsi_keras.export.stream_graph import split_graph
from tsi_keras.export.stream_windows import StoredFrame
from tsi_keras.models.profiling import profile
from tsi_keras.models.video_classifier import VideoClassifier


class FrameFeatures:
    """A classifier in two parts: features of single frames, and scores from them.

    The features stay with the `StoredFrame`s and are forgotten with them. Layers are
    those of the model itself: nothing is copied, and the scores are the model's.

    Args:
        model: the classifier.
        reuse: False computes everything anew for every window.

    Attributes:
        windows: windows scored so far.
        computed: frames of which features were computed so far.

    Raises:
        ValueError: the model's layers cannot be followed.
    """

    def __init__(self, model: VideoClassifier, *, reuse: bool = True):
        self._split = split_graph(model, reuse=reuse)
        self._model = model
        self._reuse = reuse
        self._size = clip_options(model).crop_size
        self._dtype = model.inputs[0].dtype
        self._per_frame = tf.function(
            self._frame_part,
            input_signature=[tf.TensorSpec((None, 1, *_picture(self._size)), tf.uint8)],
            autograph=False,
        )
        self._rest = tf.function(self._window_part, autograph=False)
        self._shares: float | None = None
        self.windows = 0
        self.computed = 0

    def logits(self, frames: Sequence[StoredFrame]) -> np.ndarray:
        """Return the model's scores of a clip.

        Args:
            frames: the T frames of the clip.

        Returns:
            float32 `(K,)`.
        """
        new = [frame for frame in dict.fromkeys(frames) if frame.features is None]
        if new:
            self._compute(new)
        self.windows += 1
        parts = [
            tf.stack(part) for part in _columns(frame.features for frame in frames)
        ]
        logits = self._rest(parts).numpy()[0]
        if not self._reuse:
            for frame in new:
                frame.features = None
        return logits

    def warm_up(self) -> None:
        """Build the graphs, so that the first window takes no longer than others."""
        windows, computed = self.windows, self.computed
        blank = np.zeros(_picture(self._size), np.uint8)
        self.logits(
            [
                StoredFrame(place, Fraction(place), blank)
                for place in range(self._model.num_frames)
            ]
        )
        self.windows, self.computed = windows, computed

    @property
    def per_frame_share(self) -> float:
        """Share of a clip's multiply-adds in the part that sees single frames."""
        if self._shares is None:
            names = {call.operation.name for call in self._split.per_frame}
            rows = profile(self._model, frame_size=self._frame_size()).rows
            total = sum(row.figures.macs for row in rows)
            alone = sum(
                row.figures.macs for row in rows if row.name.split("/")[-1] in names
            )
            self._shares = alone / total if total else 0.0
        return self._shares

    @property
    def reused(self) -> float:
        """Share of all windows' multiply-adds that was not computed again."""
        if not self.windows or not self._reuse:
            return 0.0
        needed = self.windows * self._model.num_frames
        return self.per_frame_share * max(0.0, 1 - self.computed / needed)

    def _frame_size(self) -> int | None:
        """For `profile`: the frames' size where the model leaves it open."""
        return self._size if None in self._model.input_shape[2:4] else None

    def _compute(self, frames: Sequence[StoredFrame]) -> None:
        """Features of frames that have none, in one batch."""
        parts = self._per_frame(np.stack([frame.crop for frame in frames])[:, None])
        for number, frame in enumerate(frames):
            frame.features = tuple(part[number] for part in parts)
        self.computed += len(frames)

    def _frame_part(self, frames: tf.Tensor) -> list[tf.Tensor]:
        """uint8 `(B, 1, S, S, 3)` to the tensors at the cut, `(B, ...)`."""
        split = self._split
        tensors = {split.graph.input: tf.cast(frames, self._dtype)}
        # A scope: inside none, TensorFlow refuses some names that Keras accepts.
        with tf.name_scope("frames"):
            run_calls(split.per_frame, tensors, single_frames=True)
        return [
            tensors[value][:, 0] if kind == CLIPS else tensors[value]
            for value, kind in zip(split.cut, split.kinds, strict=True)
        ]

    def _window_part(self, parts: list[tf.Tensor]) -> tf.Tensor:
        """The tensors at the cut, `(T, ...)`, to logits `(1, K)`."""
        split = self._split
        tensors = {
            value: part[None] if kind == CLIPS else part
            for value, kind, part in zip(split.cut, split.kinds, parts, strict=True)
        }
        with tf.name_scope("window"):
            run_calls(split.rest, tensors, single_frames=False)
        [logits] = [tensors[value] for value in keras.tree.flatten(split.graph.output)]
        return logits


def _columns(features):
    return zip(*features, strict=True)


def _picture(size: int) -> tuple[int, int, int]:
    return (size, size, 3)
