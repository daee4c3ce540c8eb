"""Kinetics lists: parts of online videos, many of them gone."""

import pytest

from tests.data.making_annotations import kinetics
from tests.data.making_annotations import refused
from tests.data.making_annotations import touch
from tests.data.making_annotations import write
from tsi_keras.data.annotations import scan
from tsi_keras.utils.errors import InputError


def test_kinetics_files_under_all_their_names(tmp_path):
    found = scan(kinetics(tmp_path))
    assert found.format == "kinetics"
    rows = {
        entry.id: (entry.path.name, entry.split, entry.start, entry.end)
        for entry in found.entries
    }
    assert rows == {
        "-0aBcDeFgHi_000082_000092": (
            "-0aBcDeFgHi_000082_000092.mp4",
            "train",
            None,
            None,
        ),
        "--Xy_9zAbCd_000003_000013": (
            "--Xy_9zAbCd_000003_000013.mp4",
            "train",
            None,
            None,
        ),
        "AAAAAAAAAAA_000000_000010": ("AAAAAAAAAAA.mkv", "val", 0, 10),
        "BBBBBBBBBBB_000100_000110": ("BBBBBBBBBBB.mp4", "train", 100, 110),
        "CCCCCCCCCCC_000005_000015": ("CCCCCCCCCCC.mp4", "train", 5, 15),
        "CCCCCCCCCCC_000040_000050": ("CCCCCCCCCCC.mp4", "train", 40, 50),
    }
    groups = {entry.group for entry in found.entries if entry.path.stem == "C" * 11}
    assert groups == {"CCCCCCCCCCC"}  # parts of one video stay in one split


def test_missing_kinetics_videos_are_reported_and_keep_the_classes(tmp_path):
    videos = kinetics(tmp_path) / "videos"
    found = scan(videos, annotations=tmp_path / "train.csv")
    path = tmp_path / "train.csv"
    assert found.class_names == [
        "abseiling",
        "massaging person's head",
        "passing American football, in game",
        "zumba",
    ]
    skipped = dict(found.skipped)
    assert skipped["DDDDDDDDDDD_000001_000011"] == (
        f"listed in {path} line 10, but there is no such video"
    )
    assert skipped["CCCCCCCCCCC_000005_000015"] == (
        f"{path} line 8 repeats {path} line 7"
    )
    assert "EEEEEEEEEEE" in skipped[str(videos)]
    assert found.notes[0].startswith("1 of 7 listed videos are not in")


def test_kinetics_test_files_without_labels(tmp_path):
    kinetics(tmp_path)
    write(tmp_path / "test.csv", "youtube_id,time_start,time_end,split\nX,1,2,test\n")
    files = [tmp_path / "train.csv", tmp_path / "test.csv"]
    found = scan(tmp_path / "videos", annotations=files)
    assert ("test.csv", "1 row without a label: X_000001_000002") in found.skipped


def test_kinetics_video_in_two_places(tmp_path):
    root = kinetics(tmp_path) / "videos"
    name = "--Xy_9zAbCd_000003_000013.mp4"
    touch(root, f"zumba/{name}")  # its own class's folder is preferred
    entries = scan(root, annotations=tmp_path / "train.csv").entries
    assert entries[0].path == root / "abseiling" / name
    touch(root, f"replacement/abseiling/{name}")
    message = refused(root, annotations=tmp_path / "train.csv")
    assert "lies in two places" in message and "replacement" in message


@pytest.mark.parametrize(
    "row, message",
    [
        ("a,ID,10,10,train", "line 2: the part from 10 to 10 s is empty"),
        ("a,ID,ten,20,train", "line 2: could not convert string to float: 'ten'"),
        ("a,ID,1,2,training", "line 2: split 'training' is not one of"),
        ("a,,1,2,train", "line 2: no usable youtube_id"),
        ("a,ID,1,2", "line 2 has fewer fields than the header"),
        ("a,ID,1,2,train\nb,ID,1,2,train", "line 3: .* has label 'b', but 'a' in"),
        (",ID,1,2,train", "line 2: .* has no label"),
        ('"a,ID,1,2,train', "line 2: unexpected end of data"),
        ("a,ID,1,2,train", "none of the 1 videos listed in"),
    ],
)
def test_bad_kinetics_names_file_and_line(tmp_path, row, message):
    text = f"label,youtube_id,time_start,time_end,split\n{row}\n"
    path = write(tmp_path / "train.csv", text)
    videos = touch(tmp_path / "videos", "other.mp4")
    with pytest.raises(InputError, match=message):
        scan(videos, annotations=path)
