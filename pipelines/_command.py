"""What all commands share: exit codes and one-line errors."""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from tsi_keras.utils.console import errors
from tsi_keras.utils.errors import InputError


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` whose errors take one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def run(main: Callable[[list[str] | None], int], argv: list[str] | None = None) -> int:
    """Call `main(argv)` and turn bad input into one line on stderr and status 2."""
    try:
        return main(argv)
    except InputError as error:
        errors.print(f"error: {error}", markup=False, style="red")
        return 2
    except KeyboardInterrupt:
        errors.print("interrupted", markup=False)
        return 130


def exit_with(main: Callable[[list[str] | None], int]) -> None:
    """Entry point of `python -m pipelines.X`."""
    sys.exit(run(main))
