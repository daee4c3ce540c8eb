"""What all commands share: exit codes and one-line errors."""

import argparse
import atexit
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from tsi_keras.utils.command import run
from tsi_keras.utils.errors import InputError

__all__ = ["Parser", "exit_with", "run"]

# Modules that tell so: tensorflow-io's S3 client aborts, and workers that trained
# together wait for one another and then report each other as crashed.
_NEVER_ENDED = ("tsi_keras.data.remote_plugin", "tsi_keras.training.distribution")


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` whose errors take one line.

    Raises:
        InputError: from parsing, unless it ends with --help: Keras is to run on
            something other than TensorFlow.
    """

    def parse_known_args(self, args=None, namespace=None):
        parsed = super().parse_known_args(args, namespace)
        # As late as this so that --help always answers.
        _check_backend()
        return parsed

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def _check_backend() -> None:
    """Raise InputError if the user chose another backend than TensorFlow."""
    chosen = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if chosen != "tensorflow":
        raise InputError(
            "the commands need Keras on TensorFlow, but the environment variable "
            f"KERAS_BACKEND is {chosen!r}; unset it (unset KERAS_BACKEND)."
        )


def parse_with_overrides(
    parser: argparse.ArgumentParser, argv: list[str] | None
) -> tuple[argparse.Namespace, list[str]]:
    """Options, and keys of a configuration in the form `--section.key=value`.

    Raises:
        InputError: an argument is neither.
    """
    options, overrides = parser.parse_known_args(argv)
    wrong = [text for text in overrides if "." not in text or "=" not in text]
    if wrong:
        raise InputError(
            f"unknown argument {wrong[0]}; keys of the configuration have the form "
            "--section.key=value (see --help)."
        )
    return options, overrides


def exit_with(main: Callable[[list[str] | None], int]) -> None:
    """Entry point of `python -m pipelines.X`."""
    try:
        status = run(main)
    except Exception:
        if not _must_end_now():
            raise
        traceback.print_exc()
        status = 1
    if _must_end_now():
        _end_now(status)
    sys.exit(status)


def _must_end_now() -> bool:
    """Whether a library is in use that aborts, or waits long, at a regular end."""
    used = (sys.modules.get(name) for name in _NEVER_ENDED)
    return any(module is not None and module.in_use() for module in used)


def _end_now(status: int) -> NoReturn:
    """End without the clean-up of C++ libraries."""
    atexit._run_exitfuncs()
    # Threads may still be sending what other workers wait for.
    time.sleep(0.2)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
