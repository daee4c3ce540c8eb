"""Annotation files of published data sets in their own layouts, for the tests here.

They hold the ugly rows that real ones hold: byte order marks, carriage returns, blank
lines, quoted commas, repeated ids, missing files, test rows without a label.
"""

import json
from pathlib import Path

import pytest

from tsi_keras.data.annotations import scan
from tsi_keras.utils.errors import InputError


def touch(root: Path, *names: str) -> Path:
    """Make empty files; annotations never open them."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def write(path: Path, text: str) -> Path:
    """Write exactly these characters, CRLF and byte order mark included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))
    return path


def table(found) -> list[tuple]:
    """Id, label and split of every entry."""
    return [(entry.id, entry.label, entry.split) for entry in found.entries]


def refused(*args, **options) -> str:
    """Why an input is refused: one line."""
    with pytest.raises(InputError) as error:
        scan(*args, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


V1_LABELS = """Holding something
Turning something upside down
Putting something, something and something on the table
"Pushing something so that it almost falls off but doesn't"
Stacking number of something
"""


def something_v1(root: Path) -> Path:
    """Frame folders and lists with CRLF, blank lines, quotes and repeated rows."""
    for name in ("1", "2", "3", "4", "5"):
        touch(root / "20bn-something-something-v1", f"{name}/00001.jpg")
    write(root / "something-something-v1-labels.csv", V1_LABELS)
    write(
        root / "something-something-v1-train.csv",
        "\ufeff1;Stacking number of something\r\n\r\n"
        "2;Putting something, something and something on the table\r\n"
        '3;"Pushing something so that it almost falls off but doesn\'t"\r\n'
        "1;Stacking number of something\r\n",
    )
    write(
        root / "something-something-v1-validation.csv",
        "4;Holding something\n99;Turning something upside down\n",
    )
    write(root / "something-something-v1-test.csv", "5\n6\n")
    return root


def something_v2(root: Path, **changes) -> Path:
    """Videos and the four JSON files of the download."""
    touch(root / "20bn-something-something-v2", "78687.webm", "42326.webm", "1420.webm")
    train = [
        {
            "id": "78687",
            "label": "holding potato next to vicks vaporub bottle",
            "template": "Holding [something] next to [something]",
            "placeholders": ["potato", "vicks vaporub bottle"],
        }
    ]
    validation = [
        {
            "id": "42326",
            "label": 'putting "a, b" on c',
            "template": "Putting [something similar to other things] on [something]",
            "placeholders": ['"a, b"', "c"],
        }
    ]
    labels = {
        "Putting something similar to other things on something": "0",
        "Holding something next to something": "1",
        "Unused class": "2",
    }
    contents = {
        "train": train,
        "validation": validation,
        "test": [{"id": "1420"}],
        "labels": labels,
    } | changes
    for name, content in contents.items():
        text = json.dumps(content, indent=1).replace("\n", "\r\n")
        write(root / "labels" / f"something-something-v2-{name}.json", text)
    return root


KINETICS = """\ufefflabel,youtube_id,time_start,time_end,split,is_cc\r
"passing American football, in game",-0aBcDeFgHi,82,92,train,0\r
abseiling,--Xy_9zAbCd,3,13,train,0\r
\r
abseiling,AAAAAAAAAAA,0,10,validate,1\r
"massaging person's head",BBBBBBBBBBB,100.0,110.0,train,0\r
abseiling,CCCCCCCCCCC,5,15,train,0\r
abseiling,CCCCCCCCCCC,5,15,train,0\r
abseiling,CCCCCCCCCCC,40,50,train,0\r
zumba,DDDDDDDDDDD,1,11,train,0\r
"""


def kinetics(root: Path) -> Path:
    write(root / "train.csv", KINETICS)
    touch(
        root / "videos",
        "passing_American_football,_in_game/-0aBcDeFgHi_000082_000092.mp4",
        "abseiling/--Xy_9zAbCd_000003_000013.mp4",
        "AAAAAAAAAAA.mkv",
        "massaging person's head/BBBBBBBBBBB.mp4",
        "CCCCCCCCCCC.mp4",
        "abseiling/EEEEEEEEEEE_000001_000011.mp4",
    )
    return root


def ucf101(root: Path) -> Path:
    """Two of three splits; the official class list sorts Hammering before its kin."""
    touch(
        root / "UCF-101",
        "Hammering/v_Hammering_g01_c01.avi",
        "Hammering/v_Hammering_g08_c01.avi",
        "HammerThrow/v_HammerThrow_g08_c01.avi",
        "HammerThrow/v_HammerThrow_g08_c02.avi",
    )
    lists = root / "ucfTrainTestlist"
    write(lists / "classInd.txt", "1 Hammering\r\n2 HammerThrow\r\n\r\n")
    write(
        lists / "trainlist01.txt",
        "Hammering/v_Hammering_g08_c01.avi 1\r\n"
        "HammerThrow/v_HammerThrow_g08_c01.avi 2\r\n"
        "HammerThrow/v_HammerThrow_g08_c02.avi 2 \r\n",
    )
    write(lists / "testlist01.txt", "Hammering/v_Hammering_g01_c01.avi\n")
    write(lists / "trainlist02.txt", "Hammering/v_Hammering_g01_c01.avi 1\n")
    write(lists / "testlist02.txt", "HammerThrow/v_HammerThrow_g08_c01.avi\n")
    return root


def hmdb51(root: Path) -> Path:
    touch(root / "videos", "brush_hair/a [x] #1 (b).avi", "cart wheel/c;d.avi")
    touch(root / "videos", "brush_hair/e.avi", "cart wheel/e.avi")
    lists = root / "testTrainMulti_7030_splits"
    write(
        lists / "brush_hair_test_split1.txt",
        "a [x] #1 (b).avi 1 \nunused_1.avi 0 \nunused_2.avi 0 \ne.avi 2 \n",
    )
    write(lists / "cart wheel_test_split1.txt", "c;d.avi 1 \r\ne.avi 1 \r\n")
    write(lists / "brush_hair_test_split2.txt", "e.avi 1 \n")
    write(lists / "cart wheel_test_split2.txt", "e.avi 2 \n")
    return root


def diving48(root: Path, **changes) -> Path:
    touch(root / "rgb", "JnNPQtYz1dQ_00074.mp4", "_8Vy3dlHg2w_00000.mp4", "x.mp4")
    first = {"vid_name": "JnNPQtYz1dQ_00074", "label": 2} | changes
    first = {"start_frame": 0, "end_frame": 177} | first
    second = {
        "vid_name": "_8Vy3dlHg2w_00000",
        "start_frame": 12,
        "label": 0,
        "end_frame": 134,
    }
    write(root / "Diving48_V2_train.json", json.dumps([first]))
    write(root / "Diving48_V2_test.json", json.dumps([second]))
    vocab = [["Back", "15som", "05Twis", "FREE"], ["Back", "Dive"], ["Inward", "TUCK"]]
    write(root / "Diving48_vocab.json", json.dumps(vocab))
    return root
