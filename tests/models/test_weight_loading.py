"""`load_weights_from` between our own networks, Keras models and dicts."""

import functools

import keras
import numpy as np
import pytest

from tsi_keras.layers import TemporalConv1D
from tsi_keras.layers.temporal_adaptive import TemporalAdaptive
from tsi_keras.models import TemporalResNet
from tsi_keras.models import list_temporal
from tsi_keras.models import video_resnet
from tsi_keras.models.insertion import insert_temporal
from tsi_keras.models.weight_loading import LoadReport
from tsi_keras.models.weight_loading import WeightRow
from tsi_keras.models.weight_loading import load_weights_from
from tsi_keras.models.weight_loading import read_source

HEAD = {"classifier/kernel", "classifier/bias"}


class Options(dict):
    """`temporal_options` that `functools.cache` can tell apart."""

    def __hash__(self):
        return hash(repr(self))


def network(temporal="none", seed=0, classes=5, frames=2, **options):
    """A classifier whose every weight is random, so that each must be in its place.

    ResNet-18 with temporal layers in res2: 100 weights of the image network, 48 of TSI.
    """
    options = {"depth": 18, "base_width": 16, "stages": (2,), **options}
    options["num_classes"] = classes
    model = video_resnet(temporal=temporal, num_frames=frames, **options)
    return randomize(model, seed)


def randomize(model, seed):
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


@functools.cache
def source(temporal="none", **options):
    """A network to load from; nothing changes it."""
    return network(temporal, seed=1, **options)


def values(model):
    """Weights by their path."""
    return {variable.path: np.array(variable) for variable in model.weights}


def changed(model, before):
    return {
        path
        for path, value in values(model).items()
        if not np.array_equal(value, before[path])
    }


def load(model, source, head="replace"):
    return load_weights_from(model, source, head, verbose=False)


# === Our own networks ===


@pytest.fixture(scope="module", params=["model", "keras", "weights.h5", "compiled"])
def trained(request, tmp_path_factory):
    """The TSI `source` as a model or file."""
    model = source("tsi")
    if request.param == "model":
        return model
    path = tmp_path_factory.mktemp("source") / "trained.keras"
    if request.param == "weights.h5":
        path = path.with_suffix(".weights.h5")
        model.save_weights(path)
    else:
        if request.param == "compiled":
            model.compile(keras.optimizers.Adam(), "mse")
            model.optimizer.build(model.trainable_variables)
        model.save(path)
    return path


def test_other_classes_and_frames(trained):
    model = network("tsi", seed=2, classes=7, frames=4)
    before = values(model)
    report = load(model, trained)
    assert report.counts == {"loaded": 148, "re-initialised": 2, "unused": 2}
    after = values(model)
    for path, value in values(source("tsi")).items():
        expected = before[path] if path in HEAD else value
        np.testing.assert_array_equal(after[path], expected, err_msg=path)


@pytest.mark.parametrize("head", ["keep", "error"])
def test_a_head_that_fits_is_loaded(trained, head):
    model = network("tsi", seed=2, frames=4)
    assert load(model, trained, head).counts == {"loaded": 150}
    assert not changed(model, values(source("tsi")))


@pytest.mark.parametrize("head", ["keep", "error"])
def test_a_head_that_does_not_fit_is_refused(head):
    model = network("tsi", seed=2, classes=7)
    before = values(model)
    message = (
        r"2 have another shape. No weight was changed.\nOnly the head does not fit: "
        r'head="replace" keeps.*\n  mismatched  classifier/kernel <- classifier/vars/0: '
        r"\(128, 5\) in the source, \(128, 7\) in the model"
    )
    with pytest.raises(ValueError, match=message):
        load(model, source("tsi"), head)
    assert not changed(model, before)


def test_temporal_layers_that_the_source_lacks_keep_their_weights():
    model = network("tsi", seed=2)
    before = values(model)
    report = load(model, source("none"))
    assert changed(model, before) == set(values(source("none"))) - HEAD
    kept = [row for row in report.of("re-initialised") if row.group != "head"]
    assert {row.weight for row in kept} == {
        path for path in before if "_sme" in path or "_cti" in path
    }
    assert {(row.group, row.reason) for row in kept} == {
        ("temporal: sme", "temporal module, not in the source"),
        ("temporal: cti", "temporal module, not in the source"),
    }


