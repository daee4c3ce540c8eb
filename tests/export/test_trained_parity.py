"""Acceptance: trained networks in every format against Keras, on the demo's test videos.

Set TSI_TRAINED_MODELS to the output folder of `tests.export.trained_exports` to use what
was trained there; otherwise each network is trained first, for minutes.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.tiny import write_dataset
from tests.export import trained_models
from tests.export.trained_exports import exports_of
from tests.export.trained_exports import rows_of
from tests.export.trained_models import COLOURS
from tests.export.trained_models import MODELS
from tests.export.trained_models import labelled_by_colour
from tests.export.trained_models import make_demo_data
from tests.export.trained_models import trained_model
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.evaluation.protocols import clip_options

# Top-1 on the test split that proves a training; chance is 1/14, and 1/6 of colours.
LEARNED = {"tsi": 0.6, "tsn": 0.6, "tsm": 0.6, "tea": 0.4, "mobilenet_v3": 0.6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where data and runs are, or will be."""
    given = os.environ.get("TSI_TRAINED_MODELS")
    return Path(given) if given else tmp_path_factory.mktemp("trained")


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_exports_of_trained_networks_agree(name, folder):
    model, data = trained_model(name, make_demo_data(folder), folder)
    assert top1(model, data) >= LEARNED[name]
    reports = exports_of(model, data)
    for weights, report in reports.items():
        assert len(report["clips"]) == load_dataset_info(data).splits["test"].num_videos
        assert {"serving_default", "serve_jpeg", "serve_example"} == set(
            report["signatures"]
        )
        for figures in report["signatures"].values():
            if weights == "float32":
                assert figures["max_difference"] <= 1e-4
            assert figures["top1_agreement"] >= 0.99
    files = reports["float32"]["tflite"]
    assert files["float32"]["max_difference"] <= 1e-4
    assert files["float16"]["top1_agreement"] >= 0.99
    assert files["dynamic"]["top1_agreement"] >= 0.98
    assert files["int8"]["top1_agreement"] >= 0.95
    assert reports["float32"]["onnx"]["onnx"]["max_difference"] <= 1e-4
    rows = rows_of(name, reports)
    assert [row["export"] for row in rows].count("Keras") == 1
    assert len(rows) == 1 + 3 * 3 + 4 + 1


def top1(model, data):
    """Share of the test videos that a model classifies rightly."""
    clips = make_dataset(
        data, "test", clip_options(model), batch_size=16, training=False
    )
    right = [
        model.predict_on_batch(frames).argmax(axis=1) == labels
        for frames, labels in clips.as_numpy_iterator()
    ]
    return np.concatenate(right).mean()


def test_colours_are_told_by_any_frame(tmp_path):
    """The same videos with other labels; what is there is not made again."""
    frames = [np.zeros((3, 48, 64, 3), np.uint8) for _ in COLOURS]
    shown = [(2, 0, 0), (2, 2, 0), (0, 2, 0), (0, 2, 2), (0, 0, 2), (2, 0, 2)]
    for video, colour in zip(frames, shown, strict=True):
        video[:] = 40 + 60 * np.array(colour)
        assert trained_models._colour(video) == COLOURS[shown.index(colour)]
    data = write_dataset(tmp_path / "data", range(6), frames=frames)
    folder = labelled_by_colour(data, tmp_path / "colours")
    assert labelled_by_colour(tmp_path / "nowhere", folder) == folder
    info = load_dataset_info(folder)
    assert info.class_names == [*COLOURS]
    assert info.splits["val"].counts == dict.fromkeys(COLOURS, 1)
    options = trained_models.clip_options(
        trained_models.load_config(trained_models.REPOSITORY / "configs/demo_tsn.yaml")
    )
    read = dict(batch_size=6, training=False, with_ids=True)
    before, _, ids = next(iter(make_dataset(data, "val", options, **read)))
    after, labels, same_ids = next(iter(make_dataset(folder, "val", options, **read)))
    np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(ids, same_ids)
    assert labels.numpy().tolist() == list(range(6))
