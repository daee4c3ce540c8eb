"""Seeing a training: rates, samples and mistakes as files and in TensorBoard."""

import io
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from PIL import Image
from PIL import ImageDraw

# No public function tells the default writer or sets it back.
from tensorflow.python.ops import summary_ops_v2

from tsi_keras.data.sample_sheet import class_shares
from tsi_keras.training.class_accuracy import find_metric
from tsi_keras.training.config import Config
from tsi_keras.training.curves import DrawCurves
from tsi_keras.training.run_folder import RunFolder
from tsi_keras.training.weights_and_biases import LogToWandb
from tsi_keras.training.whole_files import whole_file
from tsi_keras.utils.clip_sheet import INK
from tsi_keras.utils.clip_sheet import MARGIN
from tsi_keras.utils.clip_sheet import draw_clips
from tsi_keras.utils.clip_sheet import fitted
from tsi_keras.utils.confusion_plot import confusion_figure

# TensorBoard reads one growing event file per folder, so not in Keras' own ones.
DETAILS = "details"
SAMPLES = "samples.png"
CURVES = "curves.png"

_CAPTION_WIDTH = 230


def monitoring_callbacks(
    config: Config,
    run: RunFolder,
    class_names: Sequence[str],
    past: Sequence[Mapping[str, float]],
    make_data: Callable[[], tf.data.Dataset],
    chief: bool = True,
) -> list[keras.callbacks.Callback]:
    """Return what shows a run besides its log and Keras' scalars.

    That is `samples.png`, `curves.png`, the learning rates of the parameter groups and,
    where the model was compiled with `MeanClassAccuracy`, the confusion matrix of every
    epoch in TensorBoard, and Weights & Biases if the configuration wants it.

    Args:
        config: the run's.
        run: its folder.
        class_names: in the order of the labels.
        past: the rows of the run's log so far.
        make_data: the training batches `(frames, labels, ...)`, augmented.
        chief: whether this process writes; the others of several workers do not.

    Returns:
        Callbacks in the order to call them. Put them after those that add to an epoch's
        logs. Those with a `close` hold something open.

    Raises:
        InputError: Weights & Biases is wanted but not installed.
    """
    writer = Details(run.tensorboard / DETAILS) if chief else None
    confusion = DrawConfusion(class_names, writer)
    if not chief:
        return [confusion]
    callbacks = [
        LogLearningRates(writer),
        DrawSamples(make_data, class_names, run.root / SAMPLES, writer),
        confusion,
        DrawCurves(run.root / CURVES, past),
    ]
    if config.train.wandb is not None:
        project = config.train.wandb
        callbacks.append(LogToWandb(project, run.root, config.model_dump()))
    return callbacks


@contextmanager
def default_writer_restored() -> Iterator[None]:
    """Have the same default summary writer after the block as before.

    TensorFlow keeps a writer as the default when it could not be flushed at the end of
    its `as_default()` (full disk); the next training in the process would write to it.
    """
    before = summary_ops_v2._summary_state.writer
    try:
        yield
    finally:
        summary_ops_v2._summary_state.writer = before


class Details:
    """An event file of TensorBoard, made with the first thing written to it.

    Args:
        folder: for the file.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._writer: tf.summary.SummaryWriter | None = None

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers under their names."""
        with self._open().as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self._writer.flush()

    def image(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Write a picture, uint8 `(H, W, 3)`."""
        with self._open().as_default(step):
            tf.summary.image(name, pixels[None])
        self._writer.flush()

    def close(self) -> None:
        """Close the file; what is written later comes into another one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self) -> tf.summary.SummaryWriter:
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.folder))
        return self._writer


class LogLearningRates(keras.callbacks.Callback):
    """Write the learning rate of every parameter group, as an epoch begins with it.

    In TensorBoard they are the section `learning_rate`. An optimizer without groups has
    one rate, `all`.

    Args:
        details: where to.
    """

    def __init__(self, details: Details):
        super().__init__()
        self.details = details

    def on_epoch_begin(self, epoch, logs=None):
        optimizer = self.model.optimizer
        if not optimizer.built:
            with self.model.distribute_strategy.scope():
                optimizer.build(self.model.trainable_variables)
        rates = learning_rates(optimizer)
        named = {f"learning_rate/{name}": rate for name, rate in rates.items()}
        self.details.scalars(named, epoch)

    def close(self) -> None:
        """Close the event file."""
        self.details.close()


