"""TFLite and ONNX files beside the SavedModel: written, compared, moved, refused."""

import json
import re

import numpy as np
import onnx
import onnxruntime
import pytest

from pipelines import export as command
from pipelines._command import run
from tests.evaluation.tiny import CLASSES
from tests.evaluation.tiny import tiny_model
from tsi_keras.evaluation.protocols import clip_options
from tsi_keras.export import onnx_file
from tsi_keras.export.onnx_file import OnnxError
from tsi_keras.export.onnx_file import write_onnx
from tsi_keras.export.other_formats import OtherFormats
from tsi_keras.export.other_formats import check_formats
from tsi_keras.export.saved_model import export_saved_model
from tsi_keras.export.tflite_classifier import TFLiteClassifier
from tsi_keras.export.tflite_conversion import KINDS
from tsi_keras.utils.errors import InputError

FILES = {"model.tflite", "model_int8.tflite", "model.onnx"}


@pytest.fixture(scope="module")
def tsm():
    """Without a loop or a gradient of its own, which makes conversions short.

    Logits of a few units, as trained networks have them: a float32 of 200 is not exact
    to 1e-5.
    """
    model = tiny_model("tsm", stages=(2,), blocks="first")
    head = model.get_layer("classifier")
    head.set_weights([0.02 * weight for weight in head.get_weights()])
    return model


@pytest.fixture(scope="module")
def exports(tsm, data, tmp_path_factory):
    """TFLite in float32 and int8, and ONNX, beside a SavedModel of float16 weights."""
    folder = tmp_path_factory.mktemp("formats")
    tsm.save(folder / "tsm.keras")
    given = ["--model", str(folder / "tsm.keras"), "--data", str(data), "--no-warmup"]
    given += ["--output", str(folder / "out"), "--tflite", "float32,int8", "--onnx"]
    # The best classes of a network without training are near-ties.
    given += ["--weights", "float16", "--min-agreement", "float16=0"]
    assert run(command.main, [*given, "--min-agreement", "int8=0"]) == 0
    return folder / "out" / "tsm"


@pytest.fixture(scope="module")
def clips():
    return np.random.default_rng(0).integers(0, 256, (3, 4, 32, 32, 3), np.uint8)


def test_all_stand_beside_the_version(exports):
    assert {path.name for path in exports.iterdir()} == FILES | {
        "1",
        "labels.txt",
        "parity.json",
        "serving",
    }


def test_all_are_compared_with_the_model(exports):
    [report] = json.loads((exports / "parity.json").read_text())["versions"].values()
    kinds = {name: figures["kind"] for name, figures in report["signatures"].items()}
    assert set(kinds.values()) == {"float32"}  # with the model of rounded weights
    assert 0 < report["rounding"]["max_difference"] < 1
    assert report["tflite"]["float32"]["max_difference"] <= 1e-4
    assert report["onnx"]["onnx"]["max_difference"] <= 1e-4
    assert 1e-4 < report["tflite"]["int8"]["max_difference"] < 1
    assert set(report["required"]) == {"float32", "int8", "onnx"}
    assert report["onnx"]["onnx"]["runtime"].startswith("ONNX Runtime")
    for figures in (*report["tflite"].values(), *report["onnx"].values()):
        assert figures["bytes"] == (exports / figures["file"]).stat().st_size
        assert figures["latency_ms"] > 0 and figures["memory"]["peak"] > 0


def test_files_answer_as_the_model(exports, tsm, clips):
    expected = tsm.predict_on_batch(clips)
    classifier = TFLiteClassifier(exports / "model.tflite")
    assert classifier.class_names == CLASSES
    np.testing.assert_allclose(classifier.logits(clips), expected, atol=1e-4)
    session = onnxruntime.InferenceSession(exports / "model.onnx")
    for count in (3, 1):
        logits, probabilities = session.run(
            ["logits", "probabilities"], {"frames": clips[:count]}
        )
        np.testing.assert_allclose(logits, expected[:count], atol=1e-4)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_onnx_file_describes_itself(exports):
    proto = onnx.load(exports / "model.onnx")
    onnx.checker.check_model(proto)
    facts = {prop.key: prop.value for prop in proto.metadata_props}
    assert facts["labels"].splitlines() == CLASSES
    preprocessing = json.loads(facts["preprocessing"])
    assert (preprocessing["crop_size"], preprocessing["num_frames"]) == (32, 4)


def test_files_are_never_replaced_unasked(exports, tsm, capsys):
    before = (exports / "model.onnx").read_bytes()
    given = ["--model", str(exports.parents[1] / "tsm.keras"), "--version", "2"]
    given += ["--output", str(exports.parent), "--onnx", "--no-warmup"]
    assert run(command.main, given) == 2
    assert "model.onnx exists; nothing was written" in capsys.readouterr().err
    assert (exports / "model.onnx").read_bytes() == before
    assert not (exports / "2").exists()


