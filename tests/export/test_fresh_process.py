"""The program that runs exports elsewhere: its answers, figures and failures."""

import os
import re
import signal
import sys

import numpy as np
import pytest
import tensorflow as tf

import tsi_keras.export._fresh_process as program
from tests.evaluation.tiny import tiny_model
from tsi_keras.export.fresh_process import BATCH
from tsi_keras.export.fresh_process import measure_apart
from tsi_keras.export.fresh_process import run_in_fresh_process
from tsi_keras.export.parity_rules import ParityError
from tsi_keras.export.tflite_conversion import Conversion
from tsi_keras.export.tflite_conversion import TFLiteError
from tsi_keras.export.tflite_conversion import convert

CLIPS = np.random.default_rng(0).integers(256, size=(7, 2, 4, 4, 3), dtype=np.uint8)


class Means(tf.Module):
    """`frames` to the mean of each colour, `texts` to lengths and last bytes."""

    def __init__(self, batch=None):
        super().__init__()
        self.scale = tf.Variable(0.5)
        clips = tf.TensorSpec((batch, 2, 4, 4, 3), tf.uint8, "frames")
        self.means = tf.function(self._means, input_signature=[clips])
        texts = tf.TensorSpec((None, 2), tf.string, "texts")
        self.lengths = tf.function(self._lengths, input_signature=[texts])
        one = tf.TensorSpec((None,), tf.string, "one")
        self.length = tf.function(self._length, input_signature=[one])

    def _means(self, frames):
        means = tf.reduce_mean(tf.cast(frames, tf.float32), axis=(1, 2, 3))
        return {"logits": self.scale * means}

    def _lengths(self, texts):
        return {"logits": tf.strings.length(texts)}

    def _length(self, one):
        return {"logits": tf.strings.length(one)[:, None]}


def expected_means(clips):
    return 0.5 * clips.mean(axis=(1, 2, 3))


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("saved_model"))
    module = Means()
    names = {
        "serving_default": module.means,
        "lengths": module.lengths,
        "length": module.length,
    }
    tf.saved_model.save(module, folder, signatures=names)
    return folder


def tflite_file(folder, batch, **settings):
    module = Means(batch)
    function = module.means.get_concrete_function()
    saved = str(folder / f"saved {batch}")
    tf.saved_model.save(module, saved, signatures={"serving_default": function})
    converter = tf.lite.TFLiteConverter.from_saved_model(saved)
    for name, value in settings.items():
        setattr(converter, name, value)
    path = folder / f"{batch}.tflite"
    path.write_bytes(converter.convert())
    return path


def test_signatures_are_called_with_any_input(saved_model):
    """Bytes that end with zeros too, which NumPy's own strings would lose."""
    texts = [[b"a\0\0", b"bcd"], [b"", b"\0"], [b"x" * 9, b"y"]]
    done = measure_apart(
        "saved_model",
        saved_model,
        {
            "serving_default": CLIPS,
            "lengths": texts,
            "length": [b"\0\0", b"abc\0"],
        },
    )
    assert done["runtime"] == f"TensorFlow {tf.__version__}"
    answers = {name: done["signatures"][name] for name in done["signatures"]}
    found = answers["serving_default"]["outputs"]["logits"]
    np.testing.assert_allclose(found, expected_means(CLIPS), rtol=1e-6)
    lengths = answers["lengths"]["outputs"]["logits"]
    np.testing.assert_array_equal(lengths, [[3, 3], [0, 1], [9, 1]])
    assert answers["length"]["outputs"]["logits"].tolist() == [[2], [4]]
    for figures in answers.values():
        assert figures["latency_ms"] > 0
    # Only 7 clips fill a batch.
    assert BATCH == 4 and answers["serving_default"]["batch_ms_per_clip"] > 0
    assert answers["lengths"]["batch_ms_per_clip"] is None
    memory = done["memory"]
    assert 0 < memory["after_import"] <= memory["peak"] <= memory["peak_in_batches"]


def test_signatures_are_neither_missed_nor_made_up():
    signatures = {"a": 1, "b": 2}
    assert program._chosen(signatures, ["a", "b", "c"], measure=True) == signatures
    assert program._chosen(signatures, ["b"], measure=False) == {"b": 2}
    with pytest.raises(SystemExit, match="no clips to compare signature b on"):
        program._chosen(signatures, ["a"], measure=True)
    with pytest.raises(SystemExit, match="there is no signature c"):
        program._chosen(signatures, ["a", "c"], measure=False)
    with pytest.raises(SystemExit, match="no signature to call"):
        program._chosen({}, ["a"], measure=True)


def run_here(path, clips):
    """The program's TFLite part in this process, for its arithmetic."""
    job = {"path": str(path), "threads": 1}
    [run] = program._open_tflite(tf.lite.Interpreter, job).values()
    return [run(list(part))["logits"] for part in clips]


