"""From a configuration to a compiled model: classifier, loss, metrics, optimizer."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import keras

from tsi_keras.data.augmentation_options import Augmentation
from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.models import VideoClassifier
from tsi_keras.models import load_weights_from
from tsi_keras.models import video_resnet
from tsi_keras.training.class_accuracy import MAX_CLASSES
from tsi_keras.training.config import Config
from tsi_keras.training.data_section import AUGMENTATION_KEYS
from tsi_keras.training.freezing import freeze_batch_norm
from tsi_keras.training.optimizer import ClippedAdamW
from tsi_keras.training.optimizer import GroupedSGD
from tsi_keras.training.optimizer import ReplicaLossScale
from tsi_keras.training.schedule import make_schedule
from tsi_keras.training.soft_labels import MeanTop1
from tsi_keras.training.soft_labels import Top1
from tsi_keras.training.soft_labels import Top5
from tsi_keras.training.soft_labels import class_targets
from tsi_keras.utils.errors import InputError

# What a saved model tells about the frames it expects.
_PREPROCESSING = {"short_side", "crop_size", "sampling"}


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Make `name` Keras' global dtype policy inside the block only.

    Example:
        ```python
        with dtype_policy("mixed_bfloat16"):
            model = build_classifier(config, class_names)
        ```
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def clip_options(config: Config) -> ClipOptions:
    """Return the clips a configuration asks for."""
    return ClipOptions(
        num_frames=config.model.num_frames,
        crop_size=config.data.crop_size,
        short_side=config.data.short_side,
        flip=config.data.flip,
        scales=tuple(config.data.scales),
        sampling=config.data.sampling,
        short_videos=config.data.short_videos,
        augmentation=Augmentation(**config.data.model_dump(include=AUGMENTATION_KEYS)),
        resize_on=config.data.resize_on,
    )


def build_classifier(
    config: Config,
    class_names: Sequence[str],
    *,
    records: Mapping[str, Any] | None = None,
) -> VideoClassifier:
    """Build the network of a configuration, with random weights.

    Args:
        config: the configuration; `train.mixed_precision` decides the dtypes.
        class_names: names of the classes in the order of the labels.
        records: options the records were prepared with (`DatasetInfo.options`). The
            model carries frame rate and stored size on to the prediction of files.

    Returns:
        A built `VideoClassifier`, uint8 or float `(N, T, H, W, 3)` -> float32
        `(N, classes)`. Call it inside the scope of the strategy to train under.

    Raises:
        InputError: the model section describes no network; one line.
    """
    options = config.model.model_dump(exclude={"preset", "weights"})
    options["temporal_options"] = options["temporal_options"] or None
    with dtype_policy(config.train.mixed_precision):
        try:
            model = video_resnet(
                num_classes=len(class_names),
                class_names=list(class_names),
                preprocessing={
                    **config.data.model_dump(include=_PREPROCESSING),
                    **_stored(records or {}),
                },
                **options,
            )
            freeze_batch_norm(model, config.train.batch_norm)
            return model
        except ValueError as error:
            raise InputError(f"`model`: {' '.join(str(error).split())}") from error


def _stored(records: Mapping[str, Any]) -> dict[str, Any]:
    """How the frames in the records came from the videos."""
    names = {
        "fps": "fps",
        "short_side": "stored_short_side",
        "min_frames": "min_frames",
    }
    return {new: records[old] for old, new in names.items() if old in records}


def load_initial_weights(model: VideoClassifier, config: Config) -> None:
    """Start from the file `model.weights`, if the configuration names one.

    The head keeps its fresh weights, and so do temporal modules the file knows nothing
    of; everything else must be there.

    Raises:
        InputError: the file is missing or damaged, or belongs to another network.
    """
    path = config.model.weights
    if path is None:
        return
    try:
        load_weights_from(model, path, head="replace")
    except (OSError, ValueError) as error:
        raise InputError(f"`model.weights` {path}: {error}") from error


def compile_classifier(
    model: VideoClassifier, config: Config, steps_per_epoch: int
) -> None:
    """Give a model the recipe's optimizer, loss and metrics.

    Args:
        model: built in the scope of the strategy; call this in the same scope.
        config: the configuration.
        steps_per_epoch: optimizer steps in an epoch.
    """
    metrics = [Top1()]
    if model.num_classes > 5:
        metrics.append(Top5())
    if model.num_classes <= MAX_CLASSES:
        metrics.append(MeanTop1(model.num_classes))
    optimizer = make_optimizer(config, steps_per_epoch)
    optimizer.build(model.trainable_variables)
    model.compile(
        optimizer=optimizer,
        loss=SmoothedCrossEntropy(config.train.label_smoothing),
        # Weights are 0 for the clips that fill a last batch up.
        weighted_metrics=metrics,
        # XLA is slower on CPUs and off under a strategy anyway; the same everywhere.
        jit_compile=False,
    )


def make_optimizer(config: Config, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Return the recipe's optimizer, with loss scaling under mixed_float16."""
    train = config.train
    common = {
        "learning_rate": make_schedule(train, steps_per_epoch),
        "weight_decay": train.weight_decay,
        "clip_norm": train.clip_norm,
        "accumulation_steps": train.accumulation_steps,
        "ema_decay": train.ema_decay,
    }
    if train.optimizer == "adamw":
        optimizer = ClippedAdamW(**common)
    else:
        optimizer = GroupedSGD(momentum=train.momentum, **common)
    if train.mixed_precision == "mixed_float16":
        return ReplicaLossScale(optimizer)
    return optimizer


@keras.saving.register_keras_serializable("tsi_keras")
class SmoothedCrossEntropy(keras.losses.Loss):
    """Cross-entropy of logits and labels, with label smoothing.

    Labels are integers, or the shares of the classes where clips are mixed.
    (`keras.losses.SparseCategoricalCrossentropy` has no label smoothing.)

    Args:
        label_smoothing: float. Share of the target spread evenly over all classes.
        name: string.
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "cross_entropy"):
        super().__init__(name=name)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        """Labels `(N,)` or `(N, classes)` and logits `(N, classes)` to losses `(N,)`."""
        return keras.losses.categorical_crossentropy(
            class_targets(y_true, y_pred),
            y_pred,
            from_logits=True,
            label_smoothing=self.label_smoothing,
        )

    def get_config(self):
        return {"name": self.name, "label_smoothing": self.label_smoothing}
