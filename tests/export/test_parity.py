"""The comparison of all exports with Keras: figures, thresholds, failures."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import tsi_keras.export.parity as parity
from tests.evaluation.tiny import tiny_model
from tests.evaluation.tiny import write_dataset
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.evaluation.protocols import clip_options
from tsi_keras.export.parity import ParityError
from tsi_keras.export.parity import measure_parity
from tsi_keras.export.parity import random_clips
from tsi_keras.export.parity import record_clips
from tsi_keras.export.parity_report import export_rows
from tsi_keras.export.parity_report import print_report
from tsi_keras.export.saved_model import write_saved_model
from tsi_keras.utils.errors import InputError

FILES = {"float32": "model.tflite", "dynamic": "model_dynamic.tflite"}


@pytest.fixture(scope="module")
def model():
    return tiny_model("tsm", stages=(2,), blocks="first")


@pytest.fixture(scope="module")
def options(model):
    return clip_options(model)


@pytest.fixture(scope="module")
def clips(options, tmp_path_factory):
    data = write_dataset(tmp_path_factory.mktemp("parity") / "data", range(5))
    return record_clips(load_dataset_info(data), "val", 5, options)


@pytest.fixture(scope="module")
def exports(model, options, tmp_path_factory):
    """A SavedModel and two TFLite files."""
    folder = tmp_path_factory.mktemp("exports")
    write_saved_model(model, folder / "1", options)
    frames = tf.TensorSpec((1, 4, 32, 32, 3), tf.uint8, "frames")

    @tf.function(input_signature=[frames], autograph=False)
    def serve(frames):
        return {"logits": model(frames, training=False)}

    archive = keras.export.ExportArchive()
    archive.add_endpoint("serving_default", serve)
    archive.write_out(str(folder / "fixed"), verbose=False)
    for kind, name in FILES.items():
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "fixed"))
        if kind == "dynamic":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        (folder / name).write_bytes(converter.convert())
    return folder


@pytest.fixture(scope="module")
def report(model, options, clips, exports):
    """Everything compared; the dynamic range of an untrained model is no matter."""
    files = {kind: exports / name for kind, name in FILES.items()}
    limits = {"dynamic": 0.2}
    return measure_parity(
        model, exports / "1", clips, options, tflite=files, min_agreement=limits
    )


def test_every_export_is_compared_and_measured(report, exports):
    """One test for one report: each costs five processes."""
    assert json.loads(json.dumps(report)) == report
    assert report["clips"] == [f"video {n}" for n in range(5)]
    assert {"serving_default", "serve_jpeg"} <= set(report["signatures"])
    assert list(report["tflite"]) == ["float32", "dynamic"]
    for figures in (*report["signatures"].values(), report["tflite"]["float32"]):
        assert figures["kind"] == "float32"
        assert figures["max_difference"] <= 1e-4 and figures["top1_agreement"] == 1
    assert 1e-4 < report["tflite"]["dynamic"]["max_difference"] < 50
    for kind, name in FILES.items():
        figures = report["tflite"][kind]
        assert figures["file"] == name
        assert figures["bytes"] == (exports / name).stat().st_size
    timed = [report["keras"], *report["signatures"].values()]
    for figures in (*timed, *report["tflite"].values()):
        assert figures["latency_ms"] > 0 and figures["batch_ms_per_clip"] > 0
    for figures in (report["keras"], report["saved_model"], *report["tflite"].values()):
        assert figures["memory"]["peak"] > 0 and figures["bytes"] > 0
        assert figures["runtime"].split()[0] in ("Keras", "TensorFlow", "LiteRT")
    assert report["keras"]["median_top1_margin"] > 0
    assert report["required"] == {
        "float32": {"max_difference": 1e-4, "min_agreement": None},
        "dynamic": {"max_difference": None, "min_agreement": 0.2},
    }


def test_report_as_table_and_rows(report, capsys):
    print_report(report)
    shown = capsys.readouterr().out
    assert "5 clips (records)" in shown
    rows = export_rows(report, model="tiny")
    names = [row["export"] for row in rows]
    assert names[0] == "Keras" and names[-2:] == [*FILES.values()]
    assert set(names[1:-2]) == set(report["signatures"])
    assert len({tuple(row) for row in rows}) == 1 and rows[0]["model"] == "tiny"
    assert rows[-1]["megabytes"] < rows[-2]["megabytes"] < 1


def figures(kind, share, name="x.tflite", gap=0.5):
    different = [] if share == 1 else ["video 4"]
    return {
        "file": name,
        "kind": kind,
        "max_difference": gap,
        "mean_difference": gap / 9,
        "top1_agreement": share,
        "disagreeing": different,
        "near_ties": len(different),
    }


def without_processes(monkeypatch, model, clips, **logits):
    """`measure_parity` with the answers of processes given: Keras' plus these."""
    frames = np.stack(list(clips.inputs(clip_options(model))["serving_default"]))
    expected = model(tf.constant(frames), training=False).numpy()

    def answer(runtime, path, inputs):
        name = "serving_default" if runtime == "saved_model" else runtime
        outputs = {"logits": expected + logits.get(runtime, 0)}
        return {
            "runtime": "none",
            "memory": {},
            "signatures": {name: {"outputs": outputs}},
        }

    monkeypatch.setattr(parity, "measure_apart", answer)
    return expected


