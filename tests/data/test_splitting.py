"""Splits: shares, groups, identical files, determinism."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tsi_keras.data import splitting
from tsi_keras.data.annotations import VideoEntry
from tsi_keras.data.splitting import assign_splits
from tsi_keras.data.splitting import find_identical_files
from tsi_keras.data.splitting import parse_ratios
from tsi_keras.utils.errors import InputError

RATIOS = parse_ratios("0.8/0.1/0.1")


def entry(identifier: str, label: str, group: str | None = None, split=None, path=None):
    path = path or Path("nowhere") / identifier
    return VideoEntry(identifier, path, label, split, group or identifier)


def grouped(num_classes: int, num_groups: int, clips: int) -> list[VideoEntry]:
    return [
        entry(f"c{c}/g{g}_{i}", f"c{c}", f"c{c}/g{g}")
        for c in range(num_classes)
        for g in range(num_groups)
        for i in range(clips)
    ]


def test_shares_per_class_are_as_asked():
    entries = grouped(num_classes=3, num_groups=20, clips=1)
    splits, notes = assign_splits(entries, RATIOS)
    for label in ("c0", "c1", "c2"):
        counts = Counter(splits[e.id] for e in entries if e.label == label)
        assert counts == {"train": 16, "val": 2, "test": 2}
    assert notes == []


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_torn_apart(seed):
    entries = grouped(num_classes=4, num_groups=7, clips=3)
    splits, _ = assign_splits(entries, RATIOS, seed)
    where = {}
    for video in entries:
        where.setdefault(video.group, set()).add(splits[video.id])
    assert all(len(used) == 1 for used in where.values())
    assert set(splits.values()) == {"train", "val", "test"}


@pytest.mark.parametrize(
    "num_groups, expected",
    [
        (1, {"train": 1}),
        (2, {"train": 1, "val": 1}),
        (3, {"train": 1, "val": 1, "test": 1}),
        (5, {"train": 3, "val": 1, "test": 1}),
    ],
)
def test_tiny_classes_reach_the_other_splits(num_groups, expected):
    entries = grouped(num_classes=2, num_groups=num_groups, clips=1)
    splits, _ = assign_splits(entries, RATIOS)
    assert Counter(splits[e.id] for e in entries if e.label == "c0") == expected


def test_splits_left_empty_are_told():
    _, notes = assign_splits(grouped(num_classes=2, num_groups=2, clips=3), RATIOS)
    assert notes == ["split 'test' stays empty: no class has enough groups of videos"]


def test_seed_decides_and_order_does_not():
    entries = grouped(num_classes=3, num_groups=10, clips=2)
    first, _ = assign_splits(entries, RATIOS, seed=1)
    again, _ = assign_splits(entries[::-1], RATIOS, seed=1)
    other, _ = assign_splits(entries, RATIOS, seed=2)
    assert first == again
    assert first != other


def test_identical_files_stay_together_across_groups_and_classes(tmp_path):
    entries = []
    for index in range(12):
        path = tmp_path / str(index)
        path.write_bytes(b"same" if index in (3, 7, 11) else f"{index:04d}".encode())
        entries.append(entry(f"v{index:02d}", "ab"[index % 2], path=path))
    same = find_identical_files(entries)
    assert [[e.id for e in found] for found in same] == [["v03", "v07", "v11"]]
    for seed in range(10):
        splits, notes = assign_splits(entries, RATIOS, seed)
        assert len({splits[name] for name in ("v03", "v07", "v11")}) == 1
    assert notes[0] == "identical files: v03, v07, v11"


def test_identical_files_with_different_labels_are_told(tmp_path):
    for name in "xy":
        (tmp_path / name).write_bytes(b"same")
    entries = [
        entry("x", "a", path=tmp_path / "x"),
        entry("y", "b", path=tmp_path / "y"),
    ]
    _, notes = assign_splits(entries, RATIOS)
    assert notes[0].startswith("identical files with different labels ['a', 'b']")


def test_given_splits_win_and_leaks_are_told():
    entries = [
        entry("1", "a", "g", "test"),
        entry("2", "a", "g", "train"),
        entry("3", "b", None, "train"),
    ]
    splits, notes = assign_splits(entries, RATIOS)
    assert splits == {"1": "test", "2": "train", "3": "train"}
    assert any("one group into test and train: 1, 2" in note for note in notes)
    assert any("'test' has no video of: b" in note for note in notes)


def test_shares_may_leave_splits_out():
    assert parse_ratios("0.9/0.1") == {"train": 0.9, "val": 0.1, "test": 0.0}
    entries = grouped(num_classes=2, num_groups=10, clips=1)
    splits, _ = assign_splits(entries, parse_ratios("1"))
    assert set(splits.values()) == {"train"}


@pytest.mark.parametrize(
    "text",
    ["", "a/b", "0.8/0.1", "0.8/0.1/0.2", "0/0.5/0.5", "1.2/-0.2", "nan/1", "1/0/0/0"],
)
def test_bad_shares(text):
    with pytest.raises(InputError, match="`--split` must be the shares"):
        parse_ratios(text)


def write_videos(folder: Path, contents: list[bytes]) -> list[VideoEntry]:
    entries = []
    for index, content in enumerate(contents):
        path = folder / f"{index}.mp4"
        path.write_bytes(content)
        entries.append(entry(f"v{index}", "ab"[index % 2], path=path))
    return entries


def test_files_that_only_begin_alike_are_not_identical(tmp_path):
    head = bytes(1 << 17)
    entries = write_videos(tmp_path, [head + b"a", head + b"b", head + b"a", b"short"])
    same = find_identical_files(entries)
    assert [[e.id for e in found] for found in same] == [["v0", "v2"]]


def test_files_that_do_not_begin_alike_are_not_read_further(tmp_path, monkeypatch):
    """Of 250,000 videos thousands have the size of another."""
    read = []
    monkeypatch.setattr(splitting, "file_sha256", lambda path: read.append(path) or "")
    bodies = [bytes([index]) + bytes(1 << 17) for index in range(6)]
    assert find_identical_files(write_videos(tmp_path, bodies)) == []
    assert read == []


def test_parts_of_one_file_are_no_duplicates_but_stay_together(tmp_path):
    (tmp_path / "long.mp4").write_bytes(b"video")
    parts = [
        replace(entry(f"p{i}", "ab"[i % 2], path=tmp_path / "long.mp4"), start=float(i))
        for i in range(6)
    ]
    others = [entry(f"o{i}", "ab"[i % 2]) for i in range(20)]
    assert find_identical_files(parts) == []
    for seed in range(5):
        splits, notes = assign_splits(parts + others, RATIOS, seed)
        assert len({splits[part.id] for part in parts}) == 1
        assert notes == []


def test_a_file_listed_twice_as_a_whole_is_a_duplicate(tmp_path):
    entries = write_videos(tmp_path, [b"video"])
    again = replace(entries[0], id="again", label="b")
    _, notes = assign_splits([*entries, again], RATIOS)
    assert notes[0] == "identical files with different labels ['a', 'b']: v0, again"


def test_thousands_of_notes_are_counted(tmp_path):
    entries = [
        entry(f"g{g}/{split}", "ab"[g % 2], f"g{g}", split)
        for g in range(60)
        for split in ("train", "test")
    ]
    _, notes = assign_splits(entries, RATIOS)
    assert len(notes) == 51
    assert notes[-1] == "10 more groups torn apart"
