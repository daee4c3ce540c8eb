"""Data sets on remote storage: written, gone on with, read for training."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data.making_videos import make_class_folder
from tests.data.s3_storage import BUCKET
from tests.data.s3_storage import Storage
from tests.data.s3_storage import in_child
from tests.data.s3_storage import storage
from tsi_keras.data import remote
from tsi_keras.data import remote_output
from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.preparation import prepare
from tsi_keras.data.shards import PreparationError
from tsi_keras.data.verification import verify
from tsi_keras.utils.errors import InputError

OPTIONS = {"short_side": 24, "workers": 1, "videos_per_shard": 2, "split": "1"}
PUBLISH = remote_output.write_and_publish
CLIPS = ClipOptions(num_frames=4, crop_size=16, short_side=24)


@pytest.fixture(scope="module")
def s3() -> Storage:
    with storage() as running:
        yield running


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Two classes of three clips; one file is empty."""
    folder = make_class_folder(tmp_path_factory.mktemp("v"), {"jump": 3, "wave": 3})
    (folder / "wave" / "empty.mp4").touch()
    return folder


@pytest.fixture(scope="module")
def local(videos, tmp_path_factory) -> Path:
    """The data set as it is made locally."""
    folder = tmp_path_factory.mktemp("local") / "out"
    prepare(videos, folder, **OPTIONS)
    return folder


def shards(content: dict[str, bytes]) -> dict[str, bytes]:
    """The TFRecord files of a data set."""
    return {n: data for n, data in content.items() if n.endswith(".tfrecord")}


def local_shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.tfrecord")}


def write(source: str, output: str, **options) -> tuple:
    """Prepare, and say what the report says."""
    report = prepare(source, output, **OPTIONS | options)
    failures = [(failure.id, failure.reason) for failure in report.failures]
    return report.num_prepared, failures, str(report.html_path)


def write_remotely(source: str, output: str) -> tuple:
    """Prepare and read back, by TensorFlow and for training."""
    from tsi_keras.data.pipeline import make_dataset

    told = write(source, output)
    dataset = make_dataset(output, "train", CLIPS, batch_size=3, training=False)
    frames = np.concatenate([batch[0].numpy() for batch in dataset])
    return told, load_dataset_info(output).fingerprint, frames


def test_written_and_read_there_as_locally(s3, videos, local):
    from tsi_keras.data.pipeline import make_dataset

    output = f"s3://{BUCKET}/out"
    found = in_child(write_remotely, s3.settings(), str(videos), output)
    ((prepared, failures, page), fingerprint, frames), errors = found
    assert (prepared, page) == (6, f"{output}/report.html")
    assert failures == [("wave/empty.mp4", "the file is empty (0 bytes)")]
    content = s3.content("out")
    assert shards(content) == local_shards(local)
    assert {"dataset.json", "report.json", "report.html"} <= content.keys()
    assert fingerprint == load_dataset_info(local).fingerprint
    dataset = make_dataset(local, "train", CLIPS, batch_size=3, training=False)
    np.testing.assert_array_equal(frames, np.concatenate([b[0] for b in dataset]))
    assert errors == ""


def verify_remotely(output: str) -> tuple:
    """Check a data set, damage it, check it again; then read it only."""
    from tsi_keras.data.preparation_page import show_verification
    from tsi_keras.data.remote import read_bytes
    from tsi_keras.data.remote import remove
    from tsi_keras.data.remote import to_path
    from tsi_keras.data.remote import write_bytes

    folder = to_path(output)
    sound = verify(output, workers=1).to_json()
    first, second, *_ = sorted(load_dataset_info(output).shard_paths("train"))
    remove(to_path(first))
    write_bytes(to_path(second), read_bytes(to_path(second))[:-1])
    write_bytes(folder / "old.tfrecord", b"")
    damaged = verify(output, workers=2)
    show_verification(damaged)
    with pytest.raises(InputError, match="`--verify` http.* can only be read"):
        verify("http://localhost:1/out")
    return sound, damaged.to_json()


def test_verified_there_as_locally(s3, local):
    output = f"s3://{BUCKET}/checked"
    for path in local.iterdir():
        if path.is_file():
            s3.put(f"checked/{path.name}", path.read_bytes())
    (sound, damaged), _ = in_child(verify_remotely, s3.settings(), output)
    assert sound == verify(local, workers=1).to_json()
    (local / "verification.json").unlink()
    assert sound["sound"] and not damaged["sound"]
    found = {(item["check"], item["where"]) for item in damaged["findings"]}
    assert ("shard unreadable", "train-00000-of-00004.tfrecord") in found
    assert ("shard unreadable", "train-00001-of-00004.tfrecord") in found
    assert ("shard not listed", "old.tfrecord") in found
    content = s3.content("checked")
    assert json.loads(content["verification.json"])["findings"] == damaged["findings"]
    assert b"it cannot be read: it does not exist" in content["report.html"]


def test_remote_videos_make_the_same_shards(s3, videos, local, tmp_path):
    for path in videos.rglob("*.mp4"):
        s3.put(f"videos/{path.relative_to(videos).as_posix()}", path.read_bytes())
    s3.put("videos/wave/notes.txt", b"no video")
    source = f"s3://{BUCKET}/videos"
    told, _ = in_child(write, s3.settings(), source, str(tmp_path / "out"))
    assert told[:2] == (6, [("wave/empty.mp4", "the file is empty (0 bytes)")])
    assert local_shards(tmp_path / "out") == local_shards(local)
    skipped = json.loads((tmp_path / "out" / "report.json").read_text())["skipped"]
    assert skipped == [{"path": "wave/notes.txt", "reason": "not a video name"}]


