"""The preparation as a function: contents, determinism, resuming, refusals."""

import hashlib
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.data.making_videos import make_class_folder
from tests.data.making_videos import make_video
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.decoding import read_video
from tsi_keras.data.preparation import prepare
from tsi_keras.data.preparation_report import parse_max_failures
from tsi_keras.data.preparation_report import too_many_failures
from tsi_keras.data.records import parse_record
from tsi_keras.data.shards import PreparationError
from tsi_keras.utils.errors import InputError

SMALL = {"short_side": 24, "workers": 1}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Two classes of ten clips each."""
    return make_class_folder(
        tmp_path_factory.mktemp("videos"), {"jump": 10, "wave": 10}
    )


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every visible file."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


def read_all(folder: Path) -> list[dict]:
    """All records of a data set with their split."""
    info = load_dataset_info(folder)
    return [
        {"split": split} | {key: value.numpy() for key, value in parsed.items()}
        for split in info.splits
        for parsed in tf.data.TFRecordDataset(info.shard_paths(split)).map(parse_record)
    ]


def test_every_video_is_stored_once_with_its_label(videos, tmp_path):
    report = prepare(videos, tmp_path / "data", **SMALL)
    assert (report.num_videos, report.num_prepared, report.failures) == (20, 20, [])
    info = load_dataset_info(tmp_path / "data")
    assert info.class_names == ["jump", "wave"]
    assert {k: s.num_videos for k, s in info.splits.items()} == {
        "train": 16,
        "val": 2,
        "test": 2,
    }
    assert info.splits["val"].counts == {"jump": 1, "wave": 1}
    records = read_all(tmp_path / "data")
    assert len({record["id"] for record in records}) == 20
    for record in records:
        name = record["id"].decode().split("/")[0]
        assert info.class_names[record["label"]] == name
        assert record["class_name"].decode() == name


def test_stored_frames_are_the_decoded_frames(videos, tmp_path):
    prepare(videos, tmp_path / "data", **SMALL)
    record = read_all(tmp_path / "data")[0]
    video = read_video(videos / record["id"].decode(), short_side=24)
    assert record["num_frames"] == len(record["frames"]) == len(video.frames)
    image = Image.open(io.BytesIO(record["frames"][3]))
    assert (image.format, image.mode) == ("JPEG", "RGB")
    assert (
        (image.height, image.width) == (record["height"], record["width"]) == (24, 36)
    )
    error = np.abs(np.asarray(image, int) - video.frames[3])
    assert error.mean() < 3


def test_result_depends_neither_on_workers_nor_on_the_clock(videos, tmp_path):
    options = {"short_side": 24, "videos_per_shard": 3}
    prepare(videos, tmp_path / "one" / "data", workers=1, **options)
    prepare(videos, tmp_path / "two" / "data", workers=2, **options)
    first = digests(tmp_path / "one" / "data")
    assert len([name for name in first if name.endswith(".tfrecord")]) == 6 + 1 + 1
    assert first == digests(tmp_path / "two" / "data")


def test_seed_changes_the_order(videos, tmp_path):
    prepare(videos, tmp_path / "a", seed=1, **SMALL)
    prepare(videos, tmp_path / "b", seed=2, **SMALL)
    first, second = (load_dataset_info(tmp_path / name) for name in "ab")
    assert first.fingerprint != second.fingerprint


def test_shard_hashes_are_those_of_the_files(videos, tmp_path):
    report = prepare(videos, tmp_path / "data", **SMALL)
    found = digests(tmp_path / "data")
    for split in report.info.splits.values():
        for shard in split.shards:
            assert found[shard.name] == shard.sha256


def test_failures_are_reported_and_the_rest_is_stored(videos, tmp_path):
    source = tmp_path / "in put"
    shutil.copytree(videos, source)
    (source / "wave" / "empty.mp4").touch()
    (source / "wave" / "text <b>.mp4").write_text("no video")
    (source / "wave" / "notes.txt").write_text("no video")
    make_video(source / "jump" / "one frame ü.mp4", 1)
    report = prepare(source, tmp_path / "data", **SMALL)
    assert {failure.id: failure.reason for failure in report.failures} == {
        "jump/one frame ü.mp4": "it has 1 frame; at least 2 are needed",
        "wave/empty.mp4": "the file is empty (0 bytes)",
        "wave/text <b>.mp4": "it is not a readable video: Invalid data found when "
        "processing input",
    }
    assert report.skipped == [("wave/notes.txt", "not a video name")]
    assert len(read_all(tmp_path / "data")) == report.num_prepared == 20
    stored = json.loads(report.json_path.read_text(encoding="utf-8"))
    assert [row["id"] for row in stored["failures"]] == [f.id for f in report.failures]
    assert stored["totals"]["failed"] == 3
    page = report.html_path.read_text(encoding="utf-8")
    for words in (
        "Prepared 20 of 23",
        "one frame ü.mp4",
        "text &lt;b&gt;",
        "notes.txt",
    ):
        assert words in page


def test_losing_all_of_a_class_or_split_is_said(tmp_path):
    make_video(tmp_path / "a.mp4")
    (tmp_path / "bad.mp4").touch()
    rows = [
        "a.mp4,x,train,1",
        "a.mp4,y,train,2",
        "bad.mp4,y,val,3",
        "bad.mp4,z,train,4",
    ]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split,id", *rows]))
    report = prepare(tmp_path / "list.csv", tmp_path / "data", **SMALL)
    assert "every video of split 'val' failed" in report.notes
    assert "every video of class 'z' in 'train' failed" in report.notes
    with pytest.raises(InputError, match="holds no videos"):
        load_dataset_info(tmp_path / "data").shard_paths("val")


def test_nothing_usable_leaves_a_report_but_no_data_set(tmp_path):
    for name in ("a/1.mp4", "b/1.mp4"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True)
        path.touch()
    with pytest.raises(PreparationError, match="none of 2 videos .*0 bytes"):
        prepare(tmp_path / "videos", tmp_path / "data", **SMALL)
    assert (tmp_path / "data" / "report.html").exists()
    assert not (tmp_path / "data" / "dataset.json").exists()


def test_csv_splits_are_kept(videos, tmp_path):
    rows = ["path,label,split"]
    rows += [
        f"{videos}/jump/clip_{i}.mp4,jump,{'val' if i else 'train'}" for i in (0, 1)
    ]
    rows += [
        f"{videos}/wave/clip_{i}.mp4,wave,{'val' if i else 'train'}" for i in (0, 1)
    ]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    report = prepare(tmp_path / "list.csv", tmp_path / "data", **SMALL)
    by_split = {
        (r["split"], Path(r["id"].decode()).stem) for r in read_all(tmp_path / "data")
    }
    assert by_split == {("train", "clip_0"), ("val", "clip_1")}
    assert report.info.options["split"] == "as given in the input"


def test_output_is_never_written_over(videos, tmp_path):
    prepare(videos, tmp_path / "data", **SMALL)
    before = digests(tmp_path / "data")
    with pytest.raises(InputError, match="is not empty"):
        prepare(videos, tmp_path / "data", quality=50, **SMALL)
    assert digests(tmp_path / "data") == before
    prepare(videos, tmp_path / "data", quality=50, overwrite=True, **SMALL)
    assert digests(tmp_path / "data") != before


def test_overwrite_spares_folders_of_others(videos, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    for switch in ("overwrite", "resume"):
        with pytest.raises(InputError, match="holds no data set of this tool"):
            prepare(videos, tmp_path, **{switch: True}, **SMALL)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_output_must_not_touch_the_input(videos, tmp_path):
    with pytest.raises(InputError, match="lies inside"):
        prepare(videos, videos / "data", **SMALL)
    with pytest.raises(InputError, match="contains the input videos"):
        prepare(videos, videos.parent, overwrite=True, **SMALL)
    assert len(list(videos.rglob("*.mp4"))) == 20


def test_resume_redoes_only_what_is_missing_or_damaged(videos, tmp_path):
    options = SMALL | {"videos_per_shard": 4}
    prepare(videos, tmp_path / "data", **options)
    before = digests(tmp_path / "data")
    shards = sorted((tmp_path / "data").glob("train-*.tfrecord"))
    kept = shards[2].stat().st_mtime_ns
    shards[0].unlink()
    shards[1].write_bytes(shards[1].read_bytes()[:-5])
    (tmp_path / "data" / "dataset.json").unlink()
    leftover = tmp_path / "data" / ".prepare" / "train-x.tfrecord.1.tmp"
    leftover.touch()
    prepare(videos, tmp_path / "data", resume=True, **options)
    assert digests(tmp_path / "data") == before
    assert shards[2].stat().st_mtime_ns == kept
    assert not leftover.exists()


def test_resume_refuses_other_options_and_other_videos(videos, tmp_path):
    source = tmp_path / "videos"
    shutil.copytree(videos, source)
    prepare(source, tmp_path / "data", **SMALL)
    with pytest.raises(InputError, match="option `fps` was 12.0 .* is 6 now"):
        prepare(source, tmp_path / "data", fps=6, resume=True, **SMALL)
    make_video(source / "wave" / "new.mp4", seed=99)
    with pytest.raises(InputError, match="video 'wave/new.mp4' was added"):
        prepare(source, tmp_path / "data", resume=True, **SMALL)
    (source / "wave" / "new.mp4").unlink()
    os.utime(source / "wave" / "clip_0.mp4", (1, 1))
    with pytest.raises(InputError, match="'wave/clip_0.mp4' changed"):
        prepare(source, tmp_path / "data", resume=True, **SMALL)


def test_two_runs_do_not_share_a_folder(videos, tmp_path):
    from tsi_keras.data.preparation_state import locked

    prepare(videos, tmp_path / "data", **SMALL)
    with locked(tmp_path / "data"):
        with pytest.raises(InputError, match="by another process"):
            prepare(videos, tmp_path / "data", resume=True, **SMALL)


@pytest.mark.parametrize(
    "option, value",
    [
        ("fps", 0),
        ("fps", float("nan")),
        ("short_side", 0),
        ("quality", 101),
        ("min_frames", 0),
        ("videos_per_shard", 0),
        ("workers", 0),
        ("split", "1/1"),
    ],
)
def test_bad_options_write_nothing(videos, tmp_path, option, value):
    with pytest.raises(InputError, match=option):
        prepare(videos, tmp_path / "data", **{option: value})
    assert not (tmp_path / "data").exists()


def test_tolerated_failures():
    class Report:
        num_videos, failures = 40, [None, None]

    assert too_many_failures(Report, parse_max_failures("0"))
    assert too_many_failures(Report, parse_max_failures("1"))
    assert not too_many_failures(Report, parse_max_failures("2"))
    assert not too_many_failures(Report, parse_max_failures("0.05"))
    assert too_many_failures(Report, parse_max_failures("0.04"))
    for text in ("-1", "1.5", "few", "nan"):
        with pytest.raises(InputError, match="`--max-failures`"):
            parse_max_failures(text)


def test_real_clips(real_videos, tmp_path):
    for name, label in {
        "video_0.mov": "keyboard",
        "video_90.mov": "keyboard",
        "corrupted.mp4": "people",
        "mpeg4.avi": "people",
        "kinetics_arm_wrestling.mp4": "people",
        "flipping_a_pancake.mkv": "people",
    }.items():
        link = tmp_path / "videos" / label / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(real_videos / name)
    report = prepare(tmp_path / "videos", tmp_path / "data", short_side=64, workers=1)
    assert [failure.id for failure in report.failures] == ["people/corrupted.mp4"]
    assert "decoding failed after 28 of 50 frames" in report.failures[0].reason
    sizes = {
        r["id"].decode(): (r["height"], r["width"]) for r in read_all(tmp_path / "data")
    }
    assert len(sizes) == 5
    assert sizes["keyboard/video_0.mov"] == (64, 114)
    assert sizes["keyboard/video_90.mov"] == (114, 64)
