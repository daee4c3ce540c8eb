"""Residual backbones with temporal modules in their blocks."""

from collections.abc import Sequence

import keras

from tsi_keras.layers import FoldFrames
from tsi_keras.layers import UnfoldFrames
from tsi_keras.layers._frames import check_choice
from tsi_keras.layers._frames import check_num_frames
from tsi_keras.models._arguments import check_model_arguments
from tsi_keras.models.placement import TemporalPlacement
from tsi_keras.models.placement import chosen_blocks
from tsi_keras.models.residual import Block
from tsi_keras.models.residual import basic_block
from tsi_keras.models.residual import bottleneck_block
from tsi_keras.models.residual import normalize
from tsi_keras.models.residual import stem as build_stem

# depth: (block, output channels per width, blocks of res2 to res5)
DEPTHS = {
    14: (bottleneck_block, 4, (1, 1, 1, 1)),
    18: (basic_block, 1, (2, 2, 2, 2)),
    26: (bottleneck_block, 4, (2, 2, 2, 2)),
    34: (basic_block, 1, (3, 4, 6, 3)),
    50: (bottleneck_block, 4, (3, 4, 6, 3)),
    101: (bottleneck_block, 4, (3, 4, 23, 3)),
}

_ARGUMENTS = (
    "depth",
    "temporal",
    "num_frames",
    "stages",
    "blocks",
    "fusion",
    "temporal_options",
    "input_shape",
    "base_width",
    "stem",
)


@keras.saving.register_keras_serializable(package="tsi_keras")
class TemporalResNet(keras.Model):
    """A 2D ResNet over the frames of a clip, with temporal modules in its blocks.

    Input `(N, T, H, W, 3)`: RGB frames of any numeric type, 0 to 255; the ImageNet
    normalisation is its first layer. Output `(N, T, H/32, W/32, C)` features. Topology
    and numerics are torchvision's ("v1.5": the stride on the 3x3 convolution, symmetric
    padding, BN epsilon 1e-5 and momentum 0.9).

    Args:
        depth: 18 or 34 (basic blocks), 14, 26, 50 or 101 (bottlenecks). The "spatial
            convolution" of a block is the first 3x3 of a basic block and the only one of
            a bottleneck.
        temporal: a name of `list_temporal()` (`"none"` gives TSN), or a callable
            `(num_frames, name) -> Layer` on frame maps `(N*T, H, W, C)`, placed on the
            residual branch after the spatial convolution. Registered modules say
            themselves where their parts sit (`tsi_keras.models.Part`). To be saved, a
            callable must be registered with Keras, or named by `register_temporal`.
        num_frames: frames per clip, T.
        stages: residual stages with modules, 2 to 5.
        blocks: which blocks of these get the parts that sit in blocks: `"all"`,
            `"first"` (of each stage), `"alternate"` (every second, as TSM has it with
            ResNet-101), or one list of indices per stage. Parts that follow a whole
            stage go by `stages` alone.
        fusion: how two modules after the spatial convolution, such as TSI's, are
            joined: `"cascade"` (CTI after SME), `"sum"` or `"concat"` (which widens the
            following convolution).
        temporal_options: options of the modules by short name, such as
            `{"sme": {"alignment": "linear"}, "cti": {"alpha_bias": 2.0}}`.
        input_shape: `(H, W, 3)` of a frame; None where it may vary.
        base_width: channels of res2 (64 in the papers); all widths scale with it.
        stem: `"imagenet"` (7x7/2 convolution and max-pooling, as in the papers), or
            `"small"` (one 3x3/2 convolution) for frames below about 100 pixels, whose
            detail the former would discard; the features are then H/16 x W/16.
        **kwargs: `name`, `trainable`.

    Raises:
        ValueError: an unknown depth, module, fusion, stage, block or option.

    Example:
        ```python
        backbone = TemporalResNet(depth=50, temporal="tsi", num_frames=8)
        features = backbone(clips)  # (2, 8, 224, 224, 3) -> (2, 8, 7, 7, 2048)
        ```

    Reference: TSI, arXiv 2106.01088, section 3.4; ResNet, arXiv 1512.03385.
    """

    def __init__(
        self,
        depth: int = 50,
        temporal="tsi",
        num_frames: int = 8,
        stages: Sequence[int] = (2, 3, 4, 5),
        blocks="all",
        fusion: str = "cascade",
        temporal_options: dict | None = None,
        input_shape: Sequence[int | None] = (None, None, 3),
        base_width: int = 64,
        stem: str = "imagenet",
        **kwargs,
    ):
        check_model_arguments(kwargs, _ARGUMENTS)
        _check(depth, input_shape, base_width, stem)
        num_frames = check_num_frames(num_frames)

        # === Functional Model ===
        placement = TemporalPlacement(temporal, num_frames, fusion, temporal_options)
        placement.check_stages(stages)
        chosen = chosen_blocks(stages, blocks, DEPTHS[depth][-1])
        inputs = keras.Input((num_frames, *input_shape), name="frames")
        # float32: mixed precision must not round frames before the normalisation.
        x = FoldFrames(dtype="float32", name="fold_frames")(inputs)
        x = build_stem(normalize(x), base_width, stem)
        x = _stages(x, depth, base_width, placement, chosen)
        outputs = UnfoldFrames(num_frames, name="unfold_frames")(x)
        kwargs.setdefault("name", f"temporal_resnet{depth}")
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.autocast = False

        # === Config ===
        self.depth = depth
        self.temporal = temporal
        self.num_frames = num_frames
        self.stages = tuple(stages)
        self.blocks = blocks if isinstance(blocks, str) else [list(b) for b in blocks]
        self.fusion = fusion
        self.temporal_options = temporal_options
        self.frame_shape = tuple(input_shape)
        self.base_width = base_width
        self.stem = stem

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            "depth": self.depth,
            "temporal": _serialize_temporal(self.temporal),
            "frozen": frozen_layers(self),
            "num_frames": self.num_frames,
            "stages": list(self.stages),
            "blocks": self.blocks,
            "fusion": self.fusion,
            "temporal_options": self.temporal_options,
            "input_shape": list(self.frame_shape),
            "base_width": self.base_width,
            "stem": self.stem,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        frozen = config.pop("frozen", ())
        temporal = _deserialize_temporal(config.pop("temporal"), custom_objects)
        return freeze_layers(cls(temporal=temporal, **config), frozen)


