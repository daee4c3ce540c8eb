"""The manifest as a file, class lists, and which format is recognised when."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.making_annotations import diving48
from tests.data.making_annotations import hmdb51
from tests.data.making_annotations import kinetics
from tests.data.making_annotations import refused
from tests.data.making_annotations import something_v1
from tests.data.making_annotations import something_v2
from tests.data.making_annotations import touch
from tests.data.making_annotations import ucf101
from tests.data.making_annotations import write
from tsi_keras.data.annotations import Annotations
from tsi_keras.data.annotations import FrameFiles
from tsi_keras.data.annotations import VideoEntry
from tsi_keras.data.annotations import read_class_names
from tsi_keras.data.annotations import scan
from tsi_keras.data.annotations import write_manifest
from tsi_keras.utils.errors import InputError


def entry(name: str, **changes) -> VideoEntry:
    base = VideoEntry(name, Path("/videos") / name, "wave", None, name)
    return replace(base, **changes)


ODD = [
    entry('a, "b".mp4', label="käse, ja"),
    entry("part", start=3.25, end=1e3 / 3, group="g"),
    entry("frames", frames=FrameFiles("img_{:05d}.jpg", 0, 7, 23.976)),
    entry("more frames", frames=FrameFiles(fps=12.0), start_frame=3),
    entry("end", end_frame=17, label="line\nbreak"),
]


# Manifests --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl"])
def test_every_field_survives_writing_and_reading(tmp_path, name):
    entries = sorted(ODD, key=lambda one: one.id)
    path = write_manifest(Annotations(entries), tmp_path / name)
    found = scan(path)
    assert found.entries == entries
    assert found.official_classes is None
    assert write_manifest(found, tmp_path / f"again-{name}").read_bytes() == (
        path.read_bytes()
    )


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl"])
@pytest.mark.parametrize(
    "make", [something_v1, something_v2, kinetics, ucf101, hmdb51, diving48]
)
def test_published_formats_become_the_same_manifest(tmp_path, make, name):
    """Classes keep their order, those without a video included."""
    found = scan(make(tmp_path / "data"))
    path = write_manifest(found, tmp_path / name)
    again = scan(path)
    assert again.entries == found.entries
    assert again.class_names == found.class_names


def test_paths_below_the_manifest_are_relative_and_move_with_it(tmp_path):
    root = touch(tmp_path / "old", "videos/a.mp4", "videos/b.mp4")
    text = "path,label\nvideos/a.mp4,x\nvideos/b.mp4,y\n"
    write_manifest(scan(write(root / "list.csv", text)), root / "new.jsonl")
    root.rename(tmp_path / "new")
    moved = scan(tmp_path / "new" / "new.jsonl").entries[0]
    assert moved.path == tmp_path / "new" / "videos" / "a.mp4"


def test_manifests_are_never_written_over_by_accident(tmp_path):
    found = Annotations(ODD)
    path = write_manifest(found, tmp_path / "list.csv")
    with pytest.raises(InputError, match="exists; nothing was written"):
        write_manifest(found, path)
    write_manifest(found, path, overwrite=True)
    with pytest.raises(InputError, match="ends in .csv or .jsonl"):
        write_manifest(found, tmp_path / "list.txt")
    with pytest.raises(InputError, match="begins or ends with a space"):
        write_manifest(Annotations([entry("a", label=" x")]), tmp_path / "b.csv")
    assert not (tmp_path / "b.csv").exists()


def test_parts_of_one_video_have_names_and_a_common_group(tmp_path):
    text = "path,label,start,end\na.mp4,x,1,2.5\na.mp4,y,2.5,\na.mp4,z,,\n"
    entries = scan(write(tmp_path / "list.csv", text)).entries
    assert [one.id for one in entries] == ["a.mp4", "a.mp4#t=1,2.5", "a.mp4#t=2.5,"]
    assert {one.group for one in entries} == {"a.mp4"}
    assert (entries[1].start, entries[1].end, entries[2].end) == (1, 2.5, None)


@pytest.mark.parametrize(
    "columns, values, message",
    [
        ("start,end", "5,3", "line 3: the part of the video is wrong: it ends at 3"),
        ("start,end", "-1,3", "line 3: .* -1.0 is not a place in a video"),
        ("start,end", "nan,3", "line 3: .* nan is not a place"),
        ("start,end", "1s,3", "line 3: `start` must be a number. Received: '1s'"),
        ("start_frame,end_frame", "1.5,3", "`start_frame` must be a whole number"),
        ("start,end_frame", "1,3", "line 3: .* given in seconds and in frames"),
        ("frame_pattern", "img.jpg", "line 3: `frame_fps` is missing"),
        ("frame_pattern,frame_fps", "img.jpg,12", "line 3: a frame pattern is a file"),
        ("frame_fps,frame_first", "0,1", "line 3: the rate of frames must be above"),
    ],
)
def test_bad_fields_name_file_and_line(tmp_path, columns, values, message):
    empty = "," * columns.count(",")
    text = f"path,label,{columns}\na.mp4,x,{empty}\nb.mp4,y,{values}\n"
    with pytest.raises(InputError, match=message):
        scan(write(tmp_path / "list.csv", text))


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is empty"),
        ('{"path": "a"\n', "line 1 is not JSON"),
        ("[1]\n", "line 1 is not an object"),
        ('{"path": "a", "label": "b", "lable": "c"}\n', "line 1: unknown key 'lable'"),
        ('{"path": "a", "label": 3}\n', "line 1: `label` must be text. Received: 3"),
        ('{"path": "a", "label": "b", "id": 3}\n', "line 1: `id` must be text"),
        ('{"path": "a"}\n', "line 1: `label` is empty"),
        ('{"tsi_keras_manifest": 2}\n', "is a manifest of version 2"),
        ('{"tsi_keras_manifest": 1}\n', "has a header but no rows"),
        (
            '{"tsi_keras_manifest": 1, "class_names": ["b", "c"]}\n\n'
            '{"path": "a", "label": "d"}\n',
            "line 3: 'd' is not in the class list",
        ),
    ],
)
def test_bad_json_lines_name_file_and_line(tmp_path, text, message):
    assert message in refused(write(tmp_path / "list.jsonl", text))


def test_blank_lines_carriage_returns_and_spaces_around_fields(tmp_path):
    text = "\ufeffpath , label\r\n\r\na.mp4, x \r\n,\r\nb.mp4,y\r\n\r\n"
    entries = scan(write(tmp_path / "list.csv", text)).entries
    assert [(one.id, one.label) for one in entries] == [("a.mp4", "x"), ("b.mp4", "y")]


def test_a_list_for_videos_that_lie_elsewhere(tmp_path):
    """The paths of a list given as --annotations count from --input."""
    videos = touch(tmp_path / "disk", "a.mp4", "b.mp4")
    path = write(tmp_path / "list.csv", "path,label\na.mp4,x\nb.mp4,y\n")
    found = scan(videos, annotations=path)
    assert [one.path for one in found.entries] == [videos / "a.mp4", videos / "b.mp4"]
    assert [one.id for one in found.entries] == ["a.mp4", "b.mp4"]


# Class lists ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, text",
    [
        ("labels.json", '{"wave": "1", "jump, high": 0, "a": 2}'),
        ("labels.json", '["jump, high", "wave", "a"]'),
        ("labels.csv", "\ufeffjump, high\r\n\r\nwave\r\na"),
        ("classInd.txt", "1 jump, high\n2 wave\n3 a\n"),
        ("classes.txt", '0 jump, high\n1\twave\n2 a\n"'.rstrip('"')),
    ],
)
def test_class_lists_in_all_their_forms(tmp_path, name, text):
    path = write(tmp_path / name, text)
    assert read_class_names(path) == ["jump, high", "wave", "a"]


def test_names_that_begin_with_numbers_are_kept(tmp_path):
    """Only a running number is one; "100 metres" is a name."""
    path = write(tmp_path / "a.txt", "100 metres\n200 metres\n")
    assert read_class_names(path) == ["100 metres", "200 metres"]


def test_a_class_list_orders_folders_and_must_name_them_all(tmp_path):
    touch(tmp_path / "videos", "wave/1.mp4", "jump/1.mp4")
    labels = write(tmp_path / "labels.txt", "wave\nsit\njump\n")
    found = scan(tmp_path / "videos", labels=labels)
    assert found.class_names == ["wave", "sit", "jump"]
    assert found.class_digest.startswith("as in labels.txt (")
    touch(tmp_path / "videos", "run/1.mp4")
    assert "the class folder 'run' is not in" in refused(
        tmp_path / "videos", labels=labels
    )


# Recognising ------------------------------------------------------------------------


def test_class_folders_and_official_lists_together_are_ambiguous(tmp_path):
    ucf101(tmp_path)
    for folder in (tmp_path / "UCF-101").iterdir():
        folder.rename(tmp_path / folder.name)
    message = refused(tmp_path)
    assert "--format ucf101" in message and "--format folder" in message
    assert scan(tmp_path, format="ucf101").format == "ucf101"
    assert scan(tmp_path, format="folder").format == "folder"


def test_folders_named_as_splits_are_no_classes(tmp_path):
    root = kinetics(tmp_path)
    (root / "videos").rename(root / "train")
    touch(root / "val", "x.mp4", "abseiling/y.mp4")
    assert scan(root).format == "kinetics"


def test_other_files_beside_class_folders_change_nothing(tmp_path):
    touch(tmp_path, "wave/1.mp4", "jump/1.mp4")
    write(tmp_path / "notes.csv", "day;weather\n1;rain\n")
    write(tmp_path / "train.json", '{"lr": 0.1}')
    write(tmp_path / "list.csv", "path,label\nx.mp4,a\n")
    assert scan(tmp_path).format == "folder"


def test_files_of_two_formats_are_refused(tmp_path):
    kinetics(tmp_path)
    ucf101(tmp_path)
    message = refused(tmp_path)
    assert "of several formats" in message and "train.csv is kinetics" in message


def test_files_of_one_role_are_refused(tmp_path):
    root = diving48(tmp_path)
    text = (root / "Diving48_V2_train.json").read_text()
    write(root / "Diving48_train.json", text)
    assert "are both a train file" in refused(root)


def test_lists_that_cannot_be_told(tmp_path):
    path = write(tmp_path / "train.csv", "1;a\n2;b\n")
    touch(tmp_path / "videos", "1.mp4", "2.mp4")
    assert "cannot be told; give --format" in refused(
        tmp_path / "videos", annotations=path
    )
    found = scan(tmp_path / "videos", annotations=path, format="jester")
    assert [one.label for one in found.entries] == ["a", "b"]


def test_an_annotation_file_as_input_says_what_to_do(tmp_path):
    kinetics(tmp_path)
    message = refused(tmp_path / "train.csv")
    assert "give the folder of the videos as --input and this file" in message


@pytest.mark.parametrize(
    "options, message",
    [
        ({"format": "mp4"}, "`--format` must be one of auto, folder"),
        ({"split_number": 1}, "`--split-number` is for ucf101 and hmdb51"),
        ({"format": "folder", "annotations": "."}, "means nothing for the format"),
        ({"annotations": "nowhere"}, "`--annotations` .* does not exist"),
        ({"labels": "nowhere"}, "`--labels` .* does not exist"),
        ({"format": "frames"}, "do not tell their rate; give --frame-fps"),
        ({"format": "kinetics"}, "Kinetics needs its CSV files"),
        ({"format": "jester"}, "Jester needs a file with train, validation or test"),
        ({"format": "hmdb51"}, "HMDB-51 needs files CLASS_test_split1.txt"),
        ({"frame_files": FrameFiles("img.jpg")}, "raw frames: a frame pattern is"),
        ({"frame_files": FrameFiles(fps=-1)}, "raw frames: the rate of frames must"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(tmp_path, options, message):
    touch(tmp_path, "wave/1.mp4", "jump/1.mp4", "wave/notes.txt")
    if options.get("annotations") == ".":
        options = options | {"annotations": something_v2(tmp_path / "v2") / "labels"}
    with pytest.raises(InputError, match=message):
        scan(tmp_path, **options)


def test_frame_folders_are_recognised(tmp_path):
    touch(tmp_path, "wave/a/1.jpg", "jump/b/1.jpg", "jump/notes.txt")
    found = scan(tmp_path, frame_files=FrameFiles(fps=25))
    assert found.format == "frames"
    assert [(one.id, one.label) for one in found.entries] == [
        ("jump/b", "jump"),
        ("wave/a", "wave"),
    ]
    assert found.entries[0].frames == FrameFiles(fps=25)
    assert found.skipped == [("jump/notes.txt", "not a folder of frames")]
    assert "give --frame-fps" in refused(tmp_path)


def test_frame_folders_without_classes_ask_for_a_list(tmp_path):
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    assert "give --annotations" in refused(tmp_path)


def test_raw_frames_of_videos_published_as_files_need_their_rate(tmp_path):
    root = something_v2(tmp_path)
    for path in (root / "20bn-something-something-v2").iterdir():
        path.unlink()
        touch(path.with_suffix(""), "000001.jpg")
    assert "give --frame-fps" in refused(root)
    found = scan(root, frame_files=FrameFiles(fps=12))
    assert found.entries[0].frames == FrameFiles(fps=12)


def test_json_labels_are_written_as_json_beside_a_csv(tmp_path):
    """A text list could not tell "1 finger" from class number 1."""
    names = ["1 finger", "2 fingers", "none"]
    found = Annotations([entry("a", label="none")], official_classes=names)
    path = write_manifest(found, tmp_path / "list.csv")
    assert json.loads((tmp_path / "list.labels.json").read_text()) == names
    assert scan(path).class_names == names
