"""How a command ends: exit codes and one-line errors."""

from collections.abc import Callable

from tsi_keras.utils.console import errors
from tsi_keras.utils.errors import InputError


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
