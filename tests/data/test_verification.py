"""The check-up of a finished data set: what is broken is found, what is whole passes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.data.making_records import CLASSES
from tests.data.making_records import jpeg
from tests.data.making_records import record
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import ShardInfo
from tsi_keras.data.dataset_info import SplitInfo
from tsi_keras.data.dataset_info import write_dataset_info
from tsi_keras.data.duplicates import near_pairs
from tsi_keras.data.records import encode_record
from tsi_keras.data.shard_reading import difference_hash
from tsi_keras.data.verification import verify
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import file_sha256


def write(folder: Path, splits: dict[str, list[list[bytes]]], **options) -> Path:
    """A data set whose description agrees with its records."""
    folder.mkdir(exist_ok=True)
    described = {}
    for split, shards in splits.items():
        infos, counts = [], dict.fromkeys(CLASSES, 0)
        for index, records in enumerate(shards):
            name = f"{split}-{index:05d}-of-{len(shards):05d}.tfrecord"
            with tf.io.TFRecordWriter(str(folder / name)) as writer:
                for serialized in records:
                    writer.write(serialized)
                    example = tf.train.SequenceExample.FromString(serialized)
                    label = example.context.feature["clip/label/text"]
                    counts[label.bytes_list.value[0].decode()] += 1
            digest = file_sha256(folder / name)
            infos.append(ShardInfo(name, len(records), digest))
        described[split] = SplitInfo(sum(map(len, shards)), counts, infos)
    info = DatasetInfo(CLASSES, described, options, "0.1.0", folder=folder)
    write_dataset_info(info)
    return folder


def found(folder: Path) -> set[tuple[str, str]]:
    """Severity and kind of all findings."""
    return set(verify(folder, workers=1).found)


@pytest.fixture
def whole(tmp_path) -> Path:
    """Six videos, two per class, in two shards, and three to validate with."""
    train = [[record(i, 10) for i in range(3)], [record(i, 12) for i in range(3, 6)]]
    return write(
        tmp_path / "data", {"train": train, "val": [[record(i, 10) for i in (6, 7, 8)]]}
    )


def test_a_whole_data_set_is_sound(whole):
    outcome = verify(whole, workers=1)
    assert outcome.is_sound
    assert outcome.findings == []
    assert (outcome.num_videos, outcome.num_shards) == (9, 3)
    assert outcome.counts["train"] == dict.fromkeys(CLASSES, 2)
    assert outcome.frame_histogram == {10: 6, 12: 3}
    stored = json.loads((whole / "verification.json").read_text(encoding="utf-8"))
    assert stored["sound"] is True
    assert stored["frame_histogram"] == {"10": 6, "12": 3}


def test_the_outcome_does_not_depend_on_workers(whole):
    assert verify(whole, workers=2).to_json() == verify(whole, workers=1).to_json()


def test_damaged_and_missing_shards_are_errors(whole):
    first, second = sorted(whole.glob("train-*"))
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(bytes(data))
    second.unlink()
    outcome = verify(whole, workers=1)
    assert not outcome.is_sound
    problems = {f.where: f.message for f in outcome.findings if "unread" in f.check}
    assert "it ends in damage after 1 records" in problems[first.name]
    assert problems[second.name] == "it cannot be read: No such file or directory"
    assert ("error", "split count") in outcome.found
    assert ("error", "class count") in outcome.found


def test_shards_that_changed_or_that_nobody_listed(whole):
    first, second = sorted(whole.glob("train-*"))
    shutil.copy(first, whole / "extra.tfrecord")
    shutil.copy(second, first)
    kinds = found(whole)
    assert ("error", "shard changed") in kinds
    assert ("error", "id twice") in kinds
    assert ("warning", "shard not listed") in kinds


def odd_record(**changes) -> bytes:
    """A record of class "clap" with something wrong."""
    values = dict(
        video_id="odd",
        label=0,
        class_name="clap",
        jpegs=[jpeg(20, frame) for frame in range(10)],
        height=24,
        width=36,
        fps=12.0,
        source_num_frames=10,
        source_fps=12.0,
    )
    return encode_record(**values | changes)


@pytest.mark.parametrize(
    "changes, kind, message",
    [
        ({"label": 1}, ("error", "wrong label"), "label 1 is not that of 'clap'"),
        ({"label": 9}, ("error", "wrong label"), "label 9"),
        ({"height": 25}, ("error", "record damaged"), "is 24x36, the record says 25"),
        ({"jpegs": [b"no"]}, ("error", "record damaged"), "frame 0 cannot be decoded"),
        ({"jpegs": [jpeg(1, 1)] * 3}, ("error", "too short"), "at least 4"),
        ({"jpegs": [jpeg(1, 1)] * 5}, ("warning", "short"), "a clip of 8"),
        ({"source_num_frames": 99}, ("warning", "wrong duration"), "lasts 8.25 s"),
        ({"fps": 0.0}, ("error", "wrong rate"), "0.0 frames per second"),
    ],
)
def test_what_is_wrong_with_one_record_is_named(tmp_path, changes, kind, message):
    records = [odd_record(**changes), record(1, 10), record(2, 10)]
    folder = write(tmp_path / "data", {"train": [records]}, min_frames=4)
    outcome = verify(folder, workers=1)
    finding = next(f for f in outcome.findings if (f.severity, f.check) == kind)
    assert finding.where == "train: odd"
    assert message in finding.message
    assert outcome.is_sound == (kind[0] == "warning")


def test_half_a_jpeg_is_damage(tmp_path):
    records = [record(i, 10, spoilt=i == 1) for i in range(3)]
    folder = write(tmp_path / "data", {"train": [records]})
    outcome = verify(folder, workers=1)
    assert outcome.found[("error", "record damaged")] == 10
    assert {f.where for f in outcome.findings} == {"train: v1"}


def test_what_is_no_record_is_damage(tmp_path):
    folder = write(tmp_path / "data", {"train": [[record(i, 10) for i in range(3)]]})
    path = next(folder.glob("*.tfrecord"))
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"\xff\xff no protocol buffer")
    assert ("error", "record damaged") in found(folder)


def test_the_same_video_in_two_splits_is_an_error(tmp_path):
    same = [odd_record(video_id=name) for name in ("a", "b")]
    train = [same[0], record(1, 10), record(2, 10)]
    outcome = verify(
        write(tmp_path / "data", {"train": [train], "val": [[same[1]]]}), workers=1
    )
    assert outcome.findings[0].message == "train: a = val: b"
    assert set(outcome.found) == {("error", "same content in two splits")}


def test_copies_within_a_split_are_warnings(tmp_path):
    other = odd_record(video_id="b", label=1, class_name="go left")
    records = [odd_record(video_id="a"), other, record(2, 10)]
    outcome = verify(write(tmp_path / "data", {"train": [records]}), workers=1)
    assert outcome.is_sound
    (finding,) = outcome.findings
    assert finding.message == "train: a = train: b (under different classes)"


def texture(seed: int, quality: int = 90, size: tuple[int, int] = (48, 64)) -> bytes:
    """A picture with coarse structure, at any size and quality."""
    from PIL import Image

    from tests.data.making_records import io

    coarse = np.random.default_rng(seed).integers(0, 255, (9, 9), np.uint8)
    image = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=quality)
    return file.getvalue()


def video_of(name: str, seed: int, quality: int = 90, size=(48, 64)) -> bytes:
    """Ten different pictures as a record."""
    jpegs = [texture(100 * seed + i, quality, size) for i in range(10)]
    return odd_record(video_id=name, jpegs=jpegs, height=size[0], width=size[1])


def test_another_size_and_quality_of_a_video_is_found(tmp_path):
    train = [video_of(f"v{i}", i) for i in range(20)]
    again = [video_of("copy of v3", 3, 40, (60, 80))]
    folder = write(tmp_path / "data", {"train": [train], "val": [again]})
    outcome = verify(folder, workers=1)
    near = [f for f in outcome.findings if f.check == "nearly the same in two splits"]
    assert [(f.where, f.message) for f in near] == [
        ("train: v3", "looks like val: copy of v3")
    ]
    assert outcome.is_sound  # a person has to look


def test_near_pairs_are_those_of_comparing_all_with_all():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (300, 256), np.uint8)
    for copy in range(100, 140):
        flipped = rng.choice(256, copy - 100, replace=False)
        bits[copy] = bits[copy - 100]
        bits[copy, flipped] ^= 1
    signatures = [np.packbits(row).tobytes() for row in bits]
    signatures[7] = b""
    far = (bits[:, None] != bits[None]).sum(-1)
    expected = [
        (int(a), int(b))
        for a, b in np.argwhere(np.triu(far <= 12, 1))
        if 7 not in (a, b)
    ]
    assert near_pairs(signatures) == (expected, 0)
    assert len(expected) == 12  # copies with 0 to 12 wrong bits, without number 7


def test_many_alike_do_not_take_forever():
    signatures = [bytes(31) + b"\x01"] * 20_000
    assert near_pairs(signatures) == ([], 20_000)


def test_uniform_pictures_have_no_hash():
    assert not any(difference_hash(np.full((30, 40), 77, np.uint8)))
    assert any(difference_hash(np.tile(np.arange(40, dtype=np.uint8) * 6, (30, 1))))
    assert len(difference_hash(np.zeros((1, 1), np.uint8))) == 8


def test_bad_arguments(whole, tmp_path):
    with pytest.raises(InputError, match="`workers`"):
        verify(whole, workers=0)
    with pytest.raises(InputError, match="is not a folder"):
        verify(tmp_path / "nothing")
