"""Exports: what is in the folder, what it answers elsewhere, what is refused."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tsi_keras.export.comparison as comparison
import tsi_keras.export.saved_model as saved_model
from pipelines import export as command
from pipelines._command import run
from tests.evaluation.tiny import CLASSES
from tests.evaluation.tiny import PREPROCESSING
from tests.evaluation.tiny import moving_frames
from tests.evaluation.tiny import tiny_model
from tests.evaluation.tiny import write_dataset
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.data.preprocessing import decode_frames
from tsi_keras.data.preprocessing import resize_and_center_crop
from tsi_keras.evaluation.protocols import clip_options
from tsi_keras.export.parity import ParityError
from tsi_keras.export.parity import random_clips
from tsi_keras.export.parity import record_clips
from tsi_keras.export.parity import run_in_fresh_process
from tsi_keras.export.saved_model import export_saved_model
from tsi_keras.models import VideoClassifier
from tsi_keras.models.video_backbone import VideoBackbone
from tsi_keras.utils.errors import InputError

# Both signatures on batches of several sizes and frames of several sizes, in a process
# where importing tsi_keras or keras by name is an error.
CLIENT = """
import sys
sys.modules["tsi_keras"] = sys.modules["pipelines"] = None
import numpy as np
import tensorflow as tf

folder, inputs, outputs = sys.argv[1:]
given = np.load(inputs)
signatures = tf.saved_model.load(folder).signatures
serve, serve_jpeg = signatures["serving_default"], signatures["serve_jpeg"]
results = {"names": sorted(signatures)}
for name, signature in signatures.items():
    (spec,) = signature.structured_input_signature[1].values()
    results[name + " in"] = f"{spec.dtype.name} {spec.shape}"
    for key, output in signature.structured_outputs.items():
        results[f"{name} {key}"] = f"{output.dtype.name} {output.shape}"
for key in ("one", "five", "wide"):
    for output, value in serve(frames=tf.constant(given[key])).items():
        results[f"{output} of {key}"] = value.numpy()
