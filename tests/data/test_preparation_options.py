"""The options of a preparation: one set of defaults, one place that checks."""

import inspect
from dataclasses import FrozenInstanceError
from dataclasses import asdict

import pytest

from pipelines import prepare as command
from tsi_keras.data.frame_selection import Spread
from tsi_keras.data.preparation import prepare
from tsi_keras.data.preparation_options import PreparationOptions
from tsi_keras.utils.errors import InputError


def test_defaults_of_the_function_are_those_of_the_options():
    parameters = inspect.signature(prepare).parameters
    for name, default in asdict(PreparationOptions()).items():
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default == default


def test_every_argument_arrives_under_its_name(monkeypatch, tmp_path):
    values = {
        "format": "folders",
        "annotations": "a.csv",
        "labels": "b.txt",
        "split_number": 3,
        "frame_files": None,
        "split": "0.7/0.3",
        "seed": 4,
        "fps": 5.0,
        "frames": 6,
        "short_side": 7,
        "quality": 8,
        "min_frames": 1,
        "videos_per_shard": 9,
    }
    assert values.keys() == asdict(PreparationOptions()).keys()

    def stop(source, output, options):
        raise InterruptedError(options)

    monkeypatch.setattr("tsi_keras.data.preparation.read_job", stop)
    with pytest.raises(InterruptedError) as caught:
        prepare("videos", tmp_path, **values)
    assert caught.value.args == (PreparationOptions(**values),)


def test_the_command_has_the_same_defaults(monkeypatch, tmp_path):
    given = {}

    def take(source, output, **options):
        given.update(options)
        raise InputError("enough")

    monkeypatch.setattr(command, "prepare", take)
    with pytest.raises(InputError, match="enough"):
        command.main(["--input", "videos", "--output", str(tmp_path)])
    defaults = asdict(PreparationOptions())
    assert {name: given[name] for name in defaults} == defaults


@pytest.mark.parametrize(
    "change, message",
    [
        ({"split": "1/1"}, "`--split`"),
        ({"fps": 0}, "`fps` must be above 0 .* Received: 0"),
        ({"fps": float("nan")}, "`fps`"),
        ({"fps": 0, "frames": 4}, "`fps`"),
        ({"frames": 1}, "`frames` must be at least `min_frames`, 2. Received: 1"),
        ({"short_side": 0}, "`short_side`"),
        ({"quality": 101}, "`quality` must be from 1 to 100. Received: 101"),
        ({"min_frames": None}, "`min_frames`"),
        ({"videos_per_shard": 0}, "`videos_per_shard`"),
    ],
)
def test_values_that_cannot_work_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        PreparationOptions(**change)


def test_a_number_of_frames_takes_the_place_of_a_rate():
    record = PreparationOptions(frames=4).record
    assert (record.fps, record.frames, record.thinning) == (None, 4, Spread(4))
    assert PreparationOptions().record.thinning == PreparationOptions().fps


def test_options_cannot_change_afterwards():
    with pytest.raises(FrozenInstanceError):
        PreparationOptions().quality = 0
