"""Clips for the comparison: as frames, JPEG files and records, all the same clip."""

import numpy as np
import pytest
import tensorflow as tf

from tests.evaluation.tiny import write_dataset
from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.data.records import parse_record
from tsi_keras.data.sampling import clip_indices
from tsi_keras.export.parity_clips import random_clips
from tsi_keras.export.parity_clips import record_clips


@pytest.mark.parametrize("sampling", ["segments", "dense"])
def test_stored_clips_are_those_of_the_evaluation(tmp_path, sampling):
    data = write_dataset(tmp_path / "data", range(3))
    options = ClipOptions(4, 32, 48, sampling=sampling)
    clips = record_clips(load_dataset_info(data), "val", 2, options)
    assert clips.ids == ["video 0", "video 1"] and clips.source == "records"
    stored = make_dataset(data, "val", options, batch_size=2, training=False)
    expected, _ = next(stored.as_numpy_iterator())
    frames = clips.inputs(options)["serving_default"]
    for _ in range(2):  # it can be read again and again
        np.testing.assert_array_equal(np.stack(list(frames)), expected)
    _check_records(clips, options)


@pytest.mark.parametrize("sampling", ["segments", "dense"])
def test_noise_in_all_forms(sampling):
    """A dense clip of so short a video goes round in it: not its frames in order."""
    options = ClipOptions(6, 32, 48, sampling=sampling)
    clips = random_clips(options, 2)
    assert clips.source == "random" and clips.data is None
    assert clips.ids == ["random 0", "random 1"]
    first, second = (tf.io.decode_jpeg(frames[0]).numpy() for frames in clips.jpegs)
    assert first.shape == (48, 64, 3) and (first != second).any()
    again = random_clips(options, 2)
    assert again.jpegs == clips.jpegs and again.records == clips.records
    assert random_clips(options, 1, seed=1).jpegs != clips.jpegs[:1]
    _check_records(clips, options)


def _check_records(clips, options):
    """The records hold the videos that the JPEG frames were chosen from."""
    inputs = clips.inputs(options)
    assert len(inputs["serve_example"]) == len(inputs["serve_jpeg"]) == 2
    for name, record, chosen in zip(
        clips.ids, inputs["serve_example"], inputs["serve_jpeg"], strict=True
    ):
        video = parse_record(tf.constant(record))
        assert video["id"].numpy().decode() == name
        frames = video["frames"].numpy()
        [indices] = clip_indices(len(frames), options.num_frames, options.sampling)
        assert chosen == [frames[i] for i in indices]