images = [given[f"image {i}"] for i in range(8)]
jpegs = tf.stack([tf.io.encode_jpeg(i, quality=95) for i in images])
results["logits of jpegs"] = serve_jpeg(frames=tf.reshape(jpegs, (2, 4)))["logits"]
np.savez(outputs, **results)
"""


def test_folder_is_that_of_the_contract(exported):
    beside = {path.name for path in exported.parent.iterdir()}
    assert beside == {"3", "labels.txt", "parity.json", "serving"}
    assert {"saved_model.pb", "variables", "assets", "assets.extra"} <= {
        path.name for path in exported.iterdir()
    }
    for labels in (exported / "assets/labels.txt", exported.parent / "labels.txt"):
        assert labels.read_text().splitlines() == CLASSES
    preprocessing = json.loads((exported / "assets/preprocessing.json").read_text())
    assert preprocessing["num_frames"] == 4
    assert (preprocessing["short_side"], preprocessing["crop_size"]) == (48, 32)
    assert oct(exported.stat().st_mode)[-3:] == "755"


def test_parity_is_written_and_names_its_clips(exported, data):
    (parity,) = json.loads((exported.parent / "parity.json").read_text())[
        "versions"
    ].values()
    assert parity["source"] == "records"
    assert parity["clips"] == [f"video {n}" for n in range(4)]
    assert parity["data"]["fingerprint"] == load_dataset_info(data).fingerprint
    assert len(parity["model"]["sha256"]) == 64
    assert parity["export"] == {
        "weights": "float32",
        "warmup_requests": 5,
        "folded_batch_norms": 0,
    }
    for name in ("serving_default", "serve_jpeg"):
        assert parity["signatures"][name]["max_difference"] <= 1e-4
        assert parity["signatures"][name]["top1_agreement"] == 1


def test_process_without_tsi_keras_gives_the_logits(exported, model, tmp_path):
    rng = np.random.default_rng(0)
    given = {
        "one": rng.integers(256, size=(1, 4, 32, 32, 3), dtype=np.uint8),
        "five": rng.integers(256, size=(5, 4, 32, 32, 3), dtype=np.uint8),
        "wide": rng.integers(256, size=(2, 4, 40, 72, 3), dtype=np.uint8),
    }
    # Portrait, landscape, small, large: every frame of another size.
    sizes = [(48, 64), (64, 48), (30, 41), (100, 160), (48, 48), (47, 49), (99, 33)]
    for i, (height, width) in enumerate([*sizes, (200, 200)]):
        image = tf.image.resize(moving_frames(i)[i], (height, width)).numpy()
        given[f"image {i}"] = image.astype(np.uint8)
    np.savez(tmp_path / "in.npz", **given)
    paths = [str(exported), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, "-c", CLIENT, *paths],
        check=True,
        cwd=tmp_path,
        env=environment,
        timeout=300,
    )
    with np.load(tmp_path / "out.npz") as results:
        _check_signatures(results)
        for key in ("one", "five", "wide"):
            expected = model(tf.constant(given[key]), training=False).numpy()
            np.testing.assert_allclose(results[f"logits of {key}"], expected, atol=1e-4)
            np.testing.assert_allclose(
                results[f"probabilities of {key}"],
                tf.nn.softmax(expected),
                atol=1e-5,
            )
        images = [given[f"image {i}"] for i in range(8)]
        expected = model(_clips_of(images, model), training=False).numpy()
        assert np.ptp(expected, axis=0).max() > 0.1
        np.testing.assert_allclose(results["logits of jpegs"], expected, atol=1e-4)


def _check_signatures(results):
    names = ["serve_example", "serve_jpeg", "serving_default"]
    assert results["names"].tolist() == names
    assert results["serving_default in"] == "uint8 (None, None, None, None, 3)"
    assert results["serve_jpeg in"] == "string (None, None)"
    assert results["serve_example in"] == "string (None,)"
    for name in ("serving_default", "serve_jpeg"):
        assert results[f"{name} logits"] == "float32 (None, 7)"
        assert results[f"{name} probabilities"] == "float32 (None, 7)"


def _clips_of(images, model):
    """Two evaluation clips, uint8, of eight images that go through JPEG."""
    options = clip_options(model)
    jpegs = [tf.io.encode_jpeg(image, quality=95) for image in images]
    frames = [
        resize_and_center_crop(
            decode_frames(jpeg[None]),
            short_side=options.short_side,
            crop_size=options.crop_size,
        )[0]
        for jpeg in jpegs
    ]
    return tf.reshape(tf.stack(frames), (2, 4, 32, 32, 3))


def test_parity_clips_are_those_of_the_evaluation(data, model):
    options = clip_options(model)
    clips = record_clips(load_dataset_info(data), "val", 3, options)
    stored = make_dataset(
        data, "val", options, batch_size=3, training=False, with_ids=True
    )
    frames, _, ids = next(stored.as_numpy_iterator())
    assert clips.ids == [name.decode() for name in ids]
    decoded = resize_and_center_crop(
        decode_frames(tf.constant(clips.jpegs[1])), short_side=48, crop_size=32
    )
    np.testing.assert_array_equal(decoded, frames[1])


def test_version_is_never_overwritten_unasked(exported, run_folder, capsys):
    before = (exported / "saved_model.pb").read_bytes()
    given = ["--model", str(run_folder), "--output", str(exported.parents[1])]
    assert run(command.main, [*given, "--version", "3"]) == 2
    assert "exists; nothing was written" in capsys.readouterr().err
    assert (exported / "saved_model.pb").read_bytes() == before


def test_other_labels_need_another_name(exported):
    other = tiny_model("none", [f"other {i}" for i in range(7)])
    with pytest.raises(InputError, match="other class names"):
        export_saved_model(other, exported.parents[1], name="my_run", version=4)
    assert sorted(p.name for p in exported.parent.iterdir()) == [
        "3",
        "labels.txt",
        "parity.json",
        "serving",
    ]


def test_overwrite_and_second_version(exported, monkeypatch, tmp_path):
    """The bookkeeping around the folders; the SavedModel itself is a stand-in."""
    model = tiny_model("none")
    monkeypatch.setattr(saved_model, "write_saved_model", _write_marker)
    monkeypatch.setattr(comparison, "measure_parity", lambda *_, **__: {"clips": []})
    for version in (1, 2):
        export_saved_model(model, tmp_path, name="m", version=version)
    first = (tmp_path / "m/1/saved_model.pb").read_text()
    export_saved_model(model, tmp_path, name="m", version=1, overwrite=True)
    assert (tmp_path / "m/1/saved_model.pb").read_text() != first
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == [
        "1",
        "2",
        "labels.txt",
        "parity.json",
        "serving",
    ]
    parity = json.loads((tmp_path / "m/parity.json").read_text())
    assert sorted(parity["versions"]) == ["1", "2"]


def _write_marker(model, folder, options, weights):
    """Another content each time."""
    folder.mkdir()
    (folder / "saved_model.pb").write_text(os.urandom(8).hex())


def test_difference_is_found_and_leaves_nothing(data, tmp_path, monkeypatch, capsys):
    model = tiny_model("none")
    model.save(tmp_path / "tiny.keras")
    write = saved_model.write_saved_model

    def write_another_model(model, folder, options, weights):
        bias = model.get_layer("classifier").bias
        bias.assign_add([3e-4, 0, 0, 0, 0, 0, 0])
        write(model, folder, options, weights=weights)
        bias.assign_sub([3e-4, 0, 0, 0, 0, 0, 0])

    monkeypatch.setattr(saved_model, "write_saved_model", write_another_model)
    given = ["--model", str(tmp_path / "tiny.keras"), "--data", str(data)]
    output = tmp_path / "out"
    assert run(command.main, [*given, "--output", str(output), "--clips", "1"]) == 1
    message = capsys.readouterr().err
    assert "not exported: the logits of `serving_default` differ" in message
    assert list(output.iterdir()) == []


def test_difference_by_folding_says_what_helps(data, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise ParityError("they differ")

    monkeypatch.setattr(saved_model, "write_saved_model", _write_marker)
    monkeypatch.setattr(comparison, "measure_parity", fail)
    tiny_model("none").save(tmp_path / "tiny.keras")
    given = ["--model", str(tmp_path / "tiny.keras"), "--no-warmup", "--fold-bn"]
    assert run(command.main, [*given, "--output", str(tmp_path / "out")]) == 1
    message = " ".join(capsys.readouterr().err.split())
    assert "they differ. The order of its sums" in message
    assert "without it the export computes as the model does" in message


def test_model_that_cannot_be_folded(model, tmp_path, monkeypatch):
    def fail(model):
        raise ValueError("the layer 'x' cannot be copied.")

    monkeypatch.setattr(saved_model, "fold_batch_norm", fail)
    with pytest.raises(InputError, match="`--fold-bn` cannot be done .* layer 'x'"):
        export_saved_model(model, tmp_path / "out", fold_bn=True)
    assert not (tmp_path / "out").exists()


def test_model_without_anything_to_fold(tmp_path):
    inputs = keras.Input((4, 32, 32, 3))
    features = keras.layers.Conv3D(2, (1, 9, 9), strides=(1, 8, 8))(inputs)
    backbone = VideoBackbone(inputs, features, num_frames=4)
    plain = VideoClassifier(backbone, 2, preprocessing=PREPROCESSING)
    with pytest.raises(InputError, match="no BN right behind a convolution"):
        export_saved_model(plain, tmp_path / "out", fold_bn=True)
    assert not (tmp_path / "out").exists()


def test_options_are_recorded(small_export):
    _, folder = small_export
    parity = json.loads((folder.parent / "parity.json").read_text())["versions"]["1"]
    assert parity["export"] == {
        "weights": "float16",
        "warmup_requests": 0,
        "folded_batch_norms": 20,
    }
    assert parity["source"] == "random"
    assert parity["signatures"]["serving_default"]["max_difference"] <= 1e-4
    assert 1e-4 < parity["rounding"]["max_difference"] < 1
    assert not (folder / "assets.extra").exists()


def test_assets_belong_to_the_model(small_export, tmp_path):
    """Whoever loads it and saves it again has them still."""
    _, folder = small_export
    tf.saved_model.save(tf.saved_model.load(str(folder)), str(tmp_path / "again"))
    for name in ("labels.txt", "preprocessing.json"):
        again = (tmp_path / "again/assets" / name).read_bytes()
        assert again == (folder / "assets" / name).read_bytes()


def test_failing_process_is_a_parity_error(tmp_path, monkeypatch):
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\necho first >&2\necho cannot load >&2\nexit 3\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    frames = np.zeros((1, 4, 32, 32, 3), np.uint8)
    with pytest.raises(ParityError, match=r"exit status 3\): cannot load$"):
        run_in_fresh_process(tmp_path, {"serving_default": frames})


def test_random_clips_say_so():
    clips = random_clips(clip_options(tiny_model("none")), 2)
    assert clips.source == "random" and clips.data is None
    first, second = (tf.io.decode_jpeg(c[0]).numpy() for c in clips.jpegs)
    assert first.shape == (48, 64, 3) and (first != second).any()


@pytest.mark.parametrize(
    "changed, message",
    [
        (["--model", "nowhere.keras"], "`--model` nowhere.keras does not exist"),
        (["--data", "nowhere"], "is not a folder"),
        (["--split", "train"], "must be one of"),
        (["--version", "0"], "1 or more"),
        (["--clips", "0"], "1 or more"),
        (["--name", "../escape"], "--name"),
        (["--weights", "int4"], "one of float32, float16, bfloat16"),
    ],
)
def test_bad_input_is_status_2(changed, message, run_folder, data, tmp_path, capsys):
    given = ["--model", str(run_folder), "--data", str(data)]
    given += ["--output", str(tmp_path / "out")]
    assert run(command.main, [*given, *changed]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "out").exists()


def test_data_of_other_classes_is_refused(model, tmp_path):
    other = [*CLASSES[:-1], "class z"]
    data = write_dataset(tmp_path / "data", range(2), class_names=other)
    with pytest.raises(InputError, match="Class 6 is 'class g' in the model"):
        export_saved_model(model, tmp_path / "out", data_dir=data)
