"""`load_weights_from` between our own networks, and its report."""

import keras
import numpy as np
import pytest

from tests.models.weight_networks import HEAD
from tests.models.weight_networks import changed
from tests.models.weight_networks import load
from tests.models.weight_networks import network
from tests.models.weight_networks import randomize
from tests.models.weight_networks import refusal
from tests.models.weight_networks import source
from tests.models.weight_networks import values
from tsi_keras.layers.temporal_adaptive import TemporalAdaptive
from tsi_keras.models import TemporalResNet
from tsi_keras.models import list_temporal
from tsi_keras.models.weight_loading import LoadReport
from tsi_keras.models.weight_loading import WeightRow
from tsi_keras.models.weight_loading import load_weights_from

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
