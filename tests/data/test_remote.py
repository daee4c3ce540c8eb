"""Files on remote storage: transfers, refusals, cut connections."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data.making_videos import make_video
from tests.data.s3_storage import BUCKET
from tests.data.s3_storage import WHY_NOT
from tests.data.s3_storage import Storage
from tests.data.s3_storage import in_child
from tests.data.s3_storage import storage
from tsi_keras.data import remote
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.remote import RemoteError
from tsi_keras.data.remote import RemoteNotFound
from tsi_keras.data.remote import RemotePath
from tsi_keras.data.remote_plugin import load_file_system
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import check_output
from tsi_keras.utils.urls import is_remote

ROOT = RemotePath(f"s3://{BUCKET}")
NOWHERE = RemotePath("s3://no-such-bucket/folder")


@pytest.fixture(scope="module")
def s3() -> Storage:
    with storage() as running:
        yield running


def test_what_is_remote():
    for url in ("s3://b/k", "gs://b", "hdfs://host:9000/k", "http://h/k", "HTTPS://h"):
        assert is_remote(url)
    for path in ("data", "/data/s3", Path("s3://b/k"), "c://x", "s3:/b", ""):
        assert not is_remote(path)


def test_remote_paths():
    path = ROOT / "a" / "b.csv"
    assert (str(path), path.name, path.suffix) == (f"{ROOT}/a/b.csv", "b.csv", ".csv")
    assert str(path.parent) == f"{ROOT}/a"
    assert path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "a/b")
    assert remote.to_path(f"{ROOT}/a/") == ROOT / "a"
    assert remote.to_path("a") == Path("a").absolute()


def transfer(folder: Path) -> dict:
    """Everything one can do with files."""
    source = folder / "source.bin"
    source.write_bytes(os.urandom(3_000_000))
    there = ROOT / "a" / "ü +%20.bin"
    remote.upload(source, there)
    remote.write_bytes(ROOT / "a" / "b.txt", b"text")
    remote.write_bytes(ROOT / "a" / "empty", b"")
    back = remote.download(there, folder / "back.bin")
    with remote.local_copy(ROOT / "a" / "b.txt") as copy:
        copied = copy.read_bytes()
    remote.remove(ROOT / "a" / "b.txt")
    remote.remove(ROOT / "a" / "b.txt")
    return {
        "same": back.read_bytes() == source.read_bytes(),
        "copied": copied,
        "left": copy.exists(),
        "names": remote.list_names(ROOT / "a"),
        "root": remote.list_names(ROOT),
        "nothing": remote.list_names(ROOT / "nothing"),
        "size": remote.size_of(there),
        "exists": [remote.exists(ROOT / "a" / n) for n in ("empty", "b.txt", "")],
    }


def test_files_go_there_and_come_back(s3, tmp_path):
    found, output = in_child(transfer, s3.settings(), tmp_path)
    assert found == {
        "same": True,
        "copied": b"text",
        "left": False,
        "names": ["empty", "ü +%20.bin"],
        "root": ["a"],
        "nothing": [],
        "size": 3_000_000,
        "exists": [True, False, False],
    }
    assert output == ""


def test_a_listing_asks_about_no_single_object(s3):
    for index in range(150):
        s3.put(f"many/{index:03d}.mp4", b"")
    before = s3.proxy.requests
    names, _ = in_child(remote.list_names, s3.settings(), ROOT / "many")
    assert len(names) == 150
    assert s3.proxy.requests - before < 10


def refusals(folder: Path, place: RemotePath) -> list[str]:
    """What is said where nothing works."""
    source = folder / "source"
    source.write_bytes(b"x")
    actions = [
        lambda: remote.read_bytes(place / "x"),
        lambda: remote.download(place / "x", folder / "x"),
        lambda: remote.upload(source, place / "y"),
        lambda: remote.list_names(place),
        lambda: remote.exists(place / "x"),
        lambda: remote.size_of(place / "x"),
        lambda: load_dataset_info(str(place)),
    ]
    said = []
    for action in actions:
        with pytest.raises(RemoteError) as caught:
            action()
        assert not isinstance(caught.value, RemoteNotFound)
        said.append(str(caught.value))
    assert not (folder / "x").exists()
    return said


def test_a_missing_bucket_is_told(s3, tmp_path):
    said, output = in_child(refusals, s3.settings(), tmp_path, NOWHERE)
    for text in said:
        assert str(NOWHERE) in text and "there is no such bucket" in text
    assert output == ""  # no retries: they could not help


def test_wrong_credentials_are_told(s3, tmp_path):
    s3.put("x", b"x")
    with s3.checking_credentials() as right:
        content, _ = in_child(remote.read_bytes, s3.settings(**right), ROOT / "x")
        wrong = right | {"AWS_SECRET_ACCESS_KEY": "wrong"}
        said, output = in_child(refusals, s3.settings(**wrong), tmp_path, ROOT)
    assert content == b"x"
    for text in said:
        assert str(ROOT) in text and "access denied" in text
        assert "AWS_SECRET_ACCESS_KEY" in text
    assert output == ""


def test_a_missing_file_is_not_a_missing_bucket(s3):
    in_child(missing_file, s3.settings())


def missing_file() -> None:
    """Read what is not there."""
    with pytest.raises(RemoteNotFound, match=f"{ROOT}/none does not exist"):
        remote.read_bytes(ROOT / "none")
    with pytest.raises(InputError, match="holds no dataset.json"):
        load_dataset_info(str(ROOT / "none"))


def test_a_cut_connection_is_tried_again(s3, tmp_path):
    body = os.urandom(2_000_000)
    s3.put("big.bin", body)
    (tmp_path / "source").write_bytes(body)
    with s3.proxy.cutting(200_000, times=2):
        _, output = in_child(
            remote.download, s3.settings(), ROOT / "big.bin", tmp_path / "back"
        )
        assert s3.proxy.times == 0
    assert (tmp_path / "back").read_bytes() == body
    lines = output.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"retry 1 of 3 in 0.01 s: reading {ROOT}/big.bin: ")
    with s3.proxy.cutting(200_000, times=1):
        _, output = in_child(
            remote.upload, s3.settings(), tmp_path / "source", ROOT / "sent.bin"
        )
    assert s3.client.get_object(Bucket=BUCKET, Key="sent.bin")["Body"].read() == body
    assert s3.proxy.times == 0


def always_cut(folder: Path) -> list[str]:
    """Transfers that cannot come to an end."""
    (folder / "source").write_bytes(bytes(2_000_000))
    said = []
    for action in (
        lambda: remote.download(ROOT / "big.bin", folder / "half"),
        lambda: remote.upload(folder / "source", ROOT / "never.bin"),
    ):
        with pytest.raises(RemoteError) as caught:
            action()
        said.append(str(caught.value))
    assert not (folder / "half").exists()
    return said


def test_a_connection_that_is_always_cut_is_given_up(s3, tmp_path):
    s3.put("big.bin", bytes(2_000_000))
    with s3.proxy.cutting(200_000):
        said, output = in_child(always_cut, s3.settings(), tmp_path)
    assert f"reading {ROOT}/big.bin failed 4 times: " in said[0]
    assert f"writing {ROOT}/never.bin failed 4 times: " in said[1]
    assert all("curl" in text for text in said)  # the cause
    assert output.count("retry 3 of 3") == 2
    assert "never.bin" not in remote_keys(s3)


def remote_keys(s3: Storage) -> list[str]:
    """All keys of the bucket."""
    return [x["Key"] for x in s3.client.list_objects_v2(Bucket=BUCKET)["Contents"]]


def dead_end() -> str:
    """Ask where nobody listens."""
    with pytest.raises(RemoteError, match=f"listing {ROOT} failed 4 times") as caught:
        remote.list_names(ROOT)
    return str(caught.value)


def test_a_dead_server_is_not_an_empty_folder(s3):
    settings = s3.settings(S3_ENDPOINT="http://127.0.0.1:9")
    said, output = in_child(dead_end, settings)
    assert "connect" in said
    assert output.count("retry") == 3


def test_http_is_read_only():
    with pytest.raises(InputError, match="http.* can only be read"):
        remote.check_writable(RemotePath("http://host/data"))
    remote.check_writable(ROOT)


def test_outputs_of_other_commands_must_be_local(tmp_path):
    with pytest.raises(InputError, match="must be a local folder"):
        check_output("s3://bucket/run")
    assert check_output(tmp_path, inputs=[ROOT]) == tmp_path


def test_missing_tensorflow_io_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    with pytest.raises(InputError, match=r"s3://b/k needs tensorflow-io: pip install"):
        load_file_system("s3://b/k")


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_plugins_that_do_not_fit_are_told(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(tf.io.gfile, "get_registered_schemes", lambda: ["", "gs"])
    load_file_system("gs://b/k")
    with pytest.raises(InputError, match="has no file system for s3://.*2.16 and 2.17"):
        load_file_system("s3://b/k")


def local_only() -> list[str]:
    """Modules that a local data set must not load."""
    import tsi_keras.data.pipeline  # noqa: F401
    import tsi_keras.data.preparation  # noqa: F401

    with pytest.raises(InputError):
        load_dataset_info("nowhere")
    return sorted({"tensorflow_io", "apache_beam"} & sys.modules.keys())


def test_local_paths_load_no_plugin():
    assert in_child(local_only, {})[0] == []


def predicted_clips(url: str) -> tuple:
    """Clips as prediction reads them, and what it says of a missing one."""
    from tsi_keras.data.clip_options import ClipOptions
    from tsi_keras.data.decoding import VideoError
    from tsi_keras.evaluation.predict import read_clip
    from tsi_keras.evaluation.video_files import find_videos

    options = ClipOptions(num_frames=4, crop_size=16, short_side=24)
    [path] = find_videos([url])
    with pytest.raises(VideoError, match="does not exist"):
        read_clip(f"{url}.gone", options, fps=12.0)
    return str(path), read_clip(path, options, fps=12.0)


def test_a_remote_video_is_predicted_like_a_local_one(s3, tmp_path):
    video = make_video(tmp_path / "clip.mp4")
    s3.put("clip.mp4", video.read_bytes())
    url = f"{ROOT}/clip.mp4"
    (path, clip), _ = in_child(predicted_clips, s3.settings(), url)
    assert path == url
    np.testing.assert_array_equal(clip, predicted_clips_locally(video))


def predicted_clips_locally(path: Path) -> np.ndarray:
    """The clip of a local file."""
    from tsi_keras.data.clip_options import ClipOptions
    from tsi_keras.evaluation.predict import read_clip

    options = ClipOptions(num_frames=4, crop_size=16, short_side=24)
    return read_clip(path, options, fps=12.0)
