"""Damage video files in all the ways that disks, networks and renaming do."""

import random
from collections.abc import Callable
from pathlib import Path

HUGE = (0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFF0, 0x80000000)


def truncate(data: bytes, rng: random.Random) -> bytes:
    """A download that was cut."""
    return data[: rng.randrange(1, len(data))]


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    """A few wrong bits anywhere."""
    spoilt = bytearray(data)
    for _ in range(rng.choice((1, 8, 64, 512))):
        spoilt[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def flip_header_bits(data: bytes, rng: random.Random) -> bytes:
    """A few wrong bits where containers keep their tables: in front and at the end."""
    spoilt = bytearray(data)
    for _ in range(rng.choice((1, 4, 16))):
        place = rng.randrange(min(4096, len(data)))
        spoilt[place if rng.random() < 0.5 else -place - 1] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def huge_header(data: bytes, rng: random.Random) -> bytes:
    """Sizes and counts of gigabytes in the tables."""
    spoilt = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        start = rng.randrange(min(4096, len(data) - 4))
        start = start if rng.random() < 0.5 else len(data) - start - 4
        order = rng.choice(("big", "little"))
        spoilt[start : start + 4] = rng.choice(HUGE).to_bytes(4, order)
    return bytes(spoilt)


def blank_out(data: bytes, rng: random.Random) -> bytes:
    """A hole of zeros, as file systems leave after a crash."""
    start = rng.randrange(len(data))
    length = min(rng.choice((512, 4096, 65536)), len(data) - start)
    return data[:start] + bytes(length) + data[start + length :]


def shuffle_blocks(data: bytes, rng: random.Random) -> bytes:
    """Blocks in the wrong order."""
    size = max(64, len(data) // 16)
    blocks = [data[i : i + size] for i in range(0, len(data), size)]
    rng.shuffle(blocks)
    return b"".join(blocks)


def noise(data: bytes, rng: random.Random) -> bytes:
    """The right beginning, then anything."""
    return data[: rng.randrange(64)] + rng.randbytes(len(data) // 2)


def empty(data: bytes, rng: random.Random) -> bytes:
    """Zero bytes."""
    return b""


KINDS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    truncate,
    flip_bits,
    flip_header_bits,
    huge_header,
    blank_out,
    shuffle_blocks,
    noise,
    empty,
)
NAMES = ("plain", "with space", "ünï cødé 手", "a:b", "100% #1", "'quoted\"", "-x")
SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".flv")


def damage(clip: Path, folder: Path, number: int, seed: int = 0) -> list[Path]:
    """Write `number` damaged copies of a clip, some named as another container.

    Args:
        clip: a whole video.
        folder: where to write; it is made.
        number: of copies; the kinds of damage take turns.
        seed: of all that is drawn.

    Returns:
        The copies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data, copies = clip.read_bytes(), []
    for index in range(number):
        rng = random.Random(f"{seed} {clip.name} {index}")
        kind = KINDS[index % len(KINDS)]
        suffix = rng.choice(SUFFIXES) if index % 3 == 0 else clip.suffix
        name = f"{NAMES[index % len(NAMES)]} {index} {kind.__name__}{suffix}"
        copies.append(folder / f"{clip.stem} {name}")
        copies[-1].write_bytes(kind(data, rng))
    return copies
