"""UCF-101, HMDB-51 and Diving48."""

import pytest

from tests.data.making_annotations import diving48
from tests.data.making_annotations import hmdb51
from tests.data.making_annotations import refused
from tests.data.making_annotations import table
from tests.data.making_annotations import ucf101
from tests.data.making_annotations import write
from tsi_keras.data.annotations import scan


def test_ucf101_splits_and_official_class_order(tmp_path):
    found = scan(ucf101(tmp_path))
    assert found.format == "ucf101"
    assert found.class_names == ["Hammering", "HammerThrow"]
    assert table(found) == [
        ("HammerThrow/v_HammerThrow_g08_c01.avi", "HammerThrow", "train"),
        ("HammerThrow/v_HammerThrow_g08_c02.avi", "HammerThrow", "train"),
        ("Hammering/v_Hammering_g01_c01.avi", "Hammering", "test"),
        ("Hammering/v_Hammering_g08_c01.avi", "Hammering", "train"),
    ]
    assert found.entries[1].group == "HammerThrow/v_HammerThrow_g08"
    assert found.notes[0].startswith("these files have no val split")
    assert found.notes[1] == "official split 1 of 3"
    second = scan(tmp_path, split_number=2)
    assert [split for _, _, split in table(second)] == ["test", "train"]


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("trainlist01.txt", "Hammering/v.avi 2\n", "line 1: number 2 is 'HammerThrow'"),
        ("trainlist01.txt", "v.avi 1\n", "line 1: expected Class/video.avi"),
        ("trainlist01.txt", "Archery/v.avi 9\n", "line 1: the class 'Archery' is not"),
        ("classInd.txt", "1 A\n2 A\n", "lists the class 'A' twice"),
        ("classInd.txt", "\n", "lists no classes"),
    ],
)
def test_bad_ucf101_names_file_and_line(tmp_path, name, text, message):
    root = ucf101(tmp_path)
    write(root / "ucfTrainTestlist" / name, text)
    assert message in refused(root)


def test_splits_that_are_not_there(tmp_path):
    root = ucf101(tmp_path)
    assert "needs trainlist03.txt" in refused(root, split_number=3)
    assert "must be 1, 2 or 3" in refused(root, split_number=4)


def test_hmdb51_codes(tmp_path):
    """The same file name in two classes is two videos."""
    root = hmdb51(tmp_path)
    found = scan(root / "videos", annotations=root / "testTrainMulti_7030_splits")
    assert found.format == "hmdb51"
    assert found.class_names == ["brush_hair", "cart wheel"]
    assert table(found) == [
        ("brush_hair/a [x] #1 (b).avi", "brush_hair", "train"),
        ("brush_hair/e.avi", "brush_hair", "test"),
        ("cart wheel/c;d.avi", "cart wheel", "train"),
        ("cart wheel/e.avi", "cart wheel", "train"),
    ]
    assert [entry.path.parent.name for entry in found.entries[1::2]] == [
        "brush_hair",
        "cart wheel",
    ]
    assert (
        "brush_hair_test_split1.txt",
        "code 0, in neither part of the split: unused_1.avi, unused_2.avi",
    ) in found.skipped


def test_hmdb51_other_codes_are_refused(tmp_path):
    root = hmdb51(tmp_path)
    path = write(
        root / "testTrainMulti_7030_splits" / "brush_hair_test_split1.txt",
        "e.avi 2\n\na.avi 3\n",
    )
    assert f"{path} line 3: expected video.avi and 0, 1 or 2" in refused(root)


def test_diving48_numbers_and_frame_ranges(tmp_path):
    found = scan(diving48(tmp_path))
    assert found.format == "diving48"
    assert found.class_names == ["Back 15som 05Twis FREE", "Back Dive", "Inward TUCK"]
    assert table(found) == [
        ("JnNPQtYz1dQ_00074", "Inward TUCK", "train"),
        ("_8Vy3dlHg2w_00000", "Back 15som 05Twis FREE", "test"),
    ]
    limits = [(entry.start_frame, entry.end_frame) for entry in found.entries]
    assert limits == [(None, 177), (12, 134)]
    assert "x.mp4" in dict(found.skipped)[str(tmp_path)]


def test_diving48_without_vocabulary_keeps_the_numbers(tmp_path):
    root = diving48(tmp_path)
    (root / "Diving48_vocab.json").unlink()
    found = scan(root)
    assert found.class_names == [str(number) for number in range(48)]
    assert found.entries[0].label == "2"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"label": 3}, "item 1: `label` must be from 0 to 2. Received: 3"),
        ({"label": "2"}, "item 1: `label` must be from 0 to 2. Received: '2'"),
        ({"end_frame": 0}, "start_frame 0 and end_frame 0 are no part"),
        ({"vid_name": ""}, "item 1 has no usable vid_name"),
    ],
)
def test_bad_diving48_names_file_and_item(tmp_path, changes, message):
    assert message in refused(diving48(tmp_path, **changes))
