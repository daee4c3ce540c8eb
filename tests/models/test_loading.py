"""Finding and loading trained classifiers."""

import keras
import numpy as np
import pytest

from tsi_keras.models import load_classifier
from tsi_keras.models import video_resnet
from tsi_keras.utils.errors import InputError


def tiny(seed):
    keras.utils.set_random_seed(seed)
    return video_resnet(18, "none", num_classes=2, num_frames=2, base_width=4)


def logits(model):
    return np.asarray(model(np.full((1, 2, 32, 32, 3), 99, "uint8")))


def test_a_run_gives_its_best_model_else_its_last(tmp_path):
    best, last = tiny(1), tiny(2)
    last.save(tmp_path / "last.keras")
    assert np.array_equal(logits(load_classifier(tmp_path)), logits(last))
    best.save(tmp_path / "best.keras")
    assert np.array_equal(logits(load_classifier(tmp_path)), logits(best))
    from_file = load_classifier(str(tmp_path / "last.keras"))
    assert np.array_equal(logits(from_file), logits(last))


def test_unusable_paths_are_named(tmp_path):
    with pytest.raises(InputError, match="holds none of best.keras, last.keras"):
        load_classifier(tmp_path)
    with pytest.raises(InputError, match="gone.keras does not exist"):
        load_classifier(tmp_path / "gone.keras")
    (tmp_path / "text.keras").write_text("no model")
    with pytest.raises(InputError, match="not a model saved by Keras 3"):
        load_classifier(tmp_path / "text.keras")


def test_a_damaged_file_gives_one_line(tmp_path):
    tiny(1).save(tmp_path / "model.keras")
    content = bytearray((tmp_path / "model.keras").read_bytes())
    content[len(content) // 3 : len(content) // 3 + 4000] = bytes(4000)
    (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(InputError, match="cannot be loaded") as error:
        load_classifier(tmp_path / "model.keras")
    assert "\n" not in str(error.value)


def test_another_kind_of_model_is_refused(tmp_path):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(
        tmp_path / "dense.keras"
    )
    with pytest.raises(InputError, match="holds a Sequential"):
        load_classifier(tmp_path / "dense.keras")
