"""What is shown of TensorFlow's messages."""

import pytest
import tensorflow as tf

from tsi_keras.evaluation.protocols import bare_message
from tsi_keras.evaluation.protocols import first_sentence


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
