"""Temporal modules in image networks of other people's making."""

import math
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

import keras

from tsi_keras.layers import FoldFrames
from tsi_keras.layers import UnfoldFrames
from tsi_keras.layers._frames import check_num_frames
from tsi_keras.models.image_preprocessing import ImagePreprocessing
from tsi_keras.models.image_preprocessing import recognized_mode
from tsi_keras.models.insertion_plan import plan_insertions
from tsi_keras.models.layer_graph import LayerGraph
from tsi_keras.models.layer_graph import read_graph
from tsi_keras.models.layer_graph import rebuild
from tsi_keras.models.placement import TemporalPlacement
from tsi_keras.models.residual_graph import PLACE_RULES
from tsi_keras.models.residual_graph import residual_blocks
from tsi_keras.models.video_backbone import VideoBackbone


def insert_temporal(
    model: keras.Model,
    temporal,
    num_frames: int,
    where: Sequence[str] | Callable | Mapping | None = None,
    *,
    temporal_options: dict | None = None,
    preprocessing="auto",
    name: str | None = None,
) -> VideoBackbone:
    """Make a video network of an image network, with temporal modules in its blocks.

    The frames of a clip become images of one batch, run through a copy of `model` with
    temporal layers inserted, and become clips again: `(N, T, H, W, 3)` to `(N, T, ...)`,
    features for a network without its top (what `VideoClassifier` takes), scores per
    frame otherwise. Every layer is copied with the values of its weights: `model` stays
    as it is, and training the result does not change it. Nested models are replaced by
    their layers. BatchNormalization layers keep their own momentum (keras.applications:
    0.99 and 0.999, where TSI trains with 0.9), and layers that augment images draw anew
    for every frame.

    By default the modules go where the paper puts them: into every residual branch
    behind the spatial convolution (a kernel above 1x1), its BN and its activation. The
    branches are found in the graph, so this holds for ResNet, MobileNetV2 and V3 (before
    the squeeze-and-excitation, which then sees other frames too), EfficientNet V1 and V2,
    ConvNeXt (right behind the depthwise 7x7, in front of the LayerNormalization),
    Xception, and unknown CNNs. Where a branch consists of two spatial convolutions
    (ResNet-18), the modules go behind the first. `insertion_points` lists the layers.

    Args:
        model: a functional or Sequential image model with one input `(H, W, C)`,
            channels last; H and W may be None.
        temporal: a name of `list_temporal()`, or a Layer class or function
            `(num_frames=, name=) -> Layer` on what the places hold.
        num_frames: frames per clip, T.
        where: None, or the names of the layers behind which the modules go (all parts of
            a module in the order in which a block meets them), or a function
            `layer -> bool` that chooses them, or a dictionary of these by part for parts
            that go elsewhere than the others, `{"tcm": ["conv3_block4_out"]}`. A layer
            that is called several times gets one module per call.
        temporal_options: options of the modules by short name, such as
            `{"sme": {"reduction": 8}}`.
        preprocessing: what the images get before the first layer; the result takes RGB,
            0 to 255, if this fits. `"auto"`: the equivalent of `preprocess_input` for
            networks of keras.applications that are recognised by name and do not
            contain it, nothing for others. None: nothing. Or a layer, or a function of
            `keras.ops` and layers on `(N*T, H, W, C)`, such as another
            `preprocess_input`.
        name: of the result; by default made of the model's and the module's.

    Returns:
        The video network, with the attributes `num_frames` and `temporal`. Temporal
        layers are named after the convolution they belong to (`block_2_depthwise_sme`),
        or after the layer given in `where`.

    Raises:
        ValueError: a model that cannot be read or copied, no place for the modules, an
            unknown layer in `where`, a part that needs a place only `TemporalResNet`
            has, or options that do not fit the channels found.

    Example:
        ```python
        image_model = keras.applications.MobileNetV2(include_top=False)  # ImageNet
        backbone = insert_temporal(image_model, "tsi", num_frames=8)
        model = VideoClassifier(backbone, num_classes=174)

        # Channels that 16 does not divide: MobileNetV3's.
        image_model = keras.applications.MobileNetV3Large(include_top=False)
        options = {"sme": {"reduction": 8}}
        insert_temporal(image_model, "tsi", 8, temporal_options=options)

        # TSM in every block, and TCM behind the second stage.
        where = {"tcm": ["conv3_block4_out"]}
        insert_temporal(keras.applications.ResNet50(), "tcm", 8, where)

        # A vision transformer with tokens (N, P, C): behind layers named by hand.
        insert_temporal(vit, AlignmentGuidedTemporalAttention, 8, where=["embedding"])
        ```

    Reference: the placement is TSI's, arXiv 2106.01088, section 3.4; TSM
    (arXiv 1811.08383) and TEINet insert at the input of the branch.
    """
    num_frames = check_num_frames(num_frames)
    graph = _read_images(model)
    placement = TemporalPlacement(temporal, num_frames, options=temporal_options)
    plan = plan_insertions(graph, placement, where)
    insertions = _Insertions(placement, plan, graph.names())

    inputs = keras.Input((num_frames, *graph.input.shape[1:]), name="frames")
    # float32: mixed precision must not round frames before the preprocessing.
    x = FoldFrames(dtype="float32", name="fold_frames")(inputs)
    x = _preprocess(x, preprocessing, model.name, graph)
    _check_names(graph, keras.Model(inputs, x))
    outputs = rebuild(graph, x, insertions.feed, insertions.after)
    registered = temporal if isinstance(temporal, str) else None
    return VideoBackbone(
        inputs,
        _unfold(outputs, num_frames),
        num_frames,
        registered,
        # No "+", as in "tim+sme": the name of a graph's scope must not contain it.
        name=name or f"{model.name}_{registered or 'temporal'}".replace("+", "_"),
    )


