"""The result of `profile`: rows per layer, sums per stage, as text, dict or CSV."""

import csv
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figures:
    """Cost of some layers for one clip.

    Attributes:
        trainable: trainable parameters.
        non_trainable: other parameters (moving statistics, frozen weights).
        macs: multiply-adds, matrix products included.
        thop: operations in the convention of thop 0.1.1, which most papers used.
        activation_bytes: estimated memory kept for the backward pass.
    """

    trainable: int = 0
    non_trainable: int = 0
    macs: int = 0
    thop: int = 0
    activation_bytes: int = 0

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.trainable + self.non_trainable

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(
            *(a + b for a, b in zip(_values(self), _values(other), strict=True))
        )


@dataclass(frozen=True)
class LayerRow:
    """One layer (or operation) of the model.

    Attributes:
        name: path in the model, `backbone/layer1_0_conv1`.
        class_name: of the layer.
        stage: `"stem"`, `"res2"`, ... or the size of the maps.
        output_shape: with the batch axis, for one clip.
        figures: its cost.
        temporal: whether it is a temporal module.
        not_counted: classes of the layers in it for which no rule is known; their
            operations and activations are missing from the figures, their parameters
            are not.
    """

    name: str
    class_name: str
    stage: str
    output_shape: tuple
    figures: Figures
    temporal: bool = False
    not_counted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Profile:
    """Cost of a model for one clip.

    Attributes:
        name: of the model.
        input_shape: shape of the input it was profiled for, with the batch axis.
        rows: one per layer, in the order of execution.

    Example:
        ```python
        cost = profile(model, frame_size=224)
        print(cost)
        print(cost.total.macs / 1e9, cost.stages["res2"].activation_bytes)
        cost.to_csv("cost.csv", per="layer")
        ```
    """

    name: str
    input_shape: tuple
    rows: tuple[LayerRow, ...]

    @property
    def total(self) -> Figures:
        """Cost of the whole model."""
        return _sum(row.figures for row in self.rows)

    @property
    def stages(self) -> dict[str, Figures]:
        """Cost by stage, in the order of execution."""
        return self.grouped(lambda row: row.stage)

    @property
    def temporal(self) -> Figures:
        """The share of the temporal modules."""
        return _sum(row.figures for row in self.rows if row.temporal)

    @property
    def not_counted(self) -> tuple[str, ...]:
        """`layer (class)` of everything without a cost rule."""
        return tuple(
            f"{row.name} ({name})" for row in self.rows for name in row.not_counted
        )

    def grouped(self, key: Callable[[LayerRow], str]) -> dict[str, Figures]:
        """Sums of the rows by `key(row)`, in the order of first appearance."""
        sums: dict[str, Figures] = {}
        for row in self.rows:
            sums[key(row)] = sums.get(key(row), Figures()) + row.figures
        return sums

    def table(self, per: str = "stage") -> str:
        """A text table, one line per stage, class of layer or layer.

        Args:
            per: `"stage"`, `"class"` or `"layer"`.
        """
        lines = [("", *HEADINGS)]
        lines += [(key, *_cells(figures)) for key, figures in self._groups(per).items()]
        lines.append(("total", *_cells(self.total)))
        if any(row.temporal for row in self.rows):
            lines.append(("of which temporal", *_cells(self.temporal)))
        title = f"{self.name}, input {_shape(self.input_shape)}"
        return "\n".join([title, *_aligned(lines), *self._warnings()])

    def __str__(self) -> str:
        return self.table()

    def to_dict(self) -> dict:
        """Everything as plain types, ready for JSON."""
        return {
            "name": self.name,
            "input_shape": list(self.input_shape),
            "total": _plain(self.total),
            "temporal": _plain(self.temporal),
            "stages": {key: _plain(value) for key, value in self.stages.items()},
            "layers": [_layer(row) for row in self.rows],
            "not_counted": list(self.not_counted),
        }

    def to_csv(self, path: str | Path, per: str = "stage") -> None:
        """Write the table of `per`, exact numbers, with the totals as its last line."""
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([per, *_plain(Figures())])
            for key, figures in (*self._groups(per).items(), ("total", self.total)):
                writer.writerow([key, *_plain(figures).values()])

    def _warnings(self) -> list[str]:
        """One line per class without a rule."""
        classes = Counter(name for row in self.rows for name in row.not_counted)
        return [
            f"NOT COUNTED: {name} ({count} {'calls' if count > 1 else 'call'}) has no "
            "cost rule"
            for name, count in classes.items()
        ]

    def _groups(self, per: str) -> dict[str, Figures]:
        keys = {
            "stage": lambda row: row.stage,
            "class": lambda row: row.class_name,
            "layer": lambda row: row.name,
        }
        if per not in keys:
            raise ValueError(
                f"`per` must be one of {list(keys)}. Received: per={per!r}"
            )
        return self.grouped(keys[per])


HEADINGS = ("parameters", "trainable", "GMACs", "thop G", "activations MB")


def _cells(figures: Figures) -> tuple[str, ...]:
    return (
        f"{figures.parameters:,}",
        f"{figures.trainable:,}",
        f"{figures.macs / 1e9:.3f}",
        f"{figures.thop / 1e9:.3f}",
        f"{figures.activation_bytes / 1e6:.1f}",
    )


def _aligned(lines: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]


def _layer(row: LayerRow) -> dict:
    return {
        "name": row.name,
        "class": row.class_name,
        "stage": row.stage,
        "output_shape": list(row.output_shape),
        "temporal": row.temporal,
        **_plain(row.figures),
    }


def _plain(figures: Figures) -> dict[str, int]:
    return {"parameters": figures.parameters, **asdict(figures)}


def _values(figures: Figures) -> tuple[int, ...]:
    return tuple(asdict(figures).values())


def _shape(shape) -> str:
    return f"({', '.join(map(str, shape))})"


def _sum(figures: Iterable[Figures]) -> Figures:
    return sum(figures, Figures())