@pytest.mark.parametrize("temporal", sorted(set(list_temporal()) - {"none"}))
def test_every_registered_network(temporal, tmp_path):
    """From its own file, and from an image network; MTA takes the place of conv2."""
    model = network(temporal, seed=2, depth=26, stages=(3, 4))
    given = source(temporal, depth=26, stages=(3, 4))
    given.save_weights(tmp_path / "given.weights.h5")
    report = load(model, tmp_path / "given.weights.h5", "keep")
    assert report.counts == {"loaded": len(model.weights)}
    assert not changed(model, values(given))
    images = source("none", depth=26)
    if temporal in ("mta", "tea"):
        text = refusal(model, images)
        assert "looks like ResNet-26, the model is Res2Net-26: use weights of" in text
        assert "missing     layer2_0_mta/convs_0/kernel: not in the source" in text
        return
    load(model, images, "keep")
    assert not changed(images, {**values(images), **values(model)})
    assert not changed(model, {**values(given), **values(images)})
    added = set(values(model)) - set(values(images))
    assert all(path.startswith(("layer2_", "layer3_")) for path in added)


def test_layers_are_matched_by_name_and_not_by_order():
    """TIM in res3 and res4 of the source, in res2 to res4 of the model."""
    given = source("tim", stages=(3, 4))
    model = network("tim", seed=2, stages=(2, 3, 4))
    before = values(model)
    report = load(model, given, "keep")
    first = {"layer1_0_tim/kernel", "layer1_1_tim/kernel"}
    assert {row.weight for row in report.of("re-initialised")} == first
    assert changed(model, before) == set(before) - first
    assert changed(given, values(model)) == set()


def test_a_backbone_and_a_classifier_agree(tmp_path):
    options = {"base_width": 16, "stages": (2,), "name": "other"}
    backbone = randomize(TemporalResNet(18, "tim", 2, **options), 2)
    assert load(backbone, source("tim")).counts == {"loaded": 102, "unused": 2}
    assert not changed(backbone, values(source("tim")))
    backbone.save_weights(tmp_path / "backbone.weights.h5")
    model = network("tim", seed=3)
    before = values(model)
    report = load(model, tmp_path / "backbone.weights.h5", "error")
    assert report.counts == {"loaded": 102, "re-initialised": 2}
    assert {row.reason for row in report.of("re-initialised")} == {
        "the source has no head"
    }
    assert changed(model, before) == set(before) - HEAD


def test_weights_that_depend_on_the_number_of_frames():
    """TANet's kernels over all frames cannot be used for others; the rest can."""
    model = network(TemporalAdaptive, seed=2, frames=6)
    before = values(model)
    report = load(model, source(TemporalAdaptive, frames=8), "keep")
    kept = {row.weight: row.reason for row in report.of("re-initialised")}
    assert set(kept.values()) == {"depends on num_frames, the source's is 8"}
    assert set(before) - changed(model, before) == set(kept)
    assert {path.split("/", 1)[1] for path in kept} == {
        "global_expand/kernel",
        "global_bn/gamma",
        "global_bn/beta",
        "global_bn/moving_mean",
        "global_bn/moving_variance",
        "global_kernel/kernel",
    }


@pytest.mark.parametrize(
    "depth, name", [(18, "layer1_1_conv2"), (26, "layer1_1_conv3")]
)
def test_a_widened_convolution_gets_equal_shares(depth, name):
    model = network("tsi", seed=2, depth=depth, fusion="concat")
    report = load(model, source("none", depth=depth))
    widened = [row.weight for row in report.of("loaded") if row.reason]
    assert widened == [f"{name.replace('_1_', '_0_')}/kernel", f"{name}/kernel"]
    kernel = values(source("none", depth=depth))[f"{name}/kernel"]
    np.testing.assert_array_equal(
        values(model)[f"{name}/kernel"],
        np.concatenate([kernel / 2, kernel / 2], axis=2),
    )


# === What is refused ===


def test_only_the_input_may_be_wider():
    weights = values(source("none"))
    weights["layer1_0_conv2/kernel"] = np.ones((5, 5, 16, 16))
    text = refusal(network("tsi", fusion="concat"), weights)
    assert "(5, 5, 16, 16) in the source, (3, 3, 32, 16) in the model" in text


def refusal(model, given, head="replace") -> str:
    """The message of the error; the model must be as it was."""
    before = values(model)
    with pytest.raises(ValueError) as error:
        load(model, given, head)
    assert not changed(model, before)
    return str(error.value)


def test_temporal_weights_without_a_place():
    text = refusal(network("sme"), source("tsi"))
    assert text.splitlines()[0].endswith(
        ": 18 of its entries have no place in the model. No weight was changed."
    )
    assert "the same `temporal` in the model" in text
    assert "\n  unexpected  layer1_0_cti/integrate_1/vars/0: no such weight" in text
    assert text.endswith("... and 6 more")


