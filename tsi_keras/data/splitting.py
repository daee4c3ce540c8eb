"""Train, validation and test splits that share no group and no identical file."""

import hashlib
from collections import Counter
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

from tsi_keras.data.annotations import VideoEntry
from tsi_keras.data.dataset_info import SPLITS
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import file_sha256

_BEGINNING = 1 << 16  # bytes read to tell files of one size apart
_MOST_NOTES = 50  # of one kind; a report of thousands is not read


def parse_ratios(text: str) -> dict[str, float]:
    """Read the shares of train, validation and test.

    Args:
        text: for instance `"0.8/0.1/0.1"`; the third, or the second and third, may
            be left out and count as 0.

    Returns:
        Share by split name; the shares add up to 1.

    Raises:
        InputError: `text` is not of that form.
    """
    message = (
        "`--split` must be the shares of train/val/test and add up to 1, such as "
        f"0.8/0.1/0.1, with a share for train. Received: {text!r}"
    )
    try:
        shares = [float(part) for part in text.split("/")]
    except ValueError:
        raise InputError(message) from None
    in_range = all(0 <= share <= 1 for share in shares)
    if len(shares) > 3 or not in_range or abs(sum(shares) - 1) > 1e-6 or not shares[0]:
        raise InputError(message)
    return dict(zip(SPLITS, shares + [0.0] * (3 - len(shares)), strict=True))


def assign_splits(
    entries: Sequence[VideoEntry], ratios: Mapping[str, float], seed: int = 0
) -> tuple[dict[str, str], list[str]]:
    """Choose the split of every video.

    Splits given in the entries win. Otherwise videos are dealt out class by class,
    whole groups at a time; files with identical contents belong to one group. A
    class with two groups or more has one in `val`, with three or more one in `test`
    (where those splits have a share).

    Args:
        entries: the videos.
        ratios: share of each split, see `parse_ratios`.
        seed: other seeds give other splits of the same sizes.

    Returns:
        Split by video id, and notes on what the reader should know (identical
        files, groups that the given splits tear apart, classes missing somewhere).

    Example:
        ```python
        splits, notes = assign_splits(entries, parse_ratios("0.8/0.1/0.1"))
        ```
    """
    duplicates = find_identical_files(entries)
    notes = _notes_on_duplicates(duplicates)
    groups = _merge_groups(entries, duplicates)
    if all(entry.split is not None for entry in entries):
        splits = {entry.id: entry.split for entry in entries}
        notes += _notes_on_torn_groups(groups, splits)
    else:
        splits = _deal_out(groups, ratios, seed)
        notes += _notes_on_unused_splits(ratios, splits)
    return splits, notes + _notes_on_missing_classes(entries, splits)


def find_identical_files(entries: Iterable[VideoEntry]) -> list[list[VideoEntry]]:
    """Find videos whose files have the same bytes.

    Args:
        entries: the videos; files that cannot be read count as unique, and so do
            folders of raw frames and other parts of the same file.

    Returns:
        Lists of two or more videos each. Only files of equal size are read, and only
        those that begin alike as a whole.
    """
    by_size = defaultdict(list)
    for entry in _without_other_parts(entries):
        size = _size(entry.path)
        if size:
            by_size[size].append(entry)
    # Few files of one size begin alike: most are read no further than that.
    candidates = _alike(by_size.values(), _hash_of_beginning)
    return _alike(candidates, _hash_of_all)


def stable_order(items: Iterable[str], seed: int) -> list[str]:
    """Shuffle strings by `seed`, the same on every machine and Python version.

    Args:
        items: strings in any order.
        seed: which shuffle.

    Returns:
        The strings; one more or one fewer does not change the order of the others.
    """
    return sorted(
        items, key=lambda item: hashlib.sha256(f"{seed}\0{item}".encode()).digest()
    )


def _without_other_parts(entries: Iterable[VideoEntry]) -> list[VideoEntry]:
    """Entries of video files; of several parts of one file only the first."""
    first: dict[Path, tuple] = {}
    return [
        entry
        for entry in entries
        if entry.frames is None
        and first.setdefault(entry.path, _part(entry)) == _part(entry)
    ]


def _part(entry: VideoEntry) -> tuple:
    return entry.start, entry.end, entry.start_frame, entry.end_frame


def _alike(
    groups: Iterable[list[VideoEntry]], key: Callable[[Path], str]
) -> list[list[VideoEntry]]:
    """Divide groups further by what `key` says of each file; singles are dropped."""
    found = []
    for group in groups:
        if len(group) < 2:
            continue
        by_key = defaultdict(list)
        for entry in group:
            try:
                by_key[key(entry.path)].append(entry)
            except OSError:
                continue
        found.extend(same for same in by_key.values() if len(same) > 1)
    return found


