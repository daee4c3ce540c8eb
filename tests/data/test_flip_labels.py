"""Pairs of classes that change places in the mirror, found by their names."""

import os
from pathlib import Path

import numpy as np
import pytest

from tsi_keras.data.flip_labels import flip_map

SOMETHING = [
    "Plugging something into something but pulling it right out",
    "Pulling something from left to right",
    "Pulling something from right to left",
    "Pulling something onto something",
    "Turning the camera left while filming something",
    "Turning the camera right while filming something",
    "Turning the camera upwards while filming something",
]


def test_something_something_pairs():
    assert flip_map(SOMETHING, "swap").tolist() == [-1, 2, 1, 3, 5, 4, 6]


def test_pairs_follow_the_names_in_any_order():
    order = [4, 2, 0, 6, 5, 3, 1]
    names = [SOMETHING[i] for i in order]
    swapped = {names[i]: j for i, j in enumerate(flip_map(names, "swap"))}
    assert swapped[SOMETHING[0]] == -1
    assert names[swapped[SOMETHING[1]]] == SOMETHING[2]
    assert names[swapped[SOMETHING[4]]] == SOMETHING[5]


@pytest.mark.parametrize(
    "pair",
    [
        ("move_left", "move_right"),
        ("MoveLeft", "MoveRight"),
        ("moveleft", "moveright"),
        ("Swiping Left", "Swiping Right"),
        ("swipe-left-to-right", "swipe-right-to-left"),
        ("rotate leftwards", "rotate rightwards"),
        ("clockwise", "counterclockwise"),
        ("rotate_clockwise", "rotate_counter_clockwise"),
        ("Turn clockwise", "Turn counter-clockwise"),
        ("turn clockwise", "turn anticlockwise"),
        ("TurnClockwise", "TurnAntiClockwise"),
        ("spin cw", "spin ccw"),
    ],
)
def test_spellings(pair):
    names = ["clap", pair[1], "bright light", pair[0]]
    assert flip_map(names, "swap").tolist() == [0, 3, 2, 1]


@pytest.mark.parametrize(
    "name", ["keep right", "TurnLeft", "spin_clockwise", "look left and right"]
)
def test_directional_class_without_partner_is_never_mirrored(name):
    assert flip_map(["clap", name], "swap").tolist() == [0, -1]


def test_ambiguous_partners_are_never_mirrored():
    names = ["go left", "go right", "go_right"]
    assert flip_map(names, "swap").tolist() == [-1, -1, -1]


def test_words_that_only_contain_left_or_right_are_neutral():
    names = ["copyright", "cleft", "打 left", "挥 right", "挥 left"]
    assert flip_map(names, "swap").tolist() == [0, 1, -1, 4, 3]


def test_map_is_its_own_inverse():
    mirrored = flip_map([*SOMETHING, "cw", "ccw"], "swap")
    assert mirrored.dtype == np.int32
    usable = np.flatnonzero(mirrored >= 0)
    assert mirrored[mirrored[usable]].tolist() == usable.tolist()
    assert (mirrored[usable] != usable).sum() == 6


def test_other_modes():
    assert flip_map(SOMETHING, "none") is None
    assert flip_map(SOMETHING, "all").tolist() == list(range(len(SOMETHING)))
    with pytest.raises(ValueError, match="must be one of"):
        flip_map(SOMETHING, "some")


# The directional classes of Something-Something at their published labels.
PAIRS = {
    "sorted": {(86, 87), (93, 94), (166, 167)},
    "v1 as published": {(2, 4), (30, 41), (52, 66)},
}
PAIRS_BY_NAME = (
    ("Pulling something from left to right", "Pulling something from right to left"),
    ("Pushing something from left to right", "Pushing something from right to left"),
    (
        "Turning the camera left while filming something",
        "Turning the camera right while filming something",
    ),
)


def named_pairs(names: list[str]) -> set[tuple[int, int]]:
    """Positions of the directional pairs, found by the whole names."""
    return {tuple(sorted(map(names.index, pair))) for pair in PAIRS_BY_NAME}


def swapped_pairs(names: list[str]) -> set[tuple[int, int]]:
    """Labels that change places."""
    mirrored = flip_map(names, "swap")
    return {(i, int(j)) for i, j in enumerate(mirrored) if j > i}


@pytest.mark.parametrize("order", PAIRS)
def test_known_maps_of_something_something(order):
    names = [f"Doing thing {i} with something" for i in range(174)]
    for labels, pair in zip(sorted(PAIRS[order]), PAIRS_BY_NAME, strict=True):
        for label, name in zip(labels, pair, strict=True):
            names[label] = name
    assert swapped_pairs(names) == PAIRS[order]


@pytest.mark.parametrize(
    ("name", "order"), [("sthv1.txt", "v1 as published"), ("sthv2.txt", "sorted")]
)
def test_published_lists_in_their_own_order(name, order):
    folder = os.environ.get("TSI_LABELS")
    if not folder or not (Path(folder) / name).is_file():
        pytest.skip("TSI_LABELS names no folder of published label lists")
    names = (Path(folder) / name).read_text(encoding="utf-8").splitlines()
    assert len(names) == 174
    assert swapped_pairs(names) == named_pairs(names) == PAIRS[order]


@pytest.mark.parametrize("name", ["sthv1.txt", "sthv2.txt"])
def test_published_label_lists(name):
    folder = os.environ.get("TSI_LABELS")
    if not folder or not (Path(folder) / name).is_file():
        pytest.skip("TSI_LABELS names no folder of published label lists")
    names = sorted((Path(folder) / name).read_text(encoding="utf-8").splitlines())
    mirrored = flip_map(names, "swap")
    pairs = {(i, int(j)) for i, j in enumerate(mirrored) if j > i}
    assert pairs == {(86, 87), (93, 94), (166, 167)}
    assert [names[i] for i in np.flatnonzero(mirrored < 0)] == [
        "Plugging something into something but pulling it right out as you remove "
        "your hand"
    ]