def test_entries_may_be_left_out_of_a_dict():
    model = network("sme", seed=2)
    entries = read_source(source("tsi")).arrays
    sme = {key: value for key, value in entries.items() if "_cti/" not in key}
    assert load(model, sme, "keep").counts == {"loaded": 132}
    assert (
        set(changed(source("tsi"), {**values(source("tsi")), **values(model)})) == set()
    )


def test_a_part_of_a_temporal_layer_is_not_enough():
    fewer = source("tsi", temporal_options=Options(sme={"levels": 3}))
    text = refusal(network("tsi"), fewer)
    assert "4 weights of the model are missing" in text
    assert "layer1_0_sme/pyramid_3/kernel: the source has layer1_0_sme, but" in text
    wider = source("tsi", temporal_options=Options(sme={"reduction": 8}))
    text = refusal(network("tsi"), wider)
    assert "(1, 1, 16, 2) in the source, (1, 1, 16, 1) in the model" in text


@pytest.mark.parametrize(
    "options, cause",
    [
        ({"depth": 34}, "looks like ResNet-34, the model is ResNet-18: use weights of"),
        ({"depth": 26}, "looks like ResNet-26, the model is ResNet-18"),
        (
            {"base_width": 8},
            "is ResNet-18 with 8 channels in its stem, the model's has 16: build the "
            "model with base_width=8",
        ),
    ],
)
def test_other_networks_are_named(options, cause):
    assert cause in refusal(network(), source(**options)).splitlines()[1]


def test_a_foreign_network():
    layers = [keras.layers.Dense(3, name="first"), keras.layers.Dense(2, name="second")]
    text = refusal(network(), keras.Sequential([keras.Input((8,)), *layers]))
    assert "No name agrees: the source has first/vars/0, first/vars/1, second/" in text
    assert text.splitlines()[1].endswith("Use weights of the same network.")
    foreign = {"conv1_conv/kernel": np.zeros((7, 7, 3, 16))}
    assert "with insert_temporal" in refusal(network(), foreign)


def test_a_missing_weight_of_the_image_network():
    weights = values(source("tsi"))
    del weights["layer2_0_bn1/gamma"]
    text = refusal(network("tsi"), weights)
    assert "the given dict does not fit" in text
    assert "1 weights of the model are missing in it." in text
    assert text.endswith("\n  missing     layer2_0_bn1/gamma: not in the source")


def test_heads_that_cannot_be_kept():
    backbone = TemporalResNet(18, "none", 2, base_width=16)
    text = refusal(backbone, source(), "keep")
    assert text.startswith('`head="keep"` needs a model with a head')
    text = refusal(backbone, source(), "error")
    assert "classifier/vars/0: the model has no such head" in text
    text = refusal(network(), backbone, "keep")
    assert "missing     classifier/kernel: not in the source" in text
    text = refusal(network(), backbone, "drop")
    assert text == (
        "`head` must be one of ['replace', 'keep', 'error']. Received: head='drop'"
    )


def test_a_model_without_weights():
    with pytest.raises(ValueError, match="has no weights; build it"):
        load(keras.Sequential([keras.layers.Dense(1)]), {})


# === Other sources ===


def test_a_dict_by_paths():
    model = network("tim", seed=2)
    assert load(model, values(source("tim")), "keep").counts == {"loaded": 104}
    assert not changed(model, values(source("tim")))


def test_a_legacy_file_of_our_own_network(tmp_path):
    source("tsi").save(tmp_path / "trained.h5")
    model = network("tsi", seed=2)
    assert load(model, tmp_path / "trained.h5", "keep").counts == {"loaded": 150}
    assert not changed(model, values(source("tsi")))


@pytest.fixture(scope="module")
def image_network():
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(
        weights=None, include_top=True, alpha=0.35, input_shape=(32, 32, 3), classes=3
    )
    return randomize(model, 1)


@pytest.fixture
def inserted():
    """A MobileNetV2 with other weights and temporal layers."""
    images = keras.applications.MobileNetV2(
        weights=None, include_top=False, alpha=0.35, input_shape=(32, 32, 3)
    )
    return insert_temporal(images, TemporalConv1D, 2)


