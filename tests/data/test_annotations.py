"""Folders of class folders and CSV files."""

from pathlib import Path

import pytest

from tests.data.making_annotations import touch
from tsi_keras.data.annotations import default_group
from tsi_keras.data.annotations import read_annotations
from tsi_keras.data.annotations import scan
from tsi_keras.utils.errors import InputError


def write_csv(folder: Path, text: str) -> Path:
    path = folder / "list.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_folder_is_listed_with_labels_and_ids(tmp_path):
    touch(tmp_path, "wave/b.MP4", "wave/a b.avi", "käse/ü.mkv", "wave/.hidden.mp4")
    entries = read_annotations(tmp_path)
    assert [(e.id, e.label) for e in entries] == [
        ("käse/ü.mkv", "käse"),
        ("wave/a b.avi", "wave"),
        ("wave/b.MP4", "wave"),
    ]
    assert entries[0].path == tmp_path / "käse/ü.mkv"
    assert entries[0].split is None


def test_everything_left_aside_is_told(tmp_path):
    touch(tmp_path, "a/1.mp4", "b/1.mp4", "b/notes.txt", "b/more/2.mp4", "x.mp4")
    (tmp_path / "c").mkdir()
    skipped = dict(scan(tmp_path).skipped)
    assert set(skipped) == {"b/notes.txt", "b/more", "x.mp4", "c"}
    assert skipped["b/notes.txt"] == "not a video name"


@pytest.mark.parametrize(
    "name, group",
    [
        ("Archery/v_Archery_g03_c02.avi", "Archery/v_Archery_g03"),
        ("v_Archery_g03_c02.avi", "v_Archery_g03"),
        ("a/clip_7.mp4", "a/clip_7.mp4"),
        ("dog_g1_x/clip.mp4", "dog_g1_x/clip.mp4"),
    ],
)
def test_groups_by_name(name, group):
    assert default_group(name) == group


@pytest.mark.parametrize(
    "files, message",
    [
        ([], "holds no videos"),
        (["a/notes.txt"], "holds no videos"),
        (["1.mp4", "2.mp4"], "holds videos directly"),
        (["train/a/1.mp4", "train/b/1.mp4"], "only deeper than class_name/video"),
        (["a/1.mp4", "a/2.mp4"], "only one class, 'a'"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path, files, message):
    touch(tmp_path, *files)
    with pytest.raises(InputError, match=message) as error:
        read_annotations(tmp_path)
    assert "\n" not in str(error.value)


def test_missing_input(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_annotations(tmp_path / "nowhere")
    with pytest.raises(InputError, match="must be a folder or a .csv file"):
        read_annotations(touch(tmp_path, "a.mp4") / "a.mp4")


def test_csv_with_all_columns(tmp_path):
    source = write_csv(
        tmp_path,
        "\ufeffpath,label,split,group,id,fps\n"
        '"a, b.mp4",wave,train,g1,first,30\n'
        "sub/../c.mp4,jump,val,,,30\n",
    )
    found = scan(source)
    second, first = found.entries
    assert (first.id, first.label, first.split, first.group) == (
        "first",
        "wave",
        "train",
        "g1",
    )
    assert first.path == tmp_path / "a, b.mp4"
    assert (second.id, second.split, second.group) == ("c.mp4", "val", "c.mp4")
    assert found.skipped == [("column 'fps'", "not a column that is read")]


def test_csv_takes_absolute_paths(tmp_path):
    (tmp_path / "lists").mkdir()
    text = f"path,label\n{tmp_path / 'x.mp4'},a\n../y.mp4,b\n"
    entries = read_annotations(write_csv(tmp_path / "lists", text))
    assert {entry.id for entry in entries} == {
        (tmp_path / "x.mp4").as_posix(),
        (tmp_path / "y.mp4").as_posix(),
    }


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "must start with a header"),
        ("a.mp4,wave\nb.mp4,jump\n", "must start with a header"),
        ("path,label\n", "no rows"),
        ("path,label\na.mp4,wave,extra\n", "line 2 has more fields"),
        ("path,label\na.mp4\n", "line 2 has fewer fields"),
        ("path,label\na.mp4,\n", "line 2: `label` is empty"),
        ("path,label,split\na.mp4,x,training\n", "line 2: `split` must be one of"),
        ("path,label,split\na.mp4,x,train\nb.mp4,y,\n", "line 3: `split` is empty"),
        ("path,label\na.mp4,x\nb.mp4,y\na.mp4,y\n", "lines 2 and 4 have the same id"),
        ('path,label\n"a.mp4,x\n', "unexpected end of data"),
        ("path,label\na.mp4,x\nb.mp4,x\n", "only one class"),
    ],
)
def test_bad_csv_is_one_line_with_its_place(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as error:
        read_annotations(write_csv(tmp_path, text))
    assert "\n" not in str(error.value)


def test_csv_that_is_not_text(tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(b"path,label\n\xff\xfe\x00,x\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_annotations(path)
