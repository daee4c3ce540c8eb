"""The one exception that means "what you gave is wrong, and here is what to do"."""


class InputError(ValueError):
    """Bad input from the user, told in one line.

    The message names the argument or file, what was received and what to do.
    Commands print it without a traceback and exit with status 2; library
    callers may treat it as the `ValueError` it is.
    """
