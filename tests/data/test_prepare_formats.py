"""From published layouts to records: right labels, right frames, nothing lost unsaid."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipelines._command import run
from pipelines.prepare import main
from tests.data.making_annotations import something_v2
from tests.data.making_annotations import touch
from tests.data.making_annotations import write
from tests.data.making_videos import make_video
from tests.data.test_raw_frames import make_frames
from tsi_keras.data.annotations import FrameFiles
from tsi_keras.data.annotations import scan
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.decoding import read_video
from tsi_keras.data.preparation import prepare
from tsi_keras.data.records import parse_record
from tsi_keras.utils.errors import InputError

SMALL = {"short_side": 24, "workers": 1}


def records(folder: Path) -> dict[str, dict]:
    """Records of a data set by the id of their video."""
    info = load_dataset_info(folder)
    found = {}
    for split in info.splits:
        if not info.splits[split].num_videos:
            continue
        data = tf.data.TFRecordDataset(info.shard_paths(split)).map(parse_record)
        for record in data.as_numpy_iterator():
            found[record["id"].decode()] = record | {"split": split}
    return found


def pixels(record: dict) -> np.ndarray:
    """The stored frames, int16 to be subtracted."""
    images = [Image.open(io.BytesIO(data)) for data in record["frames"]]
    return np.stack([np.asarray(image, np.int16) for image in images])


@pytest.fixture
def kinetics(tmp_path) -> Path:
    """Two whole online videos, one trimmed, one missing, one shorter than its part."""
    videos = tmp_path / "videos"
    make_video(videos / "AAAAAAAAAAA.mp4", 60, seed=1)  # 5 seconds
    make_video(videos / "wave" / "BBBBBBBBBBB_000010_000020.mp4", 24, seed=2)
    make_video(videos / "CCCCCCCCCCC.mp4", 24, seed=3)
    rows = [
        "label,youtube_id,time_start,time_end,split,is_cc",
        "zoom,AAAAAAAAAAA,1,3,train,0",
        "wave,AAAAAAAAAAA,3,5,train,0",
        "wave,BBBBBBBBBBB,10,20,validate,0",
        "wave,CCCCCCCCCCC,95,105,train,0",
        "gone,DDDDDDDDDDD,1,11,train,0",
    ]
    write(tmp_path / "kinetics.csv", "\r\n".join(rows))
    return tmp_path


def test_parts_of_kinetics_videos_are_what_is_stored(kinetics, tmp_path):
    report = prepare(
        kinetics / "videos",
        tmp_path / "data",
        annotations=kinetics / "kinetics.csv",
        **SMALL,
    )
    found = records(tmp_path / "data")
    assert sorted(found) == [
        "AAAAAAAAAAA_000001_000003",
        "AAAAAAAAAAA_000003_000005",
        "BBBBBBBBBBB_000010_000020",
    ]
    part = found["AAAAAAAAAAA_000001_000003"]
    path = kinetics / "videos" / "AAAAAAAAAAA.mp4"
    expected = read_video(path, short_side=24, start=1, end=3)
    assert part["source_num_frames"] == part["num_frames"] == 24
    assert np.abs(pixels(part) - np.stack(expected.frames)).mean() < 3
    assert found["BBBBBBBBBBB_000010_000020"]["num_frames"] == 24
    assert report.info.class_names == ["gone", "wave", "zoom"]
    assert (part["label"], part["class_name"], part["split"]) == (2, b"zoom", "train")


def test_missing_and_wrong_parts_are_reported(kinetics, tmp_path):
    report = prepare(
        kinetics / "videos",
        tmp_path / "data",
        annotations=kinetics / "kinetics.csv",
        **SMALL,
    )
    assert [(f.id, f.reason) for f in report.failures] == [
        (
            "CCCCCCCCCCC_000095_000105",
            "its part from 95 to 105 seconds starts after the end of the video, which "
            "has 2 seconds",
        )
    ]
    assert dict(report.skipped)["DDDDDDDDDDD_000001_000011"].endswith(
        "kinetics.csv line 6, but there is no such video"
    )
    assert any("1 of 5 listed videos" in note for note in report.notes)


def test_a_changed_part_is_another_preparation(kinetics, tmp_path):
    """--resume must not mix parts of one kind with parts of another."""
    path = write_list(kinetics, tmp_path, end=3)
    prepare(path, tmp_path / "data", **SMALL)
    prepare(path, tmp_path / "data", resume=True, **SMALL)
    write_list(kinetics, tmp_path, end=4)
    with pytest.raises(InputError, match="the input is not the same"):
        prepare(path, tmp_path / "data", resume=True, **SMALL)


def write_list(videos: Path, folder: Path, end: float) -> Path:
    path = videos / "videos" / "AAAAAAAAAAA.mp4"
    text = f"path,label,start,end,id\n{path},a,0,{end},1\n{path},b,2,5,2\n"
    return write(folder / "list.csv", text)


def test_labels_are_the_official_numbers(tmp_path):
    root = something_v2(tmp_path / "v2")
    for path in (root / "20bn-something-something-v2").iterdir():
        make_video(path.with_suffix(".mkv")).rename(path)
    report = prepare(root, tmp_path / "data", **SMALL)
    found = records(tmp_path / "data")
    assert {name: int(record["label"]) for name, record in found.items()} == {
        "78687": 1,
        "42326": 0,
    }
    assert report.info.class_names[2] == "Unused class"
    assert report.info.splits["train"].counts["Unused class"] == 0
    labels = root / "labels" / "something-something-v2-labels.json"
    numbers = json.loads(labels.read_text())
    first, second, *_ = numbers
    numbers[first], numbers[second] = numbers[second], numbers[first]
    labels.write_text(json.dumps(numbers))
    with pytest.raises(InputError, match="option `classes` was"):
        prepare(root, tmp_path / "data", resume=True, **SMALL)


def test_raw_frame_folders_become_records(tmp_path):
    root = tmp_path / "frames"
    images = make_frames(root / "wave" / "a", "img_{:05d}.png", range(1, 25))
    make_frames(root / "jump" / "b", "img_{:05d}.png", range(1, 25))
    make_frames(root / "jump" / "c", "img_{:05d}.png", [1, 2, 4])
    files = FrameFiles("img_{:05d}.png", first=1, fps=24.0)
    report = prepare(
        root, tmp_path / "data", frame_files=files, fps=12, short_side=None, workers=1
    )
    assert [(f.id, f.reason) for f in report.failures] == [
        ("jump/c", "1 of its 4 frames are missing: number 3")
    ]
    stored = records(tmp_path / "data")["wave/a"]
    assert (stored["num_frames"], stored["fps"], stored["source_fps"]) == (12, 12, 24)
    assert np.abs(pixels(stored) - np.stack(images[::2])).mean() < 4


def test_a_list_is_written_edited_and_fed_back(kinetics, tmp_path, capsys):
    path = tmp_path / "list.csv"
    arguments = ["--input", kinetics / "videos", "--write-manifest", path]
    arguments += ["--annotations", kinetics / "kinetics.csv"]
    assert run(main, [str(argument) for argument in arguments]) == 0
    out, err = capsys.readouterr()
    assert "4 videos of 3 classes (1 entries left out), read as kinetics" in out
    assert "no such video" in err
    lines = path.read_text().splitlines()
    assert lines[0] == "path,label,split,group,id,start,end"
    path.write_text("\n".join(line for line in lines if "CCCCCCCCCCC" not in line))
    again = ["--input", path, "--output", tmp_path / "data", "--short-side", 24]
    assert run(main, [str(argument) for argument in (*again, "--workers", 1)]) == 0
    assert len(records(tmp_path / "data")) == 3
    assert load_dataset_info(tmp_path / "data").class_names[0] == "gone"


def test_usage_of_the_list_options(tmp_path, capsys):
    touch(tmp_path, "a/1/1.png", "b/1/1.png")
    target = str(tmp_path / "list.jsonl")
    with pytest.raises(SystemExit, match="2"):
        main(["--write-manifest", target])
    assert "required: --input" in capsys.readouterr().err
    command = ["--input", str(tmp_path), "--write-manifest", target]
    assert run(main, command) == 2
    assert "give --frame-fps" in capsys.readouterr().err
    command += ["--frame-fps", "10", "--frame-pattern", "%d.png", "--first-frame", "1"]
    assert run(main, command) == 0
    assert scan(target).entries[0].frames == FrameFiles("%d.png", 1, None, 10.0)
    assert run(main, command) == 2
    assert "exists; nothing was written" in capsys.readouterr().err