def _hash_of_beginning(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(_BEGINNING)).hexdigest()


def _hash_of_all(path: Path) -> str:
    # The beginnings are equal already, and a short file has nothing else.
    if path.stat().st_size <= _BEGINNING:
        return ""
    return file_sha256(path)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _merge_groups(
    entries: Sequence[VideoEntry], duplicates: list[list[VideoEntry]]
) -> list[list[VideoEntry]]:
    """Groups of videos after joining those that share a file or an identical one."""
    parent: dict[str, str] = {entry.group: entry.group for entry in entries}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = group = parent[parent[group]]
        return group

    by_path = defaultdict(list)
    for entry in entries:
        by_path[entry.path].append(entry)
    for same in (*duplicates, *by_path.values()):
        for entry in same[1:]:
            first, second = sorted((root(same[0].group), root(entry.group)))
            parent[second] = first
    members = defaultdict(list)
    for entry in entries:
        members[root(entry.group)].append(entry)
    return [members[group] for group in sorted(members)]


def _deal_out(
    groups: list[list[VideoEntry]], ratios: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Deal each class's groups out; a group of several classes counts for the first."""
    by_class = defaultdict(dict)
    for group in groups:
        label = min(entry.label for entry in group)
        by_class[label][min(entry.id for entry in group)] = group
    splits = {}
    for label in sorted(by_class):
        members = by_class[label]
        names = stable_order(members, seed)
        sizes = [len(members[name]) for name in names]
        for name, split in zip(names, _fill(sizes, ratios), strict=True):
            splits.update((entry.id, split) for entry in members[name])
    return splits


def _fill(sizes: Sequence[int], ratios: Mapping[str, float]) -> list[str]:
    """Split of each group of one class: large groups first, to the emptiest split."""
    wanted = [split for split in SPLITS if ratios.get(split, 0) > 0][: len(sizes)]
    room = {split: sum(sizes) * ratios[split] for split in wanted}
    empty = set(wanted)
    chosen = [""] * len(sizes)
    order = sorted(range(len(sizes)), key=lambda index: -sizes[index])
    for position, index in enumerate(order):
        # The last groups go to splits that would otherwise get none.
        last = len(order) - position <= len(empty)
        options = [split for split in wanted if split in empty] if last else wanted
        chosen[index] = max(options, key=lambda split: room[split])
        room[chosen[index]] -= sizes[index]
        empty.discard(chosen[index])
    return chosen


def _notes_on_duplicates(duplicates: list[list[VideoEntry]]) -> list[str]:
    """Tell of identical files, first of all where their labels differ."""
    notes = []
    for same in duplicates:
        names = _some_ids(same)
        labels = sorted({entry.label for entry in same})
        if len(labels) > 1:
            notes.append(f"identical files with different labels {labels}: {names}")
        else:
            notes.append(f"identical files: {names}")
    return _at_most(sorted(notes, key=lambda note: "labels" not in note), "the like")


def _notes_on_torn_groups(
    groups: list[list[VideoEntry]], splits: Mapping[str, str]
) -> list[str]:
    """Tell where the given splits put one group into several."""
    notes = []
    for group in groups:
        used = Counter(splits[entry.id] for entry in group)
        if len(used) > 1:
            notes.append(
                "leak: the given splits put videos of one group into "
                f"{' and '.join(sorted(used))}: {_some_ids(group)}"
            )
    return _at_most(notes, "groups torn apart")


def _some_ids(entries: Sequence[VideoEntry]) -> str:
    """The first ids of a group."""
    names = ", ".join(entry.id for entry in entries[:4])
    return names + (", ..." if len(entries) > 4 else "")


def _at_most(notes: list[str], what: str) -> list[str]:
    """The first notes of one kind, and how many more there are."""
    more = len(notes) - _MOST_NOTES
    return notes if more <= 0 else [*notes[:_MOST_NOTES], f"{more} more {what}"]


def _notes_on_unused_splits(
    ratios: Mapping[str, float], splits: Mapping[str, str]
) -> list[str]:
    """Tell which splits should have a share and got nothing."""
    used = set(splits.values())
    return [
        f"split {name!r} stays empty: no class has enough groups of videos"
        for name in SPLITS
        if ratios.get(name, 0) > 0 and name not in used
    ]


def _notes_on_missing_classes(
    entries: Sequence[VideoEntry], splits: Mapping[str, str]
) -> list[str]:
    """Tell which classes a split that is used lacks."""
    labels = {entry.label for entry in entries}
    present = defaultdict(set)
    for entry in entries:
        present[splits[entry.id]].add(entry.label)
    return [
        f"split {split!r} has no video of: {', '.join(sorted(labels - present[split]))}"
        for split in SPLITS
        if present[split] and present[split] != labels
    ]
