"""Something-Something V1 and V2, and Jester."""

import json

import pytest

from tests.data.making_annotations import refused
from tests.data.making_annotations import something_v1
from tests.data.making_annotations import something_v2
from tests.data.making_annotations import table
from tests.data.making_annotations import touch
from tests.data.making_annotations import write
from tsi_keras.data.annotations import FrameFiles
from tsi_keras.data.annotations import scan
from tsi_keras.utils.errors import InputError


def test_something_v1_lists_and_frame_folders(tmp_path):
    found = scan(something_v1(tmp_path))
    assert found.format == "something-v1"
    assert table(found) == [
        ("1", "Stacking number of something", "train"),
        ("2", "Putting something, something and something on the table", "train"),
        ("3", "Pushing something so that it almost falls off but doesn't", "train"),
        ("4", "Holding something", "val"),
        ("99", "Turning something upside down", "val"),
    ]
    assert found.class_names[0] == "Holding something"  # the file's order, not sorted
    assert found.class_names[3].endswith("doesn't")
    entry = found.entries[0]
    assert entry.path == tmp_path / "20bn-something-something-v1" / "1"
    assert entry.frames == FrameFiles("{:05d}.jpg", 1, None, 12.0)


def test_something_v1_tells_what_it_left_out(tmp_path):
    found = scan(something_v1(tmp_path))
    lines = tmp_path / "something-something-v1-train.csv"
    assert ("1", f"{lines} line 5 repeats {lines} line 1") in found.skipped
    assert (
        "something-something-v1-test.csv",
        "2 rows without a label: 5, 6",
    ) in found.skipped
    assert found.notes == [f"1 of 5 listed videos are not in {tmp_path}: 99"]
    missing = found.entries[-1]
    assert missing.path.name == "99.webm" and missing.frames is None


def test_something_v1_as_json_with_other_frame_names(tmp_path):
    touch(tmp_path / "frames", "7/img_00000.png", "8/img_00000.png")
    items = [{"id": 7, "label": "Holding something"}, {"id": "8", "label": "B"}]
    write(tmp_path / "a" / "something-something-v1-train.json", json.dumps(items))
    write(tmp_path / "a" / "labels.csv", "B\nHolding something\n")
    settings = FrameFiles("img_{:05d}.png", first=0)
    found = scan(tmp_path / "frames", annotations=tmp_path / "a", frame_files=settings)
    assert found.format == "something-v1"
    assert table(found) == [("7", "Holding something", "train"), ("8", "B", "train")]
    assert found.entries[0].frames == FrameFiles("img_{:05d}.png", 0, None, 12.0)
    assert found.class_names == ["B", "Holding something"]


def test_jester(tmp_path):
    touch(tmp_path / "videos", "100009/00001.jpg", "100010/00001.jpg")
    lists = tmp_path / "lists"
    write(lists / "jester-v1-labels.csv", "Swiping Left\nSwiping Right\nNo gesture\n")
    write(lists / "jester-v1-train.csv", "100009;Swiping Right\n")
    write(lists / "jester-v1-validation.csv", "100010;No gesture\n")
    write(lists / "jester-v1-test.csv", "100011\n")
    found = scan(tmp_path / "videos", annotations=lists)
    assert found.format == "jester"
    assert table(found) == [
        ("100009", "Swiping Right", "train"),
        ("100010", "No gesture", "val"),
    ]
    assert found.class_names == ["Swiping Left", "Swiping Right", "No gesture"]
    assert found.entries[0].frames.fps == 12


def test_something_v2_templates_become_classes(tmp_path):
    found = scan(something_v2(tmp_path))
    assert found.format == "something-v2"
    assert table(found) == [
        ("42326", "Putting something similar to other things on something", "val"),
        ("78687", "Holding something next to something", "train"),
    ]
    assert found.class_names == [
        "Putting something similar to other things on something",
        "Holding something next to something",
        "Unused class",
    ]
    assert found.entries[1].path.name == "78687.webm"
    whys = [why for _, why in found.skipped]
    assert "1 row without a label: 1420" in whys


def test_something_v2_answers_label_the_test_split(tmp_path):
    something_v2(tmp_path)
    answers = "1420;Holding something next to something\n"
    write(tmp_path / "labels" / "test-answers.csv", answers)
    found = scan(tmp_path)
    assert ("1420", "Holding something next to something", "test") in table(found)


def test_something_v2_without_a_labels_file_sorts_and_says_so(tmp_path):
    root = something_v2(tmp_path)
    (root / "labels" / "something-something-v2-labels.json").unlink()
    found = scan(root)
    assert found.class_names == sorted(found.class_names)
    assert "no labels file" in found.class_order


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"labels": {"A": "0", "B": "2"}}, "the indices 0 to 1, each once"),
        ({"labels": {"A": "0", "B": "one"}}, "an index that is no number"),
        ({"labels": {"A": "0", "B": "1"}}, "train.json item 1: the class 'Holding"),
        ({"train": {"id": "1"}}, "must hold a list of objects"),
        ({"train": ["78687"]}, "train.json item 1 is not an object"),
        ({"train": [{"template": "A"}]}, "item or line 1 has no usable id: None"),
        ({"train": [{"id": "../x", "template": "A"}]}, "no usable id: '../x'"),
        ({"train": [{"id": "78687"}]}, "train.json item 1: 78687 has no label"),
        (
            {"train": [{"id": "42326", "template": "Unused class"}]},
            "validation.json item 1: 42326 has label 'Putting.*', but 'Unused class'",
        ),
    ],
)
def test_bad_something_v2_names_file_and_item(tmp_path, changes, message):
    root = something_v2(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        scan(root, format="something-v2")


def test_broken_json_names_file_and_line(tmp_path):
    root = something_v2(tmp_path)
    path = root / "labels" / "something-something-v2-train.json"
    write(path, '[{"id": "1",\n "template": "A"},\n')
    assert f"{path} line 3" in refused(root)
