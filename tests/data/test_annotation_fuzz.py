"""Damaged annotation files end in one clear line, whatever the damage."""

import json
import random
from pathlib import Path

import pytest

from tests.data.making_annotations import diving48
from tests.data.making_annotations import hmdb51
from tests.data.making_annotations import kinetics
from tests.data.making_annotations import something_v1
from tests.data.making_annotations import something_v2
from tests.data.making_annotations import touch
from tests.data.making_annotations import ucf101
from tests.data.making_annotations import write
from tsi_keras.data.annotations import scan
from tsi_keras.utils.errors import InputError

MUTATIONS = 40  # per file
NASTY = [
    *(
        b"\x00",
        b"\xff",
        b'"',
        b"\n",
        b"\r",
        b",",
        b";",
        b"/",
        b"[",
        b"}",
        b"\xef\xbb\xbf",
    ),
    *(b"nan", b"1e999", b"-1", b"..", b"\xf0\x9f\x8e\xac", b" " * 3000),
]
VALUES = [None, True, -1, 1.5, 1e300, "", "x", "../x", [], [1], {}, {"a": 1}, "\ud800"]


def manifests(root: Path) -> Path:
    """A list in both its forms."""
    touch(root, "a.mp4")
    text = "path,label,split,start,end\na.mp4,x,train,1,2\nb.mp4,y,val,,\n"
    write(root / "list.csv", text)
    first = {"tsi_keras_manifest": 1, "class_names": ["x", "y"]}
    rows = [first, {"path": "a.mp4", "label": "x", "start": 1.5, "frame_fps": 12}]
    write(root / "list.jsonl", "\n".join(map(json.dumps, rows)))
    return root


FORMATS = {
    "something-v1": something_v1,
    "something-v2": something_v2,
    "kinetics": kinetics,
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "diving48": diving48,
    "csv": manifests,
    "jsonl": manifests,
}


def check(root: Path, format: str) -> bool:
    """Whether an input is read; where it is not, the reason must be one line."""
    source = root / f"list.{format}" if format in ("csv", "jsonl") else root
    try:
        for entry in scan(source, format=format).entries:
            assert entry.id.encode() and entry.label.encode() and entry.group.encode()
            assert "\0" not in f"{entry.path}"
        return True
    except InputError as error:
        assert str(error).strip() and len(str(error).splitlines()) == 1
        str(error).encode("utf-8")
        return False


def annotation_files(root: Path) -> list[Path]:
    suffixes = (".csv", ".json", ".jsonl", ".txt")
    return sorted(path for path in root.rglob("*") if path.suffix in suffixes)


@pytest.mark.parametrize("format", FORMATS)
def test_random_bytes(tmp_path, format):
    """Cut off, with bits turned, and with bytes that mean something to a reader."""
    root = FORMATS[format](tmp_path)
    assert check(root, format)
    outcomes = set()
    for path in annotation_files(root):
        good = path.read_bytes()
        for seed in range(MUTATIONS):
            path.write_bytes(mutated(good, random.Random(f"{path.name} {seed}")))
            outcomes.add(check(root, format))
        path.write_bytes(good)
    assert False in outcomes


def mutated(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data) + 1)
    kind = chance.choice(["cut", "turn", "insert", "replace"])
    if kind == "cut":
        return data[:place]
    if kind == "turn":
        turned = bytearray(data)
        turned[place % len(data)] ^= 1 << chance.randrange(8)
        return bytes(turned)
    end = place + (0 if kind == "insert" else chance.randrange(1, 9))
    return data[:place] + chance.choice(NASTY) + data[end:]


@pytest.mark.parametrize(
    "format", ["something-v1", "something-v2", "diving48", "jsonl"]
)
def test_values_of_other_types(tmp_path, format):
    """Every value of every object replaced by what nobody expects."""
    root = FORMATS[format](tmp_path)
    if format == "something-v1":
        path = root / "something-something-v1-train.csv"
        path.unlink()
        path = path.with_suffix(".json")
        write(path, json.dumps([{"id": "1", "label": "Holding something"}]))
    for path in annotation_files(root):
        if path.suffix == ".csv":
            continue
        good = path.read_text()
        lines = good.splitlines() if path.suffix == ".jsonl" else [good]
        for number, line in enumerate(lines):
            for content in with_odd_values(json.loads(line)):
                changed = [*lines[:number], json.dumps(content), *lines[number + 1 :]]
                path.write_text("\n".join(changed))
                check(root, format)
        path.write_text(good)


def with_odd_values(content):
    """The content with one value or item after the other replaced."""
    yield from VALUES
    keys = content if isinstance(content, dict) else range(len(content))
    for key in list(keys):
        old = content[key]
        inner = isinstance(old, (dict, list))
        for value in with_odd_values(old) if inner else VALUES:
            content[key] = value
            yield content
        content[key] = old
