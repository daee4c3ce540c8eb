"""`python -m pipelines.prepare` as a user runs it, and as a user kills it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines._command import run
from pipelines.prepare import main
from tests.data.making_videos import make_class_folder
from tests.data.making_videos import make_video
from tests.data.test_preparation import digests
from tsi_keras.data.preparation import prepare

SMALL = ["--short-side", "24", "--workers", "1"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return make_class_folder(tmp_path_factory.mktemp("videos"), {"jump": 3, "wave": 3})


def command(*arguments: object) -> list[str]:
    """Arguments for `main`."""
    return [str(argument) for argument in arguments]


def test_success_is_0_with_one_table(videos, tmp_path, capsys):
    arguments = command("--input", videos, "--output", tmp_path / "data", *SMALL)
    assert run(main, arguments) == 0
    out, err = capsys.readouterr()
    assert "train" in out
    assert "prepared 6 of 6 videos" in out
    assert err == ""


def test_failures_are_1_unless_tolerated(videos, tmp_path, capsys):
    source = tmp_path / "videos"
    shutil.copytree(videos, source)
    (source / "wave" / "bad.mp4").touch()
    arguments = command("--input", source, "--output", tmp_path / "data", *SMALL)
    assert run(main, arguments) == 1
    out, err = capsys.readouterr()
    assert "prepared 6 of 7 videos; failures listed in" in out
    assert "report.html" in out
    assert "failed: wave/bad.mp4: the file is empty (0 bytes)" in err
    assert (tmp_path / "data" / "dataset.json").exists()
    tolerated = [*arguments, "--resume", "--max-failures", "1"]
    assert run(main, tolerated) == 0


def test_nothing_usable_is_1(tmp_path, capsys):
    for name in "ab":
        (tmp_path / "videos" / name).mkdir(parents=True)
        (tmp_path / "videos" / name / "x.mp4").touch()
    arguments = command(
        "--input", tmp_path / "videos", "--output", tmp_path / "data", *SMALL
    )
    assert run(main, [*arguments, "--max-failures", "1.0"]) == 1
    assert "none of 2 videos could be prepared" in capsys.readouterr().err


@pytest.mark.parametrize(
    "layout, message",
    [
        ([], "holds no videos"),
        (["a.mp4"], "no class folders"),
        (["one/a.mp4"], "only one class"),
    ],
)
def test_bad_input_is_2_in_one_line(tmp_path, capsys, layout, message):
    source = tmp_path / "videos"
    source.mkdir()
    for name in layout:
        make_video(source / name)
    arguments = command("--input", source, "--output", tmp_path / "data")
    assert run(main, arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_output_that_cannot_be_created_is_2(videos, tmp_path, capsys):
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "data"
    assert run(main, command("--input", videos, "--output", output, *SMALL)) == 2
    assert "cannot be created" in capsys.readouterr().err


def test_output_that_is_a_file_is_2(videos, tmp_path, capsys):
    (tmp_path / "data").write_text("mine")
    arguments = command("--input", videos, "--output", tmp_path / "data", *SMALL)
    assert run(main, arguments) == 2
    assert "must be a folder" in capsys.readouterr().err
    assert (tmp_path / "data").read_text() == "mine"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--fps", "fast"],
        ["--workers", "two"],
        ["--no-such"],
        ["--resume", "--overwrite"],
    ],
)
def test_bad_usage_is_2(videos, tmp_path, arguments):
    with pytest.raises(SystemExit) as stop:
        main(command("--input", videos, "--output", tmp_path / "data", *arguments))
    assert stop.value.code == 2


def test_help_explains_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for word in ("--input", "--resume", "--max-failures", "exit status", "path,label"):
        assert word in text


def start(repository: Path, *arguments: object) -> subprocess.Popen:
    """Run the command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.prepare", *command(*arguments)],
        cwd=repository,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_a_script_is_not_run_again_by_its_workers(videos, repository, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(repository)!r})\n"
        "from tsi_keras.data.preparation import prepare\n"
        "print('begin', flush=True)\n"
        "for workers in (1, 2):\n"
        f"    output = {str(tmp_path)!r} + f'/{{workers}}'\n"
        f"    report = prepare({str(videos)!r}, output, workers=workers)\n"
        "    print(report.num_prepared)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "begin\n6\n6\n"), done.stderr


def wait_for_shards(process: subprocess.Popen, folder: Path, number: int) -> None:
    """Return as soon as `number` shards are finished; the process must still run."""
    deadline = time.monotonic() + 120
    while len(list(folder.glob("*.tfrecord"))) < number:
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_killed_twice_and_resumed_gives_the_same_bytes(repository, tmp_path):
    source = make_class_folder(
        tmp_path / "videos", {"a": 12, "b": 12}, num_frames=100, size=(96, 128)
    )
    options = {"fps": None, "short_side": 128, "videos_per_shard": 2}
    arguments = ["--input", source, "--output", tmp_path / "data", "--workers", 2]
    arguments += ["--fps", "all", "--short-side", 128, "--videos-per-shard", 2]
    folder = tmp_path / "data"
    prepare(source, tmp_path / "undisturbed" / "data", workers=1, **options)
    total = len(list((tmp_path / "undisturbed" / "data").glob("*.tfrecord")))

    first = start(repository, *arguments)
    wait_for_shards(first, folder, 1)
    os.kill(first.pid, signal.SIGKILL)  # only the parent: workers must follow it
    first.wait()
    finished = len(list(folder.glob("*.tfrecord")))
    assert 1 <= finished < total
    assert not (folder / "dataset.json").exists()

    second = start(repository, *arguments, "--resume")
    wait_for_shards(second, folder, finished + 2)
    os.killpg(second.pid, signal.SIGKILL)
    second.wait()
    assert len(list(folder.glob("*.tfrecord"))) < total
    assert not (folder / "dataset.json").exists()

    prepare(source, folder, workers=1, resume=True, **options)
    assert digests(folder) == digests(tmp_path / "undisturbed" / "data")