def frozen_layers(model) -> list[str]:
    """Names of the layers a user froze one by one."""
    return [x.name for x in model.layers if not x.trainable] if model.trainable else []


def freeze_layers(model, names):
    """Freeze the layers of these names and return the model."""
    for name in names:
        model.get_layer(name).trainable = False
    return model


def _serialize_temporal(temporal):
    """A name as it is, a Layer class by its registered name, a function by Keras."""
    if isinstance(temporal, str):
        return temporal
    if not isinstance(temporal, type):
        return keras.saving.serialize_keras_object(temporal)
    name = keras.saving.get_registered_name(temporal)
    if keras.saving.get_registered_object(name) is not temporal:
        raise ValueError(
            f"`temporal={temporal.__name__}` can be saved only if the class is decorated "
            "with @keras.saving.register_keras_serializable()."
        )
    return {"layer": name}


def _deserialize_temporal(temporal, custom_objects):
    if isinstance(temporal, str):
        return temporal
    if "layer" in temporal:
        return keras.saving.get_registered_object(temporal["layer"], custom_objects)
    return keras.saving.deserialize_keras_object(
        temporal, custom_objects=custom_objects
    )


def _stages(x, depth, base_width, placement, chosen):
    """res2 to res5; each doubles the width."""
    function, expansion, counts = DEPTHS[depth]
    for stage, count in enumerate(counts, start=2):
        width, channels = base_width * 2 ** (stage - 2), x.shape[-1]
        for block in _blocks(
            stage, count, width, expansion, channels, placement, chosen
        ):
            x = function(x, block)
        x = placement.after_stage(x, stage) if stage in chosen else x
    return x


def _blocks(stage, count, width, expansion, channels, temporal, chosen):
    """The `Block`s of one stage; the first projects where the shape changes."""
    for index in range(count):
        stride = 2 if index == 0 and stage > 2 else 1
        yield Block(
            name=f"layer{stage - 1}_{index}",
            width=width,
            stride=stride,
            project=index == 0 and (stride > 1 or channels != expansion * width),
            first=index == 0,
            temporal=temporal if index in chosen.get(stage, ()) else _no_temporal(),
        )


def _no_temporal():
    return TemporalPlacement("none", num_frames=1)


def _check(depth, input_shape, base_width, stem):
    if depth not in DEPTHS:
        raise ValueError(f"`depth` must be one of {list(DEPTHS)}. Received: {depth!r}")
    if len(input_shape) != 3 or input_shape[-1] != 3:
        raise ValueError(
            "`input_shape` must be (H, W, 3), channels last, H and W may be None. "
            f"Received: {tuple(input_shape)}"
        )
    if isinstance(base_width, bool) or int(base_width) != base_width or base_width < 1:
        raise ValueError(
            f"`base_width` must be a positive integer. Received: {base_width!r}"
        )
    check_choice("stem", stem, ("imagenet", "small"))
