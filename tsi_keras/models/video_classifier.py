"""The classification head over per-frame features."""

from collections.abc import Sequence

import keras
from keras import ops

from tsi_keras.models._arguments import check_backbone
from tsi_keras.models._arguments import check_model_arguments

_ARGUMENTS = (
    "backbone",
    "num_classes",
    "dropout",
    "class_names",
    "preprocessing",
    "head_stddev",
)


@keras.saving.register_keras_serializable(package="tsi_keras")
class VideoClassifier(keras.Model):
    """Class scores of a clip: the mean over its frames of per-frame scores.

    Frame features are pooled over space, dropped out, sent through one Dense layer per
    frame, and the logits are averaged over time (TSN's consensus). Input
    `(N, T, H, W, 3)`, RGB uint8 or float, 0 to 255; output float32 logits
    `(N, num_classes)`, also under mixed precision.

    What is needed to use a trained model is saved with it: one `.keras` file is enough
    to evaluate, predict and export.

    Args:
        backbone: a model `(N, T, H, W, 3) -> (N, T, h, w, C)`, such as `TemporalResNet`
            or the result of `insert_temporal`.
        num_classes: number of classes.
        dropout: rate of the dropout before the Dense layer.
        class_names: names of the classes in the order of the logits, or None.
        preprocessing: how frames are made ready outside the model, such as
            `{"short_side": 256, "crop_size": 224}`, or None.
        head_stddev: standard deviation of the Dense layer's initial weights. The
            official 0.001 suits a pretrained backbone; with random weights it holds
            the gradient of the backbone back, and about 0.1 trains sooner.
        **kwargs: `name`, `trainable`.

    Raises:
        ValueError: `num_classes` < 2, a dropout outside [0, 1), `class_names` of another
            length or with duplicates, a backbone with another output, or an unknown
            argument.

    Example:
        ```python
        model = VideoClassifier(TemporalResNet(depth=50, temporal="tsi"), num_classes=174)
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(clips)  # pairs of (N, 8, 224, 224, 3) and (N,)
        ```

    Reference: TSN, arXiv 1608.00859; the head's initialisation follows the official TSM
    code (normal with standard deviation 0.001, zero bias).
    """

    def __init__(
        self,
        backbone: keras.Model,
        num_classes: int,
        dropout: float = 0.5,
        class_names: Sequence[str] | None = None,
        preprocessing: dict | None = None,
        head_stddev: float = 0.001,
        **kwargs,
    ):
        check_model_arguments(kwargs, _ARGUMENTS)
        check_backbone(backbone)
        _check(num_classes, dropout, class_names)

        # === Functional Model ===
        inputs = keras.Input(backbone.input_shape[1:], name="frames")
        features = backbone(inputs)
        # Sums over positions and frames run in float32 under mixed precision too.
        x = ops.mean(ops.cast(features, "float32"), axis=(2, 3))
        x = keras.layers.Dropout(dropout, dtype="float32", name="dropout")(x)
        x = keras.layers.Dense(
            num_classes,
            kernel_initializer=keras.initializers.RandomNormal(stddev=head_stddev),
            dtype="float32",
            name="classifier",
        )(x)
        logits = ops.mean(x, axis=1)
        kwargs.setdefault("name", "video_classifier")
        super().__init__(inputs=inputs, outputs=logits, **kwargs)
        self.autocast = False  # frames reach the normalisation unrounded

        # === Config ===
        self.backbone = backbone
        self.num_classes = num_classes
        self.dropout_rate = dropout
        self.head_stddev = head_stddev
        self.class_names = None if class_names is None else list(class_names)
        self.preprocessing = None if preprocessing is None else dict(preprocessing)

    @property
    def num_frames(self) -> int:
        """Frames per clip, T."""
        return getattr(self.backbone, "num_frames", self.backbone.output_shape[1])

    @property
    def temporal(self):
        """The backbone's temporal module: a registered name, a callable, or None."""
        return getattr(self.backbone, "temporal", None)

    @property
    def label_names(self) -> list[str]:
        """The class names, or "class 0", "class 1", ... if the model knows none."""
        return self.class_names or [f"class {i}" for i in range(self.num_classes)]

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes,
            "dropout": self.dropout_rate,
            "class_names": self.class_names,
            "preprocessing": self.preprocessing,
            "head_stddev": self.head_stddev,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["backbone"] = keras.saving.deserialize_keras_object(
            config["backbone"], custom_objects=custom_objects
        )
        return cls(**config)


def _check(num_classes, dropout, class_names):
    if (
        isinstance(num_classes, bool)
        or int(num_classes) != num_classes
        or num_classes < 2
    ):
        raise ValueError(
            "`num_classes` must be an integer of at least 2. "
            f"Received: num_classes={num_classes!r}"
        )
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be in [0, 1). Received: dropout={dropout!r}")
    if class_names is None:
        return
    if len(class_names) != num_classes or len(set(class_names)) != num_classes:
        raise ValueError(
            f"`class_names` must be {num_classes} different names (num_classes). "
            f"Received {len(class_names)}, {len(set(class_names))} of them different."
        )
