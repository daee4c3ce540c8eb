"""Terminal output: progress bars and tables, quiet where nobody watches."""

from collections.abc import Iterable
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn
from rich.progress import MofNCompleteColumn
from rich.progress import Progress
from rich.progress import TextColumn
from rich.progress import TimeElapsedColumn
from rich.progress import TimeRemainingColumn
from rich.table import Table

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def progress(unit: str = "") -> Progress:
    """A progress bar on stderr that stays silent when stderr is not a terminal.

    Example:
        ```python
        with progress("videos") as bar:
            for video in bar.track(videos, description="decoding"):
                ...
        ```
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=errors,
        disable=not errors.is_terminal,
        transient=True,
    )


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Print `rows` under `columns`; numbers are aligned to the right."""
    rows = [list(row) for row in rows]
    table = Table(title=escape(title), title_justify="left")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(
            isinstance(row[index], (int, float)) for row in rows
        )
        table.add_column(column, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(
            *(f"{v:.4g}" if isinstance(v, float) else escape(str(v)) for v in row)
        )
    console.print(table)
