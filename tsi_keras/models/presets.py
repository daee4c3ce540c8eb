"""Networks of the papers by name; presets are data, one function each."""

from collections.abc import Sequence

from tsi_keras.models.temporal_resnet import TemporalResNet
from tsi_keras.models.video_classifier import VideoClassifier


def video_resnet(
    depth: int = 50,
    temporal="tsi",
    num_classes: int = 174,
    num_frames: int = 8,
    dropout: float = 0.5,
    class_names: Sequence[str] | None = None,
    preprocessing: dict | None = None,
    head_stddev: float = 0.001,
    weights: str | None = None,
    name: str | None = None,
    **backbone_options,
) -> VideoClassifier:
    """A `TemporalResNet` under a `VideoClassifier`.

    Args:
        depth: 18, 26, 34, 50 or 101.
        temporal: a name of `list_temporal()` or a callable.
        num_classes: number of classes.
        num_frames: frames per clip.
        dropout: rate before the classifier.
        class_names: names in the order of the logits, or None.
        preprocessing: as for `VideoClassifier`.
        head_stddev: as for `VideoClassifier`.
        weights: path of a `.weights.h5` file saved from the same network, or None for
            random weights.
        name: of the model.
        **backbone_options: further arguments of `TemporalResNet`.

    Returns:
        The classifier, `(N, T, H, W, 3)` to logits `(N, num_classes)`.

    Raises:
        ValueError: an unknown option (see the two classes), or a `weights` file that is
            missing or of another network.

    Example:
        ```python
        model = video_resnet(depth=18, temporal="tim", num_classes=10, base_width=16)
        ```
    """
    backbone = TemporalResNet(
        depth=depth, temporal=temporal, num_frames=num_frames, **backbone_options
    )
    model = VideoClassifier(
        backbone,
        num_classes,
        dropout,
        class_names,
        preprocessing,
        head_stddev,
        name=name,
    )
    if weights is not None:
        model.load_weights(weights)
    return model


def TSIResNet50(num_classes: int = 174, num_frames: int = 8, weights=None, **options):
    """TSI on ResNet-50: SME and CTI in all 16 blocks. Arguments as `video_resnet`.

    Reference: arXiv 2106.01088, section 3.4. 24,287,490 trainable parameters with 174
    classes.
    """
    return _resnet50("tsi", num_classes, num_frames, weights, options)


def TSNResNet50(num_classes: int = 174, num_frames: int = 8, weights=None, **options):
    """TSN on ResNet-50, no temporal module. Arguments as `video_resnet`.

    Reference: arXiv 1608.00859. 23,864,558 trainable parameters with 174 classes.
    """
    return _resnet50("none", num_classes, num_frames, weights, options)


def CTIResNet50(num_classes: int = 174, num_frames: int = 8, weights=None, **options):
    """The paper's "Res50+CTI". Arguments as `video_resnet`.

    Reference: arXiv 2106.01088, Table 5. 24,111,662 trainable parameters with 174
    classes.
    """
    return _resnet50("cti", num_classes, num_frames, weights, options)


def TIMResNet50(num_classes: int = 174, num_frames: int = 8, weights=None, **options):
    """The paper's "Res50+TIM", TIM in CTI's place. Arguments as `video_resnet`.

    Reference: arXiv 2106.01088, Tables 4 and 5. 23,875,886 trainable parameters with
    174 classes.
    """
    return _resnet50("tim", num_classes, num_frames, weights, options)


def _resnet50(temporal, num_classes, num_frames, weights, options):
    options.setdefault("name", f"{temporal}_resnet50")
    return video_resnet(
        50, temporal, num_classes, num_frames, weights=weights, **options
    )
