"""One card per registered network: what it costs here and what its paper reports."""

import csv
import difflib
import json
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape

from tsi_keras.models.catalog import PRESETS
from tsi_keras.models.catalog import Preset
from tsi_keras.models.catalog import Result
from tsi_keras.models.presets import video_resnet
from tsi_keras.models.profiling import Figures
from tsi_keras.models.profiling import profile
from tsi_keras.models.temporal import list_temporal
from tsi_keras.utils.console import console
from tsi_keras.utils.console import progress
from tsi_keras.utils.errors import InputError


@dataclass(frozen=True)
class ModelCard:
    """A network in figures.

    Attributes:
        name: registered name of the preset or temporal module.
        title: one line.
        reference: paper.
        num_frames: frames per clip.
        parameters: trainable parameters.
        macs: multiply-adds per clip, matrix products included.
        thop: the same in the convention of most papers (see `profile`).
        activation_bytes: estimated training memory per clip.
        results: published accuracies with their sources.
    """

    name: str
    title: str
    reference: str
    num_frames: int
    parameters: int
    macs: int
    thop: int
    activation_bytes: int
    results: tuple[Result, ...]


COLUMNS = (
    "name",
    "frames",
    "parameters",
    "gmacs",
    "gflops_thop_convention",
    "activation_mib",
    "published_top1_top5",
    "reference",
)


def network_names() -> list[str]:
    """Every registered network: the presets, then modules without a preset of theirs."""
    covered = {preset.options["temporal"] for preset in PRESETS.values()}
    return [*PRESETS, *(name for name in list_temporal() if name not in covered)]


def model_cards(
    names: Iterable[str] | None = None,
    *,
    num_classes: int = 174,
    frame_size: int = 224,
    progress: Callable[[list[str]], Iterable[str]] = iter,
) -> list[ModelCard]:
    """Build networks with random weights and describe them.

    Args:
        names: presets or temporal modules; by default all registered ones.
        num_classes: of the head.
        frame_size: side of the frames, pixels.
        progress: wraps the list of names while it is worked through.

    Returns:
        One card per name, in order.

    Raises:
        ValueError: an unknown name.

    Example:
        ```python
        for card in model_cards(["tsn_resnet50", "tsi_resnet50"]):
            print(card.name, card.parameters, card.macs / 1e9)
        ```
    """
    presets = {name: _preset(name) for name in (names or network_names())}
    costs: dict[str, Figures] = {}
    return [
        _card(name, presets[name], num_classes, frame_size, costs)
        for name in progress(list(presets))
    ]


def describe_models(
    names: Sequence[str] = (),
    *,
    num_classes: int = 174,
    frame_size: int = 224,
    csv_file: str | Path | None = None,
    overwrite: bool = False,
) -> list[ModelCard]:
    """Print the cards as a table, and write them as CSV if a file is named.

    Args:
        names: as for `model_cards`; empty for all.
        num_classes: of the head.
        frame_size: side of the frames, pixels.
        csv_file: file to write.
        overwrite: replace an existing file.

    Raises:
        InputError: an unknown name, an impossible number, or the file exists.
    """
    if csv_file is not None and not Path(csv_file).absolute().parent.is_dir():
        raise InputError(f"`--csv` {csv_file}: its folder does not exist.")
    if csv_file is not None and Path(csv_file).exists() and not overwrite:
        raise InputError(f"`--csv` {csv_file} exists; add --overwrite to replace it.")
    for option, value in (("num-classes", num_classes), ("frame-size", frame_size)):
        if value < 2:
            raise InputError(f"`--{option}` must be at least 2. Received: {value}")
    with progress("networks") as bar:
        try:
            cards = model_cards(
                names or None,
                num_classes=num_classes,
                frame_size=frame_size,
                progress=lambda todo: bar.track(todo, description="building"),
            )
        except ValueError as error:
            raise InputError(str(error)) from error
    for card in cards:
        _print_card(card)
    if csv_file is not None:
        write_cards(cards, csv_file)
    return cards


def _print_card(card: ModelCard) -> None:
    cost = (
        f"{card.num_frames} frames  {card.parameters:,} parameters  "
        f"{card.macs / 1e9:.2f} GMACs ({card.thop / 1e9:.2f} by thop)"
    )
    console.print(f"[bold]{card.name}[/]  {escape(card.title)}", soft_wrap=True)
    for line in (cost, card.reference, *map(str, card.results)):
        if line:
            console.print(f"    {line}", markup=False, soft_wrap=True)


def card_rows(cards: Iterable[ModelCard]) -> list[tuple]:
    """The cards as rows under `COLUMNS`."""
    return [
        (
            card.name,
            card.num_frames,
            card.parameters,
            round(card.macs / 1e9, 3),
            round(card.thop / 1e9, 3),
            round(card.activation_bytes / 2**20),
            "; ".join(map(str, card.results)),
            card.reference,
        )
        for card in cards
    ]


def write_cards(cards: Iterable[ModelCard], path: str | Path) -> None:
    """Write the cards as CSV."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(card_rows(cards))


def _preset(name: str) -> Preset:
    """The preset of a name, or ResNet-50 with the temporal module of that name."""
    if name in PRESETS:
        return PRESETS[name]
    modules = list_temporal()
    if name not in modules:
        near = difflib.get_close_matches(name, [*PRESETS, *modules], n=3, cutoff=0.4)
        hint = (
            f"Did you mean {' or '.join(near)}?" if near else "List all without NAME."
        )
        raise ValueError(f"No network is called {name}. {hint}")
    return Preset(modules[name], "", {"depth": 50, "temporal": name, "num_frames": 8})


def _card(name, preset, num_classes, frame_size, costs) -> ModelCard:
    """Table rows repeat networks: each is built once."""
    key = json.dumps(preset.options, sort_keys=True)
    if key not in costs:
        model = video_resnet(num_classes=num_classes, **preset.options)
        costs[key] = profile(model, frame_size=frame_size).total
    cost = costs[key]
    return ModelCard(
        name=name,
        title=preset.title,
        reference=preset.reference,
        num_frames=preset.options["num_frames"],
        parameters=cost.trainable,
        macs=cost.macs,
        thop=cost.thop,
        activation_bytes=cost.activation_bytes,
        results=preset.results,
    )
