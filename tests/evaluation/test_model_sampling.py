"""A model is evaluated, used and exported with the sampling it was trained with."""

import numpy as np
import pytest

from tests.evaluation import tiny
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.data.sampling import clip_indices
from tsi_keras.evaluation.predict import read_clip
from tsi_keras.evaluation.protocols import clip_options
from tsi_keras.export.parity import record_clips
from tsi_keras.export.saved_model import write_saved_model
from tsi_keras.training.building import build_classifier
from tsi_keras.training.config import Config
from tsi_keras.utils.files import read_json

FRAMES = 70


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """The folder of a data set of one video of 70 frames, and the video."""
    folder = tmp_path_factory.mktemp("dense")
    frames = {0: tiny.moving_frames(0, FRAMES)}
    tiny.write_dataset(folder / "data", [0], frames=frames)
    return folder / "data", tiny.write_mp4(folder / "video.mp4", frames[0])


def model_of(**data):
    """A classifier as training builds it."""
    values = {
        "model": {"depth": 14, "base_width": 8, "temporal": "tsm", "num_frames": 4},
        "data": {"short_side": 48, "crop_size": 32, **data},
    }
    return build_classifier(Config.model_validate(values), tiny.CLASSES)


@pytest.mark.parametrize("sampling", ["segments", "dense"])
def test_everything_follows_the_configuration(video, sampling):
    data, path = video
    model = model_of(sampling=sampling)
    options = clip_options(model)
    assert model.preprocessing["sampling"] == options.sampling == sampling
    [wanted] = clip_indices(FRAMES, 4, sampling)
    middle = [(FRAMES - 64) // 2 + 16 * i for i in range(4)]
    assert (wanted.tolist() == middle) == (sampling == "dense")

    dataset = make_dataset(data, "val", options, batch_size=1, training=False)
    [(clips, _)] = dataset.as_numpy_iterator()
    from_file = read_clip(path, options, fps=None)
    every_frame = tiny.moving_frames(0, FRAMES)[:, 8:40, 16:48].astype(int)
    for clip in (clips[0], from_file):
        gaps = np.abs(clip[:, None] - every_frame[None]).mean((2, 3, 4))
        assert gaps.argmin(1).tolist() == wanted.tolist()

    [jpegs] = record_clips(load_dataset_info(data), "val", 1, options).jpegs
    assert len(jpegs) == 4


def test_exported_folder_says_how_frames_are_chosen(tmp_path):
    model = model_of(sampling="dense")
    write_saved_model(model, tmp_path / "export", clip_options(model))
    stated = read_json(tmp_path / "export" / "assets" / "preprocessing.json")
    assert stated["sampling"] == "dense" and "64" in stated["frames"]


def test_models_saved_before_there_was_a_choice_are_of_segments():
    assert clip_options(tiny.tiny_model()).sampling == "segments"
