"""TFLite files: what they hold, what they answer, what is refused."""

import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.evaluation.tiny import CLASSES
from tests.evaluation.tiny import PREPROCESSING
from tests.evaluation.tiny import moving_frames
from tests.evaluation.tiny import tiny_model
from tests.evaluation.tiny import write_dataset
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.evaluation.protocols import clip_options
from tsi_keras.export import tflite_conversion
from tsi_keras.export.tflite import calibration_clips
from tsi_keras.export.tflite import tflite_name
from tsi_keras.export.tflite import write_inference_graph
from tsi_keras.export.tflite import write_tflite
from tsi_keras.export.tflite import write_tflite_files
from tsi_keras.export.tflite_classifier import TFLiteClassifier
from tsi_keras.export.tflite_conversion import KINDS
from tsi_keras.export.tflite_conversion import Conversion
from tsi_keras.export.tflite_conversion import TFLiteError
from tsi_keras.export.tflite_conversion import check_operators
from tsi_keras.export.tflite_conversion import convert
from tsi_keras.export.tflite_conversion import operator_counts
from tsi_keras.layers import alignment
from tsi_keras.models import VideoClassifier
from tsi_keras.models import insert_temporal
from tsi_keras.models import list_temporal
from tsi_keras.models import video_resnet
from tsi_keras.utils.errors import InputError

SME = {"sme": {"reduction": 4}}


def clips(count=8):
    """Crops of moving squares, uint8 (count, 4, 32, 32, 3)."""
    return np.stack([moving_frames(n, 4)[:, 8:40, 12:44] for n in range(count)])


def logits(model, frames):
    return np.asarray(model(frames, training=False))


def distance(file, model, frames):
    """Largest difference, in parts of the largest logit."""
    expected = logits(model, frames)
    return np.abs(file.logits(frames) - expected).max() / np.abs(expected).max()


@pytest.fixture(scope="module")
def model():
    """Both modules of TSI, once."""
    return tiny_model("tsi", stages=(2,), blocks="first", temporal_options=SME)


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """All kinds of `model`, made as an export makes them."""
    folder = tmp_path_factory.mktemp("kinds")
    # Blocks of 16 of the 64 positions.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "EXPORT_BLOCK_BYTES", 16 * 64 * 4)
        options = clip_options(model)
        return write_tflite_files(model, folder, KINDS, options, clips=clips(32))


