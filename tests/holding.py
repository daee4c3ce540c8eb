"""A process that holds something while a test looks at it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def python_saying(
    line: str, script: str, *arguments: str | Path, folder: Path
) -> Iterator[subprocess.Popen]:
    """Run a script until it has printed a line, the first one.

    It ends when it has read all of its stdin, which is closed at the end of the block.

    Args:
        line: what it must print.
        script: Python code.
        arguments: for the script.
        folder: to run it in.

    Yields:
        The process.
    """
    with subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == f"{line}\n"
        yield process
