"""The contact sheet of training clips, and its command."""

import numpy as np
import pytest
from PIL import Image

from pipelines import visualize
from tests.data.making_records import record
from tests.data.making_records import write_dataset
from tsi_keras.data import sample_sheet
from tsi_keras.data.augmentation_options import Augmentation
from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.data.sample_sheet import draw_samples
from tsi_keras.utils.command import run
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import read_json

SMALL = {"num_frames": 4, "crop_size": 16, "short_side": 24, "flip": "swap"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six videos, two of each class."""
    records = [record(video, 9) for video in range(6)]
    return write_dataset(tmp_path_factory.mktemp("data"), [records])


def drawn(monkeypatch, *arguments, **options):
    """The rows that a sheet is made of."""
    seen = []
    draw = sample_sheet._draw
    monkeypatch.setattr(
        sample_sheet, "_draw", lambda rows, path: seen.extend(rows) or draw(rows, path)
    )
    draw_samples(*arguments, **options)
    return seen


def test_rows_are_what_training_and_evaluation_show(data, tmp_path, monkeypatch):
    options = ClipOptions(**SMALL, augmentation=Augmentation(erasing=0.5))
    rows = drawn(monkeypatch, data, tmp_path / "s", options, videos=3, epochs=2, seed=5)
    assert [row["shown_in"] for row in rows] == ["epoch 1", "epoch 2", "evaluation"] * 3
    # One video of each class.
    assert [row["video"] for row in rows[::3]] == ["v0", "v1", "v2"]
    for number, name in ((0, "epoch 1"), (1, "epoch 2")):
        train = make_dataset(
            data, "train", options, batch_size=6, training=True, seed=5,
            repeat=True, first_epoch=number, with_ids=True,
        )  # fmt: skip
        frames, labels, ids = next(train.as_numpy_iterator())
        clips = dict(zip(ids, zip(frames, labels, strict=True), strict=True))
        for row in rows:
            if row["shown_in"] == name:
                clip, label = clips[row["video"].encode()]
                np.testing.assert_array_equal(row["frames"], clip)
                assert list(row["classes"]) == [["clap", "go left", "go right"][label]]
    test = make_dataset(data, "train", options, batch_size=3, training=False)
    frames, _ = next(test.as_numpy_iterator())
    for row, clip in zip(rows[2::3], frames, strict=True):
        np.testing.assert_array_equal(row["frames"], clip)


def test_files_and_mixed_labels(data, tmp_path):
    mixing = ClipOptions(**SMALL, augmentation=Augmentation(mixup=1.0))
    path = draw_samples(data, tmp_path / "out", mixing, videos=2, epochs=1)
    picture = Image.open(path)
    assert picture.width > 4 * 200 + 400 and picture.height > 4 * 200
    rows = read_json(path.with_name("samples.json"))["rows"]
    assert len(rows) == 4 and all("frames" not in row for row in rows)
    mixed = rows[0]["classes"]
    assert set(mixed) == {"clap", "go left"} or set(mixed) == {"clap", "go right"}
    assert sum(mixed.values()) == pytest.approx(1, abs=1e-3)
    assert rows[1]["classes"] == {"clap": 1.0}  # the evaluation's
    with pytest.raises(InputError, match="--overwrite"):
        draw_samples(data, tmp_path / "out", mixing, videos=2, epochs=1)
    draw_samples(data, tmp_path / "out", mixing, videos=2, epochs=1, overwrite=True)


def test_command(data, tmp_path, capsys):
    config = tmp_path / "recipe.yaml"
    config.write_text("data: {crop_size: 16, short_side: 24}\nmodel: {num_frames: 4}")
    given = ["samples", "--data", str(data), "--config", str(config), "--videos", "3"]
    given += ["--output", str(tmp_path / "out"), "--epochs", "1", "--data.hue=0.2"]
    assert run(visualize.main, given) == 0
    assert "samples.png" in capsys.readouterr().out
    assert (tmp_path / "out" / "samples.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--split", "test"], "test"),
        (["--videos", "0"], "`videos`"),
        (["--videos", "3", "--data.mixup=1.0"], "`videos` must be even"),
        (["--data.crop=five"], "`data.crop`"),
        (["--bogus"], "unknown argument --bogus"),
        (["--config", "nowhere.yaml"], "`--config` nowhere.yaml cannot be read"),
    ],
)
def test_bad_input_is_status_2(arguments, message, data, tmp_path, capsys):
    given = ["samples", "--data", str(data), "--output", str(tmp_path / "out")]
    assert run(visualize.main, [*given, *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "out").exists()
