"""Run a program file in a new interpreter that does not outlive this process."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tsi_keras.utils import following

# Not through `sys.stdin`, whose lock would be held when the interpreter shuts down.
_FOLLOW = "end_after(lambda: os.read(0, 1))"


def run_child_program(
    program: Path, *arguments: str, cwd: str | Path, env: Mapping[str, str]
) -> subprocess.CompletedProcess:
    """Run a program and wait for it; it ends with this process, even with a killed one.

    Args:
        program: Python file; nothing beside it can be imported. It may not read stdin.
        arguments: of the program.
        cwd: folder it runs in.
        env: its environment variables.

    Returns:
        Its exit status, and what it wrote to `stdout` and `stderr` as text.

    Example:
        ```python
        done = run_child_program(Path("job.py"), "x", cwd=".", env=os.environ)
        ```
    """
    texts = (Path(following.__file__).read_text("utf-8"), _FOLLOW)
    text = "\n".join((*texts, program.read_text("utf-8")))
    # The system closes the end that is held here, whatever ends this process.
    watched, held = os.pipe()
    try:
        return subprocess.run(
            [sys.executable, "-c", text, *arguments],
            cwd=cwd,
            env=env,
            stdin=watched,
            capture_output=True,
            text=True,
            errors="replace",
        )
    finally:
        os.close(watched)
        os.close(held)
