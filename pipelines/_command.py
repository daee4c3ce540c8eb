"""What all commands share: exit codes and one-line errors."""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from tsi_keras.utils.command import run

__all__ = ["Parser", "exit_with", "run"]


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` whose errors take one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def exit_with(main: Callable[[list[str] | None], int]) -> None:
    """Entry point of `python -m pipelines.X`."""
    sys.exit(run(main))