def read_over_http(url: str, folder: str) -> tuple:
    """A list with addresses, a data set, and an output, all on `http://`."""
    report = prepare(f"{url}/list.csv", folder, **OPTIONS)
    with pytest.raises(InputError, match="http.* can only be read"):
        prepare(f"{url}/list.csv", f"{url}/out", **OPTIONS)
    with pytest.raises(InputError, match="cannot be listed"):
        prepare(url, folder + "2", **OPTIONS)
    ids = sorted(row["id"] for row in report.videos)
    return ids, [(failure.id, failure.reason) for failure in report.failures]


def test_lists_and_videos_over_http(s3, videos, tmp_path):
    for name in ("jump/clip_0.mp4", "wave/clip_0.mp4"):
        s3.put(f"web/{name}", (videos / name).read_bytes())
    url = f"{s3.url}/{BUCKET}/web"
    rows = ["path,label", "jump/clip_0.mp4,jump", f"{url}/wave/clip_0.mp4,wave"]
    s3.put("web/list.csv", "\n".join([*rows, "gone.mp4,wave"]).encode())
    found, _ = in_child(read_over_http, {}, url, str(tmp_path / "out"))
    assert found[0] == ["jump/clip_0.mp4", "wave/clip_0.mp4"]
    assert found[1] == [("gone.mp4", "the file does not exist")]


def publish_impatiently(*arguments, **named) -> dict:
    """`write_and_publish` with short pauses; runs in a worker process."""
    remote._FIRST_PAUSE = 0.01
    return PUBLISH(*arguments, **named)


def break_off(source: str, output: str) -> str:
    """Prepare until the connection fails for good."""
    remote_output.write_and_publish = publish_impatiently
    with pytest.raises(PreparationError) as caught:
        prepare(source, output, **OPTIONS)
    return str(caught.value)


def test_broken_off_and_resumed_gives_the_same_bytes(s3, videos, local):
    output = f"s3://{BUCKET}/resumed"
    s3.proxy.fail_on = b"train-00002-of"  # the third shard
    try:
        said, errors = in_child(break_off, s3.settings(), str(videos), output)
    finally:
        s3.proxy.fail_on = None
    assert f"writing {output}/train-00002-of-00004.tfrecord failed 4 times" in said
    assert "go on with --resume" in said
    assert errors.count("retry") == 3
    left = s3.content("resumed")
    # A worker may begin the fourth before it hears that the run is over.
    names = [f"train-0000{number}-of-00004.tfrecord" for number in range(4)]
    assert set(names[:2]) <= shards(left).keys() <= set(names) - {names[2]}
    assert "dataset.json" not in left
    settings = s3.settings()
    with pytest.raises(AssertionError, match="is not empty; nothing was written"):
        in_child(write, settings, str(videos), output)
    before = stamps(s3, "resumed")
    in_child(resume, settings, str(videos), output)
    content = s3.content("resumed")
    assert shards(content) == local_shards(local)
    assert "dataset.json" in content
    after = stamps(s3, "resumed")
    for name in shards(left):
        assert before[name] == after[name]  # not written again


def stamps(s3: Storage, prefix: str) -> dict:
    """When each object was written."""
    found = s3.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/")["Contents"]
    return {x["Key"].removeprefix(f"{prefix}/"): x["LastModified"] for x in found}


def resume(source: str, output: str) -> None:
    """Refuse other options, then go on."""
    with pytest.raises(InputError, match=f"`quality` was 90 in {output}"):
        prepare(source, output, resume=True, quality=50, **OPTIONS)
    prepare(source, output, resume=True, **OPTIONS)


def overwrite(source: str, output: str, foreign: str) -> None:
    """Replace a data set, and spare what is none."""
    with pytest.raises(InputError, match="holds no data set of this tool"):
        prepare(source, foreign, overwrite=True, **OPTIONS)
    prepare(source, output, overwrite=True, **OPTIONS | {"videos_per_shard": 6})


def test_overwrite_removes_the_old_shards_and_nothing_else(s3, videos, local):
    for path in local.rglob("*.*"):
        if path.is_file():
            s3.put(f"old/{path.relative_to(local).as_posix()}", path.read_bytes())
    s3.put("old/thesis.tex", b"precious")
    s3.put("foreign/thesis.tex", b"precious")
    places = (f"s3://{BUCKET}/old", f"s3://{BUCKET}/foreign")
    in_child(overwrite, s3.settings(), str(videos), *places)
    content = s3.content("old")
    assert len(shards(content)) == 2
    assert content["thesis.tex"] == b"precious"
    assert s3.content("foreign") == {"thesis.tex": b"precious"}


def command(s3: Storage, repository: Path, *arguments: object) -> tuple:
    """Run the command in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-m", "pipelines.prepare", *map(str, arguments)],
        cwd=repository,
        env=os.environ | s3.settings(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    return ended.returncode, ended.stdout, ended.stderr


def test_the_command_ends_with_its_own_exit_status(s3, videos, repository):
    output = f"s3://{BUCKET}/command"
    small = ["--short-side", 24, "--workers", 2, "--videos-per-shard", 2]
    arguments = ["--input", videos, "--output", output, "--split", "1", *small]
    status, out, err = command(s3, repository, *arguments)
    assert status == 1, err  # one video is empty
    assert f"prepared 6 of 7 videos; failures listed in {output}/report.html" in out
    assert "pure virtual" not in err
    assert "dataset.json" in s3.content("command")


@pytest.mark.slow
def test_the_command_tells_a_missing_bucket_in_one_line(s3, videos, repository):
    missing = ["--input", videos, "--output", "s3://no-such-bucket/x"]
    status, out, err = command(s3, repository, *missing)
    assert (status, out) == (2, "")
    assert "there is no such bucket" in err and err.count("\n") == 1