@pytest.fixture(scope="module")
def open_batch(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("open") / "model.tflite"
    return write_tflite(model, path, "float32", clip_options(model), batch=None)


# Largest difference as part of the largest logit.
@pytest.mark.parametrize(
    "kind, limit",
    [("float32", 1e-5), ("float16", 3e-3), ("dynamic", 0.05), ("int8", 0.1)],
)
def test_every_kind_answers_as_the_model(kind, limit, files, model):
    assert files[kind].name == tflite_name(kind)
    assert distance(TFLiteClassifier(files[kind]), model, clips()) < limit


def test_names_and_types_of_the_signature(files):
    interpreter = tf.lite.Interpreter(str(files["int8"]))
    runner = interpreter.get_signature_runner("serving_default")
    answer = runner(frames=clips(1))
    assert sorted(answer) == ["logits", "probabilities"]
    assert answer["probabilities"].dtype == np.float32
    np.testing.assert_allclose(answer["probabilities"].sum(), 1, atol=1e-3)


def test_sizes_and_operators_of_the_kinds(files):
    sizes = {kind: path.stat().st_size for kind, path in files.items()}
    assert sizes["float16"] < 0.6 * sizes["float32"]
    assert max(sizes["dynamic"], sizes["int8"]) < 0.45 * sizes["float32"]
    for path in files.values():
        counts = operator_counts(path.read_bytes())
        assert "WHILE" not in counts and "STRIDED_SLICE" not in counts
        assert counts["BATCH_MATMUL"] >= 2 * 3 * 4  # 3 pairs, 4 blocks


def test_int8_keeps_the_attention_in_float32(files):
    interpreter = tf.lite.Interpreter(
        str(files["int8"]),
        experimental_op_resolver_type=(
            tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        ),
    )
    types = {d["index"]: d["dtype"] for d in interpreter.get_tensor_details()}

    def inputs(name):
        operators = interpreter._get_ops_details()
        return {types[op["inputs"][0]] for op in operators if op["op_name"] == name}

    assert inputs("SOFTMAX") == inputs("BATCH_MATMUL") == {np.float32}
    assert inputs("CONV_2D") == inputs("DEPTHWISE_CONV_2D") == {np.int8}


def test_labels_and_preprocessing_travel_with_the_file(files):
    classifier = TFLiteClassifier(files["float32"])
    assert classifier.class_names == CLASSES
    wanted = {**PREPROCESSING, "num_frames": 4, "sampling": "segments"}
    assert wanted.items() <= classifier.preprocessing.items()
    with zipfile.ZipFile(files["float32"]) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode() == "".join(
            f"{name}\n" for name in CLASSES
        )


@pytest.mark.parametrize("count", [1, 2, 5, 1])
def test_open_batch_takes_any_number_of_clips(count, open_batch, model):
    assert distance(TFLiteClassifier(open_batch), model, clips(count)) < 1e-5


def test_open_batch_of_several_sizes_in_turn(open_batch, model):
    classifier = TFLiteClassifier(open_batch, num_threads=1)
    for count in (2, 5, 1):
        assert distance(classifier, model, clips(count)) < 1e-5


def small(temporal, **options):
    options = {"num_classes": 5, "num_frames": 4, "head_stddev": 0.1, **options}
    return video_resnet(14, temporal, base_width=16, **options)


def mobile_net():
    keras.backend.clear_session()
    image_model = keras.applications.MobileNetV3Small(
        input_shape=(32, 32, 3), alpha=0.35, weights=None, include_top=False
    )
    backbone = insert_temporal(image_model, "tim+sme", 4, temporal_options=SME)
    return VideoClassifier(backbone, 5, head_stddev=0.1)


# What makes the model, and the batch of its file.
NETWORKS = {
    "none": (lambda: small("none"), 1),
    "tsm": (lambda: small("tsm"), 3),
    "tea": (lambda: small("tea"), None),
    "mobile_net": (mobile_net, 1),
}


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Model and float32 file of each of `NETWORKS`, from one process."""
    folder = tmp_path_factory.mktemp("networks")
    models = {name: make() for name, (make, _) in NETWORKS.items()}
    options = clip_options(tiny_model("none"))
    jobs = []
    for name, each in models.items():
        write_inference_graph(each, folder / name, options, NETWORKS[name][1])
        jobs.append(
            Conversion(str(folder / name), "float32", str(folder / f"{name}.tflite"))
        )
    convert(jobs, folder)
    return {
        name: (each, TFLiteClassifier(folder / f"{name}.tflite"))
        for name, each in models.items()
    }


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_other_networks_agree(name, networks):
    model, classifier = networks[name]
    # Of a batch of three, the last is filled up.
    expected = logits(model, clips(5))
    assert np.abs(classifier.logits(clips(5)) - expected).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("temporal", sorted(set(list_temporal())))
def test_every_registered_network_agrees(temporal, tmp_path):
    model = small(temporal)
    options = clip_options(tiny_model("none"))
    path = write_tflite(model, tmp_path / "model.tflite", "float32", options)
    expected = logits(model, clips(3))
    assert np.abs(TFLiteClassifier(path).logits(clips(3)) - expected).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("mode", alignment.ALIGNMENTS)
def test_every_alignment_agrees_with_an_open_batch(mode, tmp_path):
    model = small("tsi", temporal_options={"sme": {"alignment": mode}})
    options = clip_options(tiny_model("none"))
    path = write_tflite(model, tmp_path / "m.tflite", "float32", options, batch=None)
    expected = logits(model, clips(3))
    assert np.abs(TFLiteClassifier(path).logits(clips(3)) - expected).max() < 1e-4


def test_mixed_precision_is_written_in_float32(model, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        mixed = tiny_model("tsi", stages=(2,), blocks="first", temporal_options=SME)
        mixed.set_weights(model.get_weights())
        write_inference_graph(mixed, tmp_path / "graph", clip_options(mixed))
        assert keras.config.dtype_policy().name == "mixed_float16"
    finally:
        keras.config.set_dtype_policy("float32")
    graph = tf.saved_model.load(str(tmp_path / "graph")).signatures["serving_default"]
    answer = graph(frames=tf.constant(clips(1)))["logits"]
    np.testing.assert_allclose(answer, logits(model, clips(1)), rtol=1e-4, atol=1e-4)


@keras.saving.register_keras_serializable(package="test_tflite")
class Determinant(keras.layers.Layer):
    """Something TFLite cannot do."""

    def __init__(self, num_frames, **kwargs):
        super().__init__(**kwargs)
        self.num_frames = num_frames

    def call(self, x):
        return x + tf.linalg.det(x[:, :2, :2, 0])[:, None, None, None]


def test_an_operator_tflite_lacks_is_named(tmp_path):
    model = tiny_model(lambda num_frames, name: Determinant(num_frames, name=name))
    path = tmp_path / "model.tflite"
    with pytest.raises(TFLiteError, match="MatrixDeterminant") as error:
        write_tflite(model, path, "float32", clip_options(model))
    assert "determinant" in str(error.value).lower() and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_custom_operators_are_found_in_a_file(tmp_path):
    double = tf.function(
        tf.linalg.det, input_signature=[tf.TensorSpec((3, 3))]
    ).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([double])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.SELECT_TF_OPS]
    with pytest.raises(TFLiteError, match="FlexMatrixDeterminant"):
        check_operators(converter.convert())


def test_death_of_the_converter_is_an_error(tmp_path, monkeypatch):
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\necho LLVM ERROR: no >&2\nkill -ABRT $$\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    job = Conversion("nowhere", "float16", str(tmp_path / "out.tflite"))
    with pytest.raises(TFLiteError, match="SIGABRT.*float16.*LLVM ERROR: no"):
        convert([job], tmp_path)


def test_refusals_are_one_line():
    text = "ConverterError: loc: error: it is broken\nmore\nand more"
    assert tflite_conversion._refusal("dynamic", text).endswith("it is broken")


def test_calibration_clips_are_those_of_the_evaluation(tmp_path, model):
    folder = write_dataset(tmp_path / "data", range(9), split="train")
    options = clip_options(model)
    batch = next(
        make_dataset(
            folder, "train", options, batch_size=9, training=False
        ).as_numpy_iterator()
    )
    info = load_dataset_info(folder)
    np.testing.assert_array_equal(calibration_clips(info, options), batch[0])
    # Every second of nine, four of them.
    np.testing.assert_array_equal(
        calibration_clips(info, options, 4), batch[0][[0, 2, 4, 6]]
    )
    (folder / "train-00000-of-00001.tfrecord").write_bytes(b"broken" * 20)
    with pytest.raises(InputError, match="cannot be read"):
        calibration_clips(info, options)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"kind": "int4"}, r"Received: \['int4'\]"),
        ({"kind": "int8"}, "none was given"),
        ({"kind": "int8", "clips": clips(2)[:, :3]}, "uint8 .n, 4, 32, 32, 3."),
        ({"kind": "int8", "clips": clips(2) / 255}, "float64"),
        ({"batch": 0}, "at least 1, or None. Received: 0"),
    ],
)
def test_bad_arguments(arguments, message, model, tmp_path):
    arguments = {"kind": "float32", **arguments}
    kind = arguments.pop("kind")
    with pytest.raises(InputError, match=message):
        write_tflite(model, tmp_path / "m", kind, clip_options(model), **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "frames",
    [
        clips(1)[:, :3],
        clips(1)[:, :, :31],
        clips(1).astype("float32"),
        clips(1)[:0],
        clips(1)[0],
    ],
)
def test_clips_of_another_shape_are_refused(frames, files):
    with pytest.raises(InputError, match=r"uint8 \(N, 4, 32, 32, 3\).*Received"):
        TFLiteClassifier(files["float32"]).logits(frames)


def test_files_that_cannot_be_opened(files, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        TFLiteClassifier(tmp_path / "none.tflite")
    (tmp_path / "text.tflite").write_text("no flatbuffer")
    with pytest.raises(InputError, match="is not a TFLite file"):
        TFLiteClassifier(tmp_path / "text.tflite")
    with pytest.raises(InputError, match="`num_threads`"):
        TFLiteClassifier(files["float32"], num_threads=0)
    square = tf.function(tf.square, input_signature=[tf.TensorSpec((2,))])
    other = tf.lite.TFLiteConverter.from_concrete_functions(
        [square.get_concrete_function()]
    )
    (tmp_path / "square.tflite").write_bytes(other.convert())
    with pytest.raises(InputError, match="is not a classifier of clips"):
        TFLiteClassifier(tmp_path / "square.tflite")


@pytest.mark.slow
def test_int8_agrees_on_a_trained_model(tmp_path):
    """Seven classes of moving squares, learned in a few steps."""
    model = small("tsi", num_classes=7, temporal_options=SME)
    frames = np.stack([moving_frames(n, 4)[:, 8:40, 12:44] for n in range(56)])
    labels = np.arange(56) % 7
    model.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(frames, labels, batch_size=14, epochs=25, verbose=0)
    options = clip_options(tiny_model("none"))
    path = write_tflite(model, tmp_path / "m", "int8", options, clips=frames[:32])
    expected = logits(model, frames).argmax(axis=1)
    assert (expected == labels).mean() > 0.7
    agreement = (
        TFLiteClassifier(path).logits(frames).argmax(axis=1) == expected
    ).mean()
    assert agreement >= 0.95
