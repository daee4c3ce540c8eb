"""Other ways to prepare: a number of frames, a dry run, a second try at failures."""

import json
import shutil
from pathlib import Path

import pytest

from pipelines._command import run
from pipelines.prepare import main
from tests.data.making_videos import make_class_folder
from tests.data.making_videos import make_video
from tests.data.test_preparation import digests
from tests.data.test_preparation import read_all
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.decoding import convert_video
from tsi_keras.data.decoding import read_video
from tsi_keras.data.frame_selection import Spread
from tsi_keras.data.preparation import prepare
from tsi_keras.data.preparation_estimate import estimate
from tsi_keras.data.verification import verify
from tsi_keras.utils.errors import InputError

SMALL = {"short_side": 24, "workers": 1}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Two classes of six clips each."""
    return make_class_folder(tmp_path_factory.mktemp("videos"), {"jump": 6, "wave": 6})


def mean_levels(frames) -> list[float]:
    return [float(frame.mean()) for frame in frames]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
@pytest.mark.parametrize(
    "frames, indices",
    [(1, [5]), (4, [1, 4, 6, 9]), (11, range(11)), (99, range(11))],
)
def test_a_number_of_frames_is_spread_evenly(tmp_path, name, frames, indices):
    path = make_video(tmp_path / name, 11)
    every = mean_levels(read_video(path, short_side=None, fps=None).frames)
    stream, some = convert_video(
        path, short_side=None, fps=Spread(frames), min_frames=1, convert=lambda x: x
    )
    assert mean_levels(some) == [every[i] for i in indices]
    assert stream.source_num_frames == 11
    assert len(some) / stream.fps == pytest.approx(11 / stream.source_fps)


def test_a_wrong_expectation_of_the_length_is_mended(tmp_path, monkeypatch):
    path = make_video(tmp_path / "a.mp4", 11)
    for wrong in (0, 9, 500):
        monkeypatch.setattr(
            "tsi_keras.data.decoding.expected_frames", lambda path, n=wrong: n
        )
        _, some = convert_video(
            path, short_side=None, fps=Spread(4), min_frames=1, convert=lambda x: x
        )
        assert len(some) == 4


def test_frames_are_stored_and_verified(videos, tmp_path):
    report = prepare(videos, tmp_path / "data", frames=4, **SMALL)
    assert {row["num_frames"] for row in report.videos} == {4}
    assert report.info.options["frames"] == 4
    assert report.info.options["fps"] is None
    assert verify(tmp_path / "data", workers=1).findings == []
    with pytest.raises(InputError, match="option `frames` was 4 .* is 5 now"):
        prepare(videos, tmp_path / "data", frames=5, resume=True, **SMALL)
    with pytest.raises(InputError, match="`frames` must be at least `min_frames`"):
        prepare(videos, tmp_path / "other", frames=1, **SMALL)


def test_dry_run_estimates_and_writes_nothing(videos, tmp_path):
    source = tmp_path / "videos"
    shutil.copytree(videos, source)
    (source / "wave" / "bad.mp4").touch()
    before = sorted(tmp_path.rglob("*"))
    cost = estimate(source, tmp_path / "data", **SMALL)
    assert sorted(tmp_path.rglob("*")) == before
    assert (cost.num_videos, cost.num_classes, cost.num_tried) == (13, 2, 13)
    assert [failure.id for failure in cost.unreadable] == ["wave/bad.mp4"]
    report = prepare(source, tmp_path / "data", **SMALL)
    assert cost.bytes.low == cost.bytes.high  # all were tried
    assert cost.bytes.middle == pytest.approx(report.totals()["bytes"], rel=0.01)
    assert 0 < cost.seconds.middle < 60


def test_dry_run_draws_the_same_sample_for_a_seed(videos, tmp_path):
    few = [estimate(videos, tmp_path / "x", sample=3, **SMALL) for _ in range(2)]
    assert few[0].bytes == few[1].bytes
    assert few[0].bytes.low < few[0].bytes.middle < few[0].bytes.high
    with pytest.raises(InputError, match="`sample`"):
        estimate(videos, tmp_path / "x", sample=0)


def test_dry_run_of_the_command(videos, tmp_path, capsys):
    output = tmp_path / "data"
    arguments = ["--input", str(videos), "--output", str(output), "--dry-run", "3"]
    assert run(main, arguments) == 0
    assert "size of the shards" in capsys.readouterr().out
    assert not output.exists()


@pytest.fixture
def mixed(videos, tmp_path) -> Path:
    """Sixteen videos of which four are broken."""
    source = tmp_path / "videos"
    shutil.copytree(videos, source)
    for label in ("jump", "wave"):
        for name in ("x", "y"):
            (source / label / f"{name}.mp4").touch()
    return source


def mend(source: Path, *names: str) -> None:
    for seed, name in enumerate(names, 100):
        make_video(source / name, seed=seed)


def test_only_failed_videos_are_tried_again(mixed, tmp_path):
    data = tmp_path / "data"
    first = prepare(mixed, data, **SMALL)
    before = {path.name: path.stat() for path in data.glob("*.tfrecord")}
    mend(mixed, "jump/x.mp4", "wave/x.mp4")
    report = prepare(mixed, data, retry_failed=True, **SMALL)
    assert (first.num_prepared, report.num_prepared) == (12, 14)
    assert [f.id for f in report.failures] == ["jump/y.mp4", "wave/y.mp4"]
    for name, status in before.items():
        assert (data / name).stat().st_mtime_ns == status.st_mtime_ns
    added = {row["id"]: row["shard"] for row in report.videos if "x.mp4" in row["id"]}
    assert set(added) == {"jump/x.mp4", "wave/x.mp4"}
    assert all(".retry1-" in shard for shard in added.values())
    split = {failure.id: failure.split for failure in first.failures}
    assert {r["id"]: r["split"] for r in report.videos if r["id"] in added} == {
        name: split[name] for name in added
    }
    assert any("added by --retry-failed" in note for note in report.notes)
    assert len({record["id"] for record in read_all(data)}) == 14
    assert verify(data, workers=1).is_sound


def test_failures_can_be_tried_again_and_again_and_resumed(mixed, tmp_path):
    data = tmp_path / "data"
    prepare(mixed, data, **SMALL)
    mend(mixed, "jump/x.mp4")
    prepare(mixed, data, retry_failed=True, **SMALL)
    mend(mixed, "wave/y.mp4")
    last = prepare(mixed, data, retry_failed=True, **SMALL)
    assert last.num_prepared == 14
    whole = digests(data)
    (data / "dataset.json").unlink()
    retried = sorted(data.glob("*.retry2-*"))
    retried[0].unlink()  # as if killed in the second try
    with pytest.raises(InputError, match="not finished; finish it with --resume"):
        prepare(mixed, data, retry_failed=True, **SMALL)
    prepare(mixed, data, resume=True, **SMALL)
    assert digests(data) == whole


def test_a_first_try_without_any_success_can_be_mended(tmp_path):
    source = tmp_path / "videos"
    for name in ("a/1.mp4", "b/1.mp4"):
        (source / name).parent.mkdir(parents=True)
        (source / name).touch()
    with pytest.raises(RuntimeError, match="none of 2"):
        prepare(source, tmp_path / "data", **SMALL)
    mend(source, "a/1.mp4", "b/1.mp4")
    report = prepare(source, tmp_path / "data", retry_failed=True, **SMALL)
    assert report.num_prepared == 2
    assert load_dataset_info(tmp_path / "data").num_classes == 2


def test_what_cannot_be_tried_again_is_refused(mixed, videos, tmp_path):
    with pytest.raises(InputError, match="holds no preparation"):
        prepare(videos, tmp_path / "data", retry_failed=True, **SMALL)
    assert not (tmp_path / "data").exists()
    prepare(mixed, tmp_path / "data", **SMALL)
    before = digests(tmp_path / "data")
    mend(mixed, "wave/x.mp4")
    for change, message in (
        ({"fps": 6}, "option `fps` was 12.0"),
        ({"seed": 1}, "option `seed` was 0"),
        ({"resume": True}, "goes with neither"),
    ):
        with pytest.raises(InputError, match=message):
            prepare(mixed, tmp_path / "data", retry_failed=True, **SMALL | change)
    mend(mixed, "wave/clip_0.mp4")  # was stored: its shard would be out of date
    with pytest.raises(InputError, match="'wave/clip_0.mp4' changed"):
        prepare(mixed, tmp_path / "data", retry_failed=True, **SMALL)
    (mixed / "wave" / "clip_0.mp4").unlink()
    with pytest.raises(InputError, match="'wave/clip_0.mp4' disappeared"):
        prepare(mixed, tmp_path / "data", retry_failed=True, **SMALL)
    assert digests(tmp_path / "data") == before


def test_nothing_failed_nothing_to_try(videos, tmp_path):
    prepare(videos, tmp_path / "data", **SMALL)
    with pytest.raises(InputError, match="no video of .* failed"):
        prepare(videos, tmp_path / "data", retry_failed=True, **SMALL)
    assert (tmp_path / "data" / "dataset.json").exists()


def test_verify_after_preparing_and_alone(videos, tmp_path, capsys):
    output = ["--output", str(tmp_path / "data")]
    arguments = ["--input", str(videos), "--short-side", "24", "--workers", "1"]
    assert run(main, arguments + output + ["--verify"]) == 0
    assert "verified 12 videos in 3 shards: 0 errors" in capsys.readouterr().out
    page = (tmp_path / "data" / "report.html").read_text(encoding="utf-8")
    assert "12 videos in 3 shards read and decoded: 0 errors" in page
    next((tmp_path / "data").glob("train-*")).unlink()
    assert run(main, [*output, "--verify", "--workers", "1"]) == 1
    assert "error: shard unreadable (1 times)" in capsys.readouterr().err
    page = (tmp_path / "data" / "report.html").read_text(encoding="utf-8")
    assert "shard unreadable" in page
    assert "0 errors" not in page
    found = json.loads((tmp_path / "data" / "verification.json").read_text())
    assert found["sound"] is False


def test_verify_needs_a_finished_data_set(tmp_path):
    assert run(main, ["--output", str(tmp_path), "--verify"]) == 2