def test_all_failures_are_told_with_their_report(
    model, options, clips, exports, monkeypatch
):
    """Of a SavedModel a little off, and an int8 file with one class gone."""
    expected = without_processes(monkeypatch, model, clips)
    wrong = np.zeros_like(expected)
    wrong[4, expected[4].argmax()] = -1e6
    without_processes(monkeypatch, model, clips, saved_model=2e-4, tflite=wrong)
    files = {"int8": exports / "model.tflite"}
    with pytest.raises(ParityError) as caught:
        measure_parity(model, exports / "1", clips, options, tflite=files)
    text = str(caught.value)
    assert "logits of `serving_default` differ" in text and "0.0002 on 5" in text
    assert "best class of model.tflite is that of the Keras model in 80.0%" in text
    assert "in video 4 (0 of 1 are near-ties" in text
    assert text.endswith(f"(records clips, {clips.data['folder']}, split val)")
    assert caught.value.report["tflite"]["int8"]["top1_agreement"] == 0.8
    limits = {"int8": 0.8}
    with pytest.raises(ParityError) as caught:
        measure_parity(
            model, exports / "1", clips, options, tflite=files, min_agreement=limits
        )
    assert "model.tflite" not in str(caught.value)


def test_rounded_weights_are_judged_by_their_classes(
    model, options, clips, exports, monkeypatch
):
    without_processes(monkeypatch, model, clips, saved_model=2e-4)
    report = measure_parity(model, exports / "1", clips, options, weights="float16")
    assert report["signatures"]["serving_default"]["kind"] == "float16"
    without_processes(monkeypatch, model, clips, saved_model=np.nan)
    with pytest.raises(
        ParityError, match="`serving_default` gives logits .* not finite"
    ):
        measure_parity(model, exports / "1", clips, options, weights="float16")


def test_noise_fails_on_differences_only(model, options, exports, monkeypatch, capsys):
    noise = random_clips(options, 3)
    expected = without_processes(monkeypatch, model, noise)
    files = {"int8": exports / "model.tflite"}
    without_processes(monkeypatch, model, noise, tflite=-2 * expected)
    report = measure_parity(model, exports / "1", noise, options, tflite=files)
    assert report["tflite"]["int8"]["top1_agreement"] < 0.95
    assert report["required"]["int8"]["min_agreement"] is None
    print_report(report)
    assert "no agreement of classes was asked for" in capsys.readouterr().out
    with pytest.raises(InputError, match="needs real clips"):
        measure_parity(
            model, exports / "1", noise, options, min_agreement={"float16": 0.5}
        )
    without_processes(monkeypatch, model, noise, saved_model=1e-3)
    with pytest.raises(ParityError, match="differ from those .*random clips"):
        measure_parity(model, exports / "1", noise, options)


def test_a_model_that_cannot_be_loaded_elsewhere_answers_here(
    model, options, clips, exports, monkeypatch, capsys
):
    expected = without_processes(monkeypatch, model, clips)
    answer = parity.measure_apart

    def fail(runtime, path, inputs):
        if runtime == "keras":
            raise ParityError(f"{path} cannot be run: an unknown layer")
        return answer(runtime, path, inputs)

    monkeypatch.setattr(parity, "measure_apart", fail)
    report = measure_parity(model, exports / "1", clips, options)
    gap = report["signatures"]["serving_default"]["max_difference"]
    assert gap <= 1e-4 * max(1, np.abs(expected).max())
    assert (
        report["keras"]["not_measured"] == "the model cannot be run: an unknown layer"
    )
    print_report(report)
    assert "Keras answered in this process: the model" in capsys.readouterr().out
