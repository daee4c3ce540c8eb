"""Videos that show the same: by equal contents, and by nearly equal signatures."""

from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Sequence

import numpy as np

# 256 bits in 16 bands: two signatures that differ in fewer than 16 bits agree in at
# least one band, so only videos that share a band have to be compared.
_BANDS = 16
NEAR_BITS = 12
_MOST_IN_A_BAND = 400  # pairs grow with the square; more alike than this is no copy


def equal_groups(keys: Sequence[str]) -> list[list[int]]:
    """Positions that share a key.

    Args:
        keys: one per video; empty ones are left alone.

    Returns:
        Groups of two or more positions, in order of their first.
    """
    groups = defaultdict(list)
    for position, key in enumerate(keys):
        if key:
            groups[key].append(position)
    return [group for group in groups.values() if len(group) > 1]


def near_pairs(
    signatures: Sequence[bytes], most_bits: int = NEAR_BITS
) -> tuple[list[tuple[int, int]], int]:
    """Pairs of signatures that differ in few bits, without comparing all with all.

    Args:
        signatures: 32 bytes each, see `read_record`; empty ones are left alone.
        most_bits: most bits that may differ; at most 15.

    Returns:
        The pairs of positions, sorted, and the number of videos that were compared
        with none, because more than 400 agree with them in every band.
    """
    positions = [i for i, signature in enumerate(signatures) if signature]
    if not positions:
        return [], 0
    bits = np.frombuffer(b"".join(signatures[i] for i in positions), np.uint8)
    bits = bits.reshape(len(positions), -1)
    pairs, crowded = set(), np.zeros(len(positions), int)
    for band in np.split(bits, _BANDS, axis=1):
        for group in _shared_rows(band):
            if len(group) > _MOST_IN_A_BAND:
                crowded[group] += 1
            else:
                pairs.update(_close(bits, group, most_bits))
    named = sorted((positions[a], positions[b]) for a, b in pairs)
    return named, int((crowded == _BANDS).sum())


def _shared_rows(band: np.ndarray) -> Iterable[np.ndarray]:
    """Groups of rows with equal contents."""
    values = np.ascontiguousarray(band).view(np.dtype((np.void, band.shape[1])))[:, 0]
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(values[order][1:] != values[order][:-1]) + 1
    return (group for group in np.split(order, starts) if len(group) > 1)


def _close(
    bits: np.ndarray, group: np.ndarray, most_bits: int
) -> Iterable[tuple[int, int]]:
    """Pairs within a group that differ in at most `most_bits` bits."""
    rows = bits[group]
    differing = np.unpackbits(rows[:, None] ^ rows[None], axis=-1).sum(-1)
    for a, b in np.argwhere(np.triu(differing <= most_bits, 1)):
        first, second = sorted((int(group[a]), int(group[b])))
        yield first, second


def spread(groups: Iterable[Sequence[int]], values: Sequence[str]) -> list[list[int]]:
    """Those groups whose members have more than one value.

    Args:
        groups: positions.
        values: split or class of each position.
    """
    return [list(g) for g in groups if len({values[i] for i in g}) > 1]
