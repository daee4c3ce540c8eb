"""How layers know that they are traced for a runtime that only infers.

Mobile runtimes take a graph of plain operations of known shape at its fastest: no loops,
no functions with gradients of their own, slices with explicit sizes. Inside
`export_scope()` the layers write the same mathematics in that form; outside nothing
changes. The scope belongs to the thread (or task) that enters it.
"""

import contextlib
import contextvars
from collections.abc import Iterator

_exporting = contextvars.ContextVar("tsi_keras_exporting", default=False)


@contextlib.contextmanager
def export_scope() -> Iterator[None]:
    """Trace layers for a mobile runtime while the context lasts.

    Results agree with those outside to rounding. Gradients flow too, but are not what
    the forms are made for: the attention matrices would be kept.

    Example:
        ```python
        with export_scope():
            graph = tf.function(model).get_concrete_function(clips)
        ```
    """
    token = _exporting.set(True)
    try:
        yield
    finally:
        _exporting.reset(token)


def is_exporting() -> bool:
    """Whether the caller runs inside `export_scope()`."""
    return _exporting.get()
