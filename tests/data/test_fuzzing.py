"""Damaged files by the hundred, and a very long one: reported, bounded, no leaks."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from tests.data.damaging import damage
from tests.data.making_videos import make_video
from tsi_keras.data import video_container
from tsi_keras.data.decoding import VideoError
from tsi_keras.data.decoding import read_video
from tsi_keras.data.verification import verify


def prepare_command(repository: Path, source: Path, output: Path, *more: object):
    """Run the command in a session of its own; give it and its process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.prepare"]
        + ["--input", str(source), "--output", str(output), "--max-failures", "1.0"]
        + [str(item) for item in more],
        cwd=repository,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    _, errors = process.communicate(timeout=1800)
    return process, errors.decode()


def left_behind(session: int) -> list[str]:
    """Processes of a session that are still there half a minute after its end."""
    for _ in range(300):
        if not (found := processes_of_session(session)):
            break
        time.sleep(0.1)
    return found


def processes_of_session(session: int) -> list[str]:
    """Processes that are there now, by /proc."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[3]) == session:
            found.append(status.parent.name)
    return found


def check_all_reported(source: Path, output: Path) -> dict:
    """Every file is stored or failed with a reason; the data set is sound."""
    report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    files = {p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()}
    stored = {row["id"] for row in report["videos"]}
    failed = {row["id"]: row["reason"] for row in report["failures"]}
    assert stored | failed.keys() == files
    assert not stored & failed.keys()
    assert all(reason for reason in failed.values())
    assert not [reason for reason in failed.values() if reason.startswith("unexpected")]
    wrong = {
        kind
        for severity, kind in verify(output, workers=1).found
        if severity == "error"
    }
    assert wrong <= {"same content in two splits"}  # damage that no frame shows
    return failed


@pytest.fixture
def whole(tmp_path) -> Path:
    """Two classes with two whole clips each, in two containers."""
    for label in ("jump", "wave"):
        for name, codec in (("a.mp4", "libx264"), ("b.avi", "mpeg4")):
            make_video(tmp_path / "videos" / label / name, 24, codec=codec)
    return tmp_path / "videos"


def test_damaged_files_are_all_reported(repository, whole, tmp_path):
    for clip in sorted(whole.rglob("*.*")):
        damage(clip, clip.parent, 16)
    process, errors = prepare_command(
        repository, whole, tmp_path / "data", "--short-side", 24, "--workers", 2
    )
    assert process.returncode == 0, errors
    failed = check_all_reported(whole, tmp_path / "data")
    assert len(failed) >= 32
    assert left_behind(process.pid) == []


def test_frames_of_damaged_size_are_not_decoded(tmp_path, monkeypatch):
    path = make_video(tmp_path / "a.mp4", 4)
    monkeypatch.setattr(video_container, "MOST_PIXELS", 32 * 48 - 1)
    with pytest.raises(
        VideoError, match="its frames are 48x32 pixels; more than 1,535"
    ):
        read_video(path)
    monkeypatch.setattr(video_container, "MOST_PIXELS", 100_000)
    assert len(read_video(path).frames) == 4


@pytest.mark.slow
def test_fifty_mutations_of_every_real_clip(repository, real_videos, tmp_path):
    source = tmp_path / "videos"
    clips = [path for path in sorted(real_videos.iterdir()) if path.suffix != ".md"]
    for number, clip in enumerate(clips):
        damage(clip, source / f"class {number}", 50)
    process, errors = prepare_command(
        repository, source, tmp_path / "data", "--short-side", 64, "--workers", 2
    )
    assert process.returncode == 0, errors
    failed = check_all_reported(source, tmp_path / "data")
    print(f"{len(failed)} of {50 * len(clips)} damaged files failed")
    assert left_behind(process.pid) == []


# What a worker process does, in one that can be measured.
_PEAK = """
import resource, sys
from pathlib import Path
from tsi_keras.data.preparation_job import read_job
from tsi_keras.data.preparation_options import PreparationOptions
from tsi_keras.data.shards import STATE_FOLDER, write_shard
source, output = map(Path, sys.argv[1:])
job = read_job(source, output, PreparationOptions(short_side=64))
(output / STATE_FOLDER).mkdir(parents=True)
for task in job.tasks():
    sidecar = write_shard(task, output, job.record, lambda video: None)
    assert not sidecar["failures"], sidecar["failures"]
    print([row["num_frames"] for row in sidecar["videos"]])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_memory(source: Path, output: Path) -> int:
    """Megabytes that preparing `source` takes at most, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(source), str(output)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


def make_long_video(path: Path, seconds: int) -> None:
    """One frame in colour, 96x64, at 25 a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for index in range(25 * seconds):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.slow
def test_memory_is_bounded_on_a_video_of_two_hours(tmp_path):
    for name, seconds in (("short", 2), ("long", 7200)):
        source = tmp_path / name
        make_long_video(source / "a" / "clip.mp4", seconds)
        make_video(source / "b" / "clip.mp4", 24)
    short = peak_memory(tmp_path / "short", tmp_path / "data_short")
    long = peak_memory(tmp_path / "long", tmp_path / "data_long")
    size = sum(p.stat().st_size for p in (tmp_path / "data_long").glob("*.tfrecord"))
    print(f"peak {short} MB for 2 s, {long} MB for 2 h, records of {size / 1e6:.0f} MB")
    # 180,000 decoded frames would be 3.3 GB. What is held are the compressed frames,
    # once more as a record, and the file's index.
    assert long < short + 3 * size / 1e6 + 100
