"""What was loaded, what was not and why."""

from collections import Counter
from dataclasses import dataclass

LOADED = "loaded"
KEPT = "re-initialised"
UNUSED = "unused"
# These stop the loading.
MISSING = "missing"
MISFIT = "mismatched"
UNEXPECTED = "unexpected"
PROBLEMS = (MISSING, MISFIT, UNEXPECTED)


@dataclass(frozen=True)
class WeightRow:
    """One line of the table.

    Attributes:
        weight: path of the model's weight, or None for an entry of the source alone.
        source: key in the source, or None for a weight of the model alone.
        status: `"loaded"`, `"re-initialised"` (the weight is as it was before) or
            `"unused"`; in the message of an error also `"missing"`, `"mismatched"` or
            `"unexpected"`.
        reason: why it was not loaded, or what was done to it.
        group: `"image backbone"`, `"head"`, `"temporal: sme"`, or `"source only"`.
    """

    weight: str | None
    source: str | None
    status: str
    reason: str
    group: str


@dataclass(frozen=True)
class LoadReport:
    """The outcome of `load_weights_from`.

    Attributes:
        model: name of the model.
        source: name of the source.
        rows: one `WeightRow` for every weight of the model, then one for every entry of
            the source that went nowhere.

    Example:
        ```python
        report = load_weights_from(model, "resnet50.pth", verbose=False)
        report.counts  # {"loaded": 265, "re-initialised": 482, "unused": 55}
        print(report.table())
        ```
    """

    model: str
    source: str
    rows: tuple[WeightRow, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Rows by status."""
        return dict(Counter(row.status for row in self.rows))

    def of(self, *statuses: str) -> list[WeightRow]:
        """The rows of these statuses."""
        return [row for row in self.rows if row.status in statuses]

    def table(self) -> str:
        """All rows as text."""
        rows = [
            (row.weight or "-", row.source or "-", row.status, row.reason)
            for row in self.rows
        ]
        return _aligned([("weight", "source", "status", "reason"), *rows])

    def summary(self) -> str:
        """Counts by group, then one line per kind of row that was not plainly loaded."""
        lines = [f"Weights of {self.model} from {self.source}"]
        lines.append(_aligned([("group", LOADED, KEPT, UNUSED), *self._group_counts()]))
        lines += [f"  {line}" for line in self._exceptions()]
        return "\n".join(lines)

    def _group_counts(self):
        counts = Counter((row.group, row.status) for row in self.rows)
        for group in dict.fromkeys(row.group for row in self.rows):
            yield group, *(counts[group, status] for status in (LOADED, KEPT, UNUSED))

    def _exceptions(self):
        kinds = {}
        for row in self.rows:
            if row.reason:
                kinds.setdefault((row.group, row.status, row.reason), []).append(row)
        for (group, status, reason), rows in kinds.items():
            names = _few([row.weight or row.source for row in rows])
            yield f"{group}: {len(rows)} {status}, {reason} ({names})"


def _few(names, shown=2) -> str:
    more = ", ..." if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _aligned(rows) -> str:
    """Columns padded to their widest entry; numbers to the right."""
    widths = [
        max(len(str(value)) for value in column) for column in zip(*rows, strict=True)
    ]
    return "\n".join(
        "  ".join(
            str(value).rjust(width)
            if isinstance(value, int)
            else str(value).ljust(width)
            for value, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )
