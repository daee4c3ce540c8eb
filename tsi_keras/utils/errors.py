"""The one exception that means "what you gave is wrong, and here is what to do"."""


class InputError(ValueError):
    """Bad input from the user, told in one line.

    The message names the argument or file, what was received and what to do.
    Commands print it without a traceback and exit with status 2; library
    callers may treat it as the `ValueError` it is.
    """


def check_positive(name: str, value: int) -> None:
    """Refuse what cannot count anything.

    Raises:
        InputError: `value` is no integer of at least 1; names the argument.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(
            f"`{name}` must be an integer of at least 1. Received: {value!r}"
        )
