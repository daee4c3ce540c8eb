"""Workers of the preparation that die: over a video, or for no fault of it."""

import hashlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.data.making_videos import make_class_folder
from tsi_keras.data import deadly_videos
from tsi_keras.data import preparation
from tsi_keras.data import shard_pool
from tsi_keras.data import shards as module
from tsi_keras.data.preparation import prepare
from tsi_keras.data.shards import PreparationError

ENCODE = module.encode_video


def shards(folder: Path) -> dict[str, str]:
    """SHA-256 of the TFRecord files."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob("*.tfrecord")
    }


def test_a_worker_killed_from_outside_condemns_no_video(tmp_path, capfd):
    source = make_class_folder(
        tmp_path / "videos", {"a": 6, "b": 6}, num_frames=150, size=(96, 128)
    )
    options = {"fps": None, "videos_per_shard": 1}
    state = tmp_path / "data" / ".prepare"

    def kill_one_worker() -> None:
        for _ in range(12_000):
            for note in state.glob("working-*"):
                os.kill(int(note.name.removeprefix("working-")), signal.SIGKILL)
                return
            time.sleep(0.005)

    killer = threading.Thread(target=kill_one_worker, daemon=True)
    killer.start()
    report = prepare(source, tmp_path / "data", workers=2, **options)
    killer.join()
    assert "a worker process died; decoding again" in capfd.readouterr().err
    assert (report.num_prepared, report.failures) == (12, [])
    assert list(state.glob("working-*")) == list(state.glob("*.tmp")) == []
    prepare(source, tmp_path / "other", workers=1, **options)
    assert shards(tmp_path / "data") == shards(tmp_path / "other")


def deadly_encode(entry, *arguments):
    """A decoder that does not survive one of the files."""
    if entry.path.name == "clip_1.mp4":
        os.kill(os.getpid(), signal.SIGSEGV)
    return ENCODE(entry, *arguments)


def deadly_write(*arguments):
    """`write_shard` with that decoder; runs in workers only."""
    module.encode_video = lambda entry, label, task, options: (
        ENCODE(entry, label, task, options)
        if dict(task.unusable).get(entry.id)
        else deadly_encode(entry, label, task, options)
    )
    return module.write_shard(*arguments)


@pytest.mark.parametrize("workers", [1, 2])
def test_videos_that_kill_their_worker_are_left_out(tmp_path, monkeypatch, workers):
    source = make_class_folder(tmp_path / "videos", {"a": 4, "b": 4})
    options = {"short_side": 24, "videos_per_shard": 2, "split": "1"}

    def write(*arguments, **named):
        named |= {"write": deadly_write, "encode": deadly_encode}
        return shard_pool.write_shards(*arguments, **named)

    monkeypatch.setattr(preparation, "write_shards", write)
    report = prepare(source, tmp_path / "data", workers=workers, **options)
    assert report.num_prepared == 6
    reason = "it killed its worker process, signal 11 (SIGSEGV)"
    assert {failure.id: failure.reason for failure in report.failures} == {
        "a/clip_1.mp4": reason,
        "b/clip_1.mp4": reason,
    }
    monkeypatch.undo()
    # The same bytes as if the two were damaged in the usual way.
    for name in "ab":
        (source / name / "clip_1.mp4").write_bytes(b"no video at all")
    prepare(source, tmp_path / "other", workers=1, **options)
    assert shards(tmp_path / "data") == shards(tmp_path / "other")


def test_workers_that_die_without_a_video_stop_the_run(tmp_path):
    suspects = deadly_videos.Suspects(tmp_path, None, None)
    with pytest.raises(PreparationError, match="a worker process died .*--resume"):
        suspects.examine([])


def test_deaths_over_and_over_stop_the_run(tmp_path):
    (tmp_path / ".prepare").mkdir()
    suspects = deadly_videos.Suspects(tmp_path, None, None)
    for attempt in range(4):
        (tmp_path / ".prepare" / f"working-{attempt}").write_text("a/big.mp4")
        if attempt < 3:
            suspects.examine([])
    with pytest.raises(PreparationError, match="one of: a/big.mp4; .*fewer --workers"):
        suspects.examine([])