def test_a_bad_file_leaves_nothing(tsm, tmp_path, monkeypatch):
    """A converter that makes another model."""
    write = onnx_file.write_inference_graph

    def write_another(model, folder, options, batch):
        bias = model.get_layer("classifier").bias
        bias.assign_add([0.01, 0, 0, 0, 0, 0, 0])
        write(model, folder, options, batch=batch)
        bias.assign_sub([0.01, 0, 0, 0, 0, 0, 0])

    monkeypatch.setattr(onnx_file, "write_inference_graph", write_another)
    with pytest.raises(RuntimeError, match="logits of model.onnx differ .* 0.01 on"):
        export_saved_model(
            tsm, tmp_path, warmup=False, clips=2, formats=OtherFormats(onnx=True)
        )
    assert list(tmp_path.iterdir()) == []


def test_failing_converter_is_one_line(tsm, tmp_path, monkeypatch):
    """tf2onnx finds no SavedModel."""
    monkeypatch.setattr(
        onnx_file, "write_inference_graph", lambda model, folder, *_, **__: None
    )
    with pytest.raises(OnnxError, match="tf2onnx cannot convert .*exit status 1") as e:
        write_onnx(tsm, tmp_path / "model.onnx", clip_options(tsm))
    assert "\n" not in str(e.value)
    assert list(tmp_path.iterdir()) == []


def test_paths_may_be_relative(tsm, tmp_path, monkeypatch):
    """The converter runs in another folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(onnx_file, "write_inference_graph", lambda *_, **__: None)
    monkeypatch.setattr(onnx_file, "_describe", lambda *_: None)

    def convert(folder, path):
        assert folder.is_absolute() and path.is_absolute()
        path.write_bytes(b"onnx")

    monkeypatch.setattr(onnx_file, "_convert", convert)
    path = write_onnx(tsm, "model.onnx", clip_options(tsm))
    assert path == tmp_path / "model.onnx" and path.read_bytes() == b"onnx"


def test_missing_packages_are_named(tsm, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "_PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(InputError, match=r"needs no_such_package.*tsi_keras\[onnx\]"):
        write_onnx(tsm, tmp_path / "model.onnx", clip_options(tsm))


@pytest.mark.parametrize(
    "formats, message",
    [
        (OtherFormats(tflite=("int4",)), "some of float32, .* Received: int4"),
        (OtherFormats(tflite=("int8", "int8")), "each once"),
        (OtherFormats(tflite=("int8",)), "calibrated .* add --data"),
        (OtherFormats(tflite=("float32",), tflite_batch=0), "Received: 0"),
    ],
)
def test_what_cannot_be_written(formats, message, tmp_path):
    with pytest.raises(InputError, match=message):
        check_formats(formats, tmp_path, 1, has_data=False, overwrite=False)


@pytest.mark.parametrize(
    "options", [["--tflite-batch", "many"], ["--min-agreement", "int8"]]
)
def test_bad_options(options, capsys):
    with pytest.raises(SystemExit) as status:
        command.main(["--model", "m", *options])
    assert status.value.code == 2
    assert f"Received: '{options[1]}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, kinds",
    [
        ("", ()),
        ("int8", ("int8",)),
        ("int8,float16", ("int8", "float16")),
        ("all", KINDS),
    ],
)
def test_kinds_of_tflite_files(text, kinds):
    given = ["--model", "m", "--tflite", text]
    assert command.build_parser().parse_args(given).tflite == kinds


@pytest.mark.parametrize(
    "options, message",
    [
        (["--split", "val"], "`--split val` changes nothing without --data DATA"),
        (["--tflite-batch", "1"], "`--tflite-batch` changes .* without --tflite KINDS"),
        (["--tflite-batch", "any", "--onnx"], "without --tflite KINDS"),
        (
            ["--min-agreement", "int8=0.9"],
            "int8=0.9` changes .* without --tflite int8;",
        ),
        (
            ["--min-agreement", "float16=1", "--tflite", "dynamic"],
            "without --weights float16 or --tflite float16;",
        ),
        (["--min-agreement", "onnx=0.5", "--tflite", "all"], "without --onnx;"),
    ],
)
def test_options_that_change_nothing(options, message, tmp_path, capsys):
    """Defaults are told from what was given."""
    given = ["--model", "m", "--output", str(tmp_path / "out")]
    assert run(command.main, [*given, *options]) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--tflite", "float16,int8", "--tflite-batch", "any"],
        ["--data", "d", "--split", "test", "--min-agreement", "bfloat16=1"]
        + ["--weights", "bfloat16", "--onnx", "--min-agreement", "onnx=1"],
        ["--data", "d", "--tflite", "all", "--min-agreement", "float16=0.9"],
        ["--min-agreement", "int4=0.5"],
        ["--min-agreement", "float32=1", "--weights", "float16"],
    ],
)
def test_options_that_change_something(options, capsys):
    """The next complaint is of something else."""
    assert run(command.main, ["--model", "nowhere", *options]) == 2
    assert "`--model` nowhere does not exist" in capsys.readouterr().err
