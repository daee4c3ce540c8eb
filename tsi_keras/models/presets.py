"""Networks of the papers by name; `catalog` holds what they are made of."""

from collections.abc import Sequence

from tsi_keras.models.catalog import PRESETS
from tsi_keras.models.catalog import get_preset
from tsi_keras.models.temporal_resnet import TemporalResNet
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.models.weight_loading import load_weights_from


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
        depth: 14, 18, 26, 34, 50 or 101.
        temporal: a name of `list_temporal()` or a callable.
        num_classes: number of classes.
        num_frames: frames per clip.
        dropout: rate before the classifier.
        class_names: names in the order of the logits, or None.
        preprocessing: as for `VideoClassifier`.
        head_stddev: as for `VideoClassifier`.
        weights: path of a `.weights.h5` file saved from the same network, which is
            loaded whole; or another file that `load_weights_from` reads, such as
            torchvision's `.pth`, all but the head; or None for random weights.
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
    if weights is not None and str(weights).endswith(".weights.h5"):
        model.load_weights(weights)
    elif weights is not None:
        load_weights_from(model, weights, verbose=False)
    return model


def from_preset(
    preset: str, num_classes: int = 174, weights: str | None = None, **options
) -> VideoClassifier:
    """Build a network of the papers by its name.

    Args:
        preset: a name of `list_presets()`, such as `"tsi_resnet50"` or
            `"table6_res2"`.
        num_classes: number of classes.
        weights: as for `video_resnet`.
        **options: further arguments of `video_resnet`; they win over the preset's.

    Returns:
        The classifier, `(N, T, H, W, 3)` to logits `(N, num_classes)`.

    Raises:
        ValueError: an unknown preset (near matches are listed) or option.

    Example:
        ```python
        model = from_preset("tea_resnet50", num_classes=101, num_frames=16)
        ```
    """
    merged = {"name": preset, **get_preset(preset).options, **options}
    return video_resnet(num_classes=num_classes, weights=weights, **merged)


def _network(function: str, preset: str):
    """The named function of a preset."""
    card = PRESETS[preset]

    def build(num_classes: int = 174, num_frames: int = 8, weights=None, **options):
        return from_preset(
            preset, num_classes, weights, num_frames=num_frames, **options
        )

    build.__name__ = build.__qualname__ = function
    usage = f"Arguments as for `video_resnet`. Reference: {card.reference}."
    build.__doc__ = f"{card.title}.\n\n{usage}"
    return build


ATAResNet50 = _network("ATAResNet50", "ata_resnet50")
CTIResNet50 = _network("CTIResNet50", "cti_resnet50")
GTDNetResNet50 = _network("GTDNetResNet50", "gtdnet_resnet50")
STMResNet50 = _network("STMResNet50", "stm_resnet50")
TANetResNet50 = _network("TANetResNet50", "tanet_resnet50")
TCMResNet50 = _network("TCMResNet50", "tcm_resnet50")
TEAResNet50 = _network("TEAResNet50", "tea_resnet50")
TEINetResNet50 = _network("TEINetResNet50", "teinet_resnet50")
TIMResNet50 = _network("TIMResNet50", "tim_resnet50")
TSIResNet50 = _network("TSIResNet50", "tsi_resnet50")
TSMResNet50 = _network("TSMResNet50", "tsm_resnet50")
TSNResNet50 = _network("TSNResNet50", "tsn_resnet50")