def learning_rates(optimizer: keras.optimizers.Optimizer) -> dict[str, float]:
    """Return the learning rate now by parameter group, or `all`; it must be built."""
    if hasattr(optimizer, "learning_rates"):
        return optimizer.learning_rates()
    return {"all": float(keras.ops.convert_to_numpy(optimizer.learning_rate))}


class DrawSamples(keras.callbacks.Callback):
    """Draw clips of the first training batch as the network gets to see them.

    Crops, mirrored clips with their labels and the order of the frames can be checked
    there by eye. A run that is resumed keeps its picture.

    Args:
        make_data: the training batches `(frames, labels, ...)`, uint8 frames.
        class_names: in the order of the labels.
        path: the PNG to write.
        details: where else to, or None.
        clips: how many.

    Raises:
        InputError: from `fit`: the disk does not take the file.
    """

    def __init__(
        self,
        make_data: Callable[[], tf.data.Dataset],
        class_names: Sequence[str],
        path: str | Path,
        details: Details | None = None,
        clips: int = 8,
    ):
        super().__init__()
        self.make_data = make_data
        self.class_names = list(class_names)
        self.path = Path(path)
        self.details = details
        self.clips = clips

    def on_train_begin(self, logs=None):
        if self.path.exists():
            return
        frames, labels, *_ = next(self.make_data().take(1).as_numpy_iterator())
        names = [self._name(label) for label in labels[: self.clips]]
        with whole_file(self.path) as temporary:
            draw_samples(frames[: self.clips], names, temporary)
        if self.details is not None:
            self.details.image("samples", _pixels(self.path), step=0)

    def _name(self, label: np.ndarray) -> str:
        """The class of a clip, or those of a mixed one with their shares."""
        shares = class_shares(self.class_names, label)
        if len(shares) == 1:
            return next(iter(shares))
        return ", ".join(f"{100 * part:.0f} % {name}" for name, part in shares.items())


def draw_samples(clips: np.ndarray, names: Sequence[str], path: str | Path) -> Path:
    """Draw clips with the names of their classes as PNG.

    Args:
        clips: uint8 `(K, T, H, W, 3)`, RGB.
        names: K names.
        path: the PNG to write.

    Returns:
        `path`.
    """

    def paint(drawing: ImageDraw.ImageDraw, row: int, top: int, height: int) -> None:
        text, face = fitted(names[row], _CAPTION_WIDTH - 20, 20)
        centre = (MARGIN, top + height / 2)
        drawing.text(centre, text, INK, font=face, anchor="lm")

    return draw_clips(
        clips,
        paint,
        path,
        caption_width=_CAPTION_WIDTH,
        frame_side=128,
        max_frames=16,
    )


class DrawConfusion(keras.callbacks.Callback):
    """Draw the confusion matrix of every validation for TensorBoard.

    It is the one that `MeanClassAccuracy`, among the metrics of the model, counts in the
    validation of `fit`; nothing is computed twice. Without that metric, or without a
    validation, nothing is drawn.

    Args:
        class_names: in the order of the labels.
        details: where to; None in workers that only have to help the chief count.
    """

    def __init__(self, class_names: Sequence[str], details: Details | None):
        super().__init__()
        self.class_names = list(class_names)
        self.details = details

    def on_epoch_end(self, epoch, logs=None):
        metric = find_metric(self.model)
        if metric is None or "val_loss" not in (logs or {}):
            return
        matrix = metric.confusion()
        if self.details is not None:
            title = f"val, epoch {epoch + 1}"
            figure = confusion_figure(matrix, self.class_names, title)
            self.details.image("confusion", _rendered(figure), epoch)


def _rendered(figure: Figure) -> np.ndarray:
    """The pixels of a figure."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=90, bbox_inches="tight")
    return _pixels(file)


def _pixels(file: Path | io.BytesIO) -> np.ndarray:
    """A picture as uint8 `(H, W, 3)`."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))
