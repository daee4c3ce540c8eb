"""What a model says of its frames, and what is shown of TensorFlow's messages."""

import keras
import pytest
import tensorflow as tf

from tests.evaluation.tiny import PREPROCESSING
from tests.evaluation.tiny import tiny_model
from tsi_keras.evaluation.protocols import clip_options
from tsi_keras.evaluation.tensorflow_errors import bare_message
from tsi_keras.evaluation.tensorflow_errors import first_sentence
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.utils.errors import InputError


def fixed_model(height, width):
    """A classifier of frames of one size, or of any where it is None."""
    inputs = keras.Input((4, height, width, 3))
    backbone = keras.Model(inputs, keras.layers.Dense(4)(inputs))
    return VideoClassifier(backbone, num_classes=2, preprocessing=PREPROCESSING)


def test_models_of_the_size_they_are_given():
    for model in (tiny_model("none"), fixed_model(32, 32), fixed_model(None, 32)):
        assert clip_options(model).crop_size == PREPROCESSING["crop_size"]


@pytest.mark.parametrize(
    "height, width, size",
    [(48, 48, "48 x 48"), (32, 64, "32 x 64"), (None, 8, "any x 8")],
)
def test_a_model_of_another_size_is_refused(height, width, size):
    message = rf"takes frames of {size} pixels.*`crop_size` 32.*\(32, 32\)"
    with pytest.raises(InputError, match=message):
        clip_options(fixed_model(height, width))


@pytest.mark.parametrize(
    "message, shown",
    [
        ("Input is empty.\n\t [[{{node map/DecodeJpeg}}]]", "Input is empty"),
        ("{{function_node f}} Bad data. [Op:DecodeJpeg]", "Bad data"),
        (
            "2 root error(s) found.\n  (0) INVALID_ARGUMENT: Bad data.\n\t [[{{node a}}]]"
            "\n  (1) INVALID_ARGUMENT: Worse data.",
            "Bad data",
        ),
        ("  \n", ""),
        ("", ""),
    ],
)
def test_first_error_without_names_of_operations(message, shown):
    assert bare_message(message) == shown
    error = tf.errors.InvalidArgumentError(None, None, message)
    assert first_sentence(error) == (shown or "InvalidArgumentError")