def check_inserted(report, model, images):
    """260 weights of MobileNetV2 without its top, 10 residual branches."""
    assert report.counts == {"loaded": 260, "re-initialised": 10, "unused": 2}
    assert {row.group for row in report.of("re-initialised")} == {"temporal: temporal"}
    for name in ("Conv1", "block_16_project_BN", "block_3_depthwise"):
        mine, theirs = model.get_layer(name), images.get_layer(name)
        for value, expected in zip(
            mine.get_weights(), theirs.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(value, expected)


def test_networks_of_keras_applications(image_network, inserted):
    report = load(inserted, image_network)
    check_inserted(report, inserted, image_network)


def test_legacy_files_of_keras_applications(image_network, inserted, tmp_path):
    image_network.save(tmp_path / "images.h5")
    report = load(inserted, tmp_path / "images.h5")
    check_inserted(report, inserted, image_network)


def nesting(seed):
    """An image network with a layer in a nested model, and one without a name."""
    images = keras.Input((16, 16, 3))
    stem = [keras.layers.Conv2D(8, 3, name="stem_conv_1"), keras.layers.ReLU()]
    x = keras.Sequential(stem, name="stem")(images)
    x = keras.layers.Conv2D(8, 3, padding="same", name="conv")(x)
    return randomize(keras.Model(images, keras.layers.LayerNormalization()(x)), seed)


@pytest.mark.parametrize("ending", [None, "keras", "weights.h5", "h5"])
def test_nested_and_unnamed_layers_of_image_networks(ending, tmp_path):
    """`insert_temporal` unwraps nested models; Keras numbers unnamed layers anew."""
    given = images = nesting(1)
    if ending:
        given = tmp_path / f"images.{ending}"
        images.save_weights(given) if "weights" in ending else images.save(given)
    model = insert_temporal(nesting(2), TemporalConv1D, 2, where=["conv"])
    assert load(model, given).counts == {"loaded": 6, "re-initialised": 1}
    mine, theirs = (
        [np.asarray(v) for v in net.weights if v.path != "conv_temporal/kernel"]
        for net in (model, images)
    )
    for value, expected in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_a_small_model_as_a_temporal_layer(tmp_path):
    """Layers of the same name in several nested models are told apart."""

    def temporal(num_frames, name):
        layers = [TemporalConv1D(num_frames, name=f"mix_{i}") for i in range(5)]
        return keras.Sequential(layers, name=name)

    given, model = (network(temporal, seed=seed) for seed in (1, 2))
    given.save_weights(tmp_path / "nested.weights.h5")
    assert load(model, tmp_path / "nested.weights.h5", "keep").counts == {"loaded": 112}
    for mine, theirs in zip(model.get_weights(), given.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_other_precisions(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = network("tim", seed=2)
    finally:
        keras.config.set_dtype_policy(before)
    load(model, source("tim"), "keep")
    kernel = model.backbone.get_layer("layer1_0_conv1").kernel
    assert kernel.dtype == {"mixed_bfloat16": "float32"}.get(policy, policy)
    assert not changed(model, values(source("tim")))


# === The report ===


def report():
    rows = (
        WeightRow("a/kernel", "a.weight", "loaded", "", "image backbone"),
        WeightRow("b_sme/kernel", None, "re-initialised", "not there", "temporal: sme"),
        WeightRow("c_sme/kernel", None, "re-initialised", "not there", "temporal: sme"),
        WeightRow("d_sme/kernel", None, "re-initialised", "not there", "temporal: sme"),
        WeightRow(None, "fc.weight", "unused", 'head="replace"', "head"),
    )
    return LoadReport("net", "file.pth", rows)


def test_the_table_has_every_row():
    assert report().table() == (
        "weight        source     status          reason\n"
        "a/kernel      a.weight   loaded\n"
        "b_sme/kernel  -          re-initialised  not there\n"
        "c_sme/kernel  -          re-initialised  not there\n"
        "d_sme/kernel  -          re-initialised  not there\n"
        '-             fc.weight  unused          head="replace"'
    )
    assert report().counts == {"loaded": 1, "re-initialised": 3, "unused": 1}


def test_the_summary_is_short(capsys):
    assert report().summary() == (
        "Weights of net from file.pth\n"
        "group           loaded  re-initialised  unused\n"
        "image backbone       1               0       0\n"
        "temporal: sme        0               3       0\n"
        "head                 0               0       1\n"
        "  temporal: sme: 3 re-initialised, not there (b_sme/kernel, c_sme/kernel, ...)\n"
        '  head: 1 unused, head="replace" (fc.weight)'
    )
    model = network("none")
    printed = load_weights_from(model, source("none"))
    assert capsys.readouterr().out == printed.summary() + "\n"
    load_weights_from(model, source("none"), verbose=False)
    assert capsys.readouterr().out == ""