def insertion_points(model: keras.Model, place: str = "after_spatial") -> list[str]:
    """Names of the layers that `insert_temporal` chooses by itself.

    Args:
        model: the image model.
        place: `"after_spatial"` (layers behind which modules go), `"before_spatial"` or
            `"branch_input"` (convolutions in front of which they go).

    Raises:
        ValueError: another place, or a model that cannot be read.

    Example:
        ```python
        points = insertion_points(image_model)
        insert_temporal(image_model, "tsi", 8, where=points[::2])  # every second block
        ```
    """
    if place not in PLACE_RULES:
        raise ValueError(
            f"`place` must be one of {sorted(PLACE_RULES)}. Received: {place!r}"
        )
    graph = _read_images(model)
    return [PLACE_RULES[place](graph, b).layer for b in residual_blocks(graph)]


class _Insertions:
    """Applies the temporal layers where they are due, while the graph is rebuilt."""

    def __init__(self, placement, plan, taken):
        self.placement = placement
        self.plan = plan
        self.taken = set(taken)  # names of layers
        self.fed = {}  # by place in the plan
        self.channels = sorted({point.value.shape[-1] or 0 for point, _ in plan})

    def after(self, value, x):
        """What everyone gets for `value`."""
        for point, parts in self.plan:
            if point.value is value and point.consumers is None:
                x = self._apply(point, parts, x)
        return x

    def feed(self, call, value, x):
        """What one call gets for it, be it for one argument or for several."""
        for index, (point, parts) in enumerate(self.plan):
            if point.value is value and call in (point.consumers or ()):
                if index not in self.fed:
                    self.fed[index] = self._apply(point, parts, x)
                x = self.fed[index]
        return x

    def _apply(self, point, parts, x):
        for part in parts:
            name = self._name(point.prefix, part)
            try:
                x = self.placement.parts[part].factory(
                    num_frames=self.placement.num_frames,
                    name=name,
                    **self.placement.options.get(part, {}),
                )(x)
            except ValueError as error:
                if "argument" in str(error):  # an option that does not exist
                    raise
                raise ValueError(self._misfit(name, part, point, x, error)) from error
        return x

    def _name(self, prefix, part):
        """`prefix_part`; with a number when a shared layer has several places."""
        name = f"{prefix}_{part}"
        number = 0
        while name in self.taken:
            number += 1
            name = f"{prefix}_{number}_{part}"
        self.taken.add(name)
        return name

    def _misfit(self, name, part, point, x, error):
        divisor = math.gcd(*self.channels)
        option = next((o for o in ("reduction", "groups") if o in str(error)), None)
        fitting = max(d for d in range(1, 17) if divisor % d == 0)
        example = f'{{"{option}": {fitting}}}' if option else "{...}"
        return (
            f"The temporal layer {name!r} does not fit at {point.layer!r}, where the "
            f"shape is {tuple(x.shape)}: {error}\nThe places have {self.channels} "
            f"channels, all multiples of {divisor}. Set its options, for instance "
            f'`temporal_options={{"{part}": {example}}}`, or choose layers by `where`.'
        )


def _read_images(model) -> LayerGraph:
    graph = read_graph(model)
    if len(graph.input.shape) != 4:
        raise ValueError(
            "`model` must take images, (H, W, C). Received a model with the input shape "
            f"{graph.input.shape}."
        )
    for call in graph.calls:
        if getattr(call.operation, "data_format", None) == "channels_first":
            raise ValueError(
                "`model` must be channels last. Received: its layer "
                f"{call.name!r} has data_format='channels_first'; build the model after "
                "keras.config.set_image_data_format('channels_last')."
            )
    return graph


def _preprocess(x, preprocessing, model_name, graph):
    if preprocessing == "auto":
        mode = recognized_mode(model_name, graph)
        preprocessing = None
        if mode:
            preprocessing = ImagePreprocessing(
                mode, dtype="float32", name="preprocessing"
            )
    if preprocessing is None:
        return x
    if not callable(preprocessing):
        raise ValueError(
            '`preprocessing` must be "auto", None, a layer or a function. '
            f"Received: preprocessing={preprocessing!r}"
        )
    return preprocessing(x)


def _check_names(graph, front):
    """Keras wants every name once, also those of the layers put in front."""
    taken = {operation.name for operation in front.operations} & set(graph.names())
    if taken:
        raise ValueError(
            f"The model has layers called {sorted(taken)}, as has what is put in front "
            "of it (`frames`, `fold_frames`, `preprocessing`, or the layers you gave as "
            "`preprocessing`); give them another name."
        )


def _unfold(outputs, num_frames):
    """Frames back into clips; several outputs in the structure the model has."""
    flat = keras.tree.flatten(outputs)
    names = ["unfold_frames"] + [f"unfold_frames_{i}" for i in range(1, len(flat))]
    clips = [
        UnfoldFrames(num_frames, name=name)(x)
        for name, x in zip(names, flat, strict=True)
    ]
    return keras.tree.pack_sequence_as(outputs, clips)