@pytest.mark.parametrize("batch", [1, 2, 5, None])
def test_tflite_of_any_batch(tmp_path, batch):
    """Batches of several sizes, whatever the file was made for, and single clips."""
    path = tflite_file(tmp_path, batch)
    sizes = [CLIPS[:1], CLIPS[:4], CLIPS[4:], CLIPS, CLIPS[:1]]
    for found, clips in zip(run_here(path, sizes), sizes, strict=True):
        np.testing.assert_allclose(found, expected_means(clips), rtol=1e-5)
        assert found.dtype == np.float32


def test_tflite_in_its_process(tmp_path):
    done = measure_apart("tflite", tflite_file(tmp_path, None), {"tflite": CLIPS})
    [figures] = done["signatures"].values()
    found = figures["outputs"]["logits"]
    np.testing.assert_allclose(found, expected_means(CLIPS), rtol=1e-5)
    assert figures["latency_ms"] > 0 and figures["batch_ms_per_clip"] > 0
    assert re.match("(TensorFlow Lite|LiteRT) [0-9]", done["runtime"])
    assert done["memory"]["peak"] >= done["memory"]["after_import"] > 0


def test_quantized_outputs_become_logits(tmp_path):
    halved = [{"frames": CLIPS[i : i + 1] // 2} for i in range(7)]
    path = tflite_file(
        tmp_path,
        1,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: iter(halved),
        inference_output_type=tf.int8,
    )
    [output] = tf.lite.Interpreter(str(path)).get_output_details()
    step = output["quantization"][0]
    assert output["dtype"] is np.int8 and step > 0
    [found] = run_here(path, [CLIPS // 2])
    np.testing.assert_allclose(found, expected_means(CLIPS // 2), atol=1.5 * step)
    assert np.ptp(found) > 5 * step


def test_frames_are_rounded_to_the_scale_of_an_input():
    frames = np.array([0, 1, 100, 254], np.uint8)
    detail = {"quantization": (2.0, -100), "dtype": np.int8}
    assert program._quantized(frames, detail).tolist() == [-100, -100, -50, 27]
    detail = {"quantization": (0.5, 0), "dtype": np.uint8}
    assert program._quantized(frames, detail).tolist() == [0, 2, 200, 255]
    for plain in ((1.0, 0), (0.0, 0)):
        detail = {"quantization": plain, "dtype": np.float32}
        assert program._quantized(frames, detail).tolist() == [0, 1, 100, 254]


def test_keras_file_is_run_with_tsi_keras(tmp_path):
    model = tiny_model("none")
    model.save(tmp_path / "model.keras")
    clips = np.random.default_rng(1).integers(256, size=(5, 4, 32, 32, 3))
    clips = clips.astype(np.uint8)
    done = measure_apart("keras", tmp_path / "model.keras", {"keras": clips})
    assert done["runtime"].startswith("Keras 3")
    found = done["signatures"]["keras"]["outputs"]["logits"]
    expected = model(tf.constant(clips), training=False)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_is_no_export_is_named(tmp_path):
    path = tmp_path / "nothing"
    path.write_bytes(b"nothing of use")
    with pytest.raises(ParityError, match=r"nothing cannot be run in .*status 1"):
        measure_apart("tflite", path, {"tflite": CLIPS})


def _stand_in(monkeypatch, tmp_path, script):
    """Another program in the place of the interpreter."""
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!/bin/sh\n{script}\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))


def test_a_killed_process_is_told(tmp_path, monkeypatch):
    _stand_in(monkeypatch, tmp_path, f"kill -{int(signal.SIGKILL)} $$")
    with pytest.raises(ParityError, match=r"\(killed by SIGKILL\): no message$"):
        run_in_fresh_process(tmp_path, {"serving_default": CLIPS})


def test_the_process_sees_no_gpu_and_not_this_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    _stand_in(monkeypatch, tmp_path, 'echo "$CUDA_VISIBLE_DEVICES $PWD" >&2; exit 2')
    with pytest.raises(ParityError, match="TensorFlow only") as caught:
        run_in_fresh_process(tmp_path, {"serving_default": CLIPS})
    devices, folder = str(caught.value).rsplit(": ", 1)[1].split()
    assert devices == "-1" and folder != os.getcwd()


def test_the_converter_has_keras_on_tensorflow_and_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    _stand_in(
        monkeypatch, tmp_path, 'echo "$KERAS_BACKEND $CUDA_VISIBLE_DEVICES" >&2; exit 2'
    )
    job = Conversion("saved", "float32", str(tmp_path / "out.tflite"))
    with pytest.raises(TFLiteError, match="exit status 2 .*: tensorflow -1$"):
        convert([job], tmp_path)
