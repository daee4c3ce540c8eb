"""Checks of the arguments that models share."""

import difflib
from collections.abc import Iterable

_MODEL_ARGUMENTS = ("name", "trainable")


def check_model_arguments(kwargs: dict, known: tuple[str, ...]) -> None:
    """Refuse keyword arguments that `keras.Model` would drop without a word.

    Args:
        kwargs: what a model's constructor hands on to Keras.
        known: the names of its own arguments, for the suggestion.

    Raises:
        ValueError: anything but `name` and `trainable` is left.
    """
    for argument in kwargs:
        if argument in _MODEL_ARGUMENTS:
            continue
        if argument == "dtype":
            raise ValueError(
                "`dtype` is not an argument of models; call "
                "keras.config.set_dtype_policy(...) before building one. "
                f"Received: dtype={kwargs['dtype']!r}"
            )
        near = difflib.get_close_matches(argument, [*known, *_MODEL_ARGUMENTS], n=1)
        hint = f" Did you mean `{near[0]}`?" if near else ""
        raise ValueError(
            f"Unknown argument `{argument}`. Received: "
            f"{argument}={kwargs[argument]!r}.{hint}"
        )


def did_you_mean(name, known: Iterable[str], cutoff: float = 0.4) -> str:
    """A question with up to three near matches for an error, or nothing.

    Args:
        name: what was received.
        known: what is right.
        cutoff: how alike a near match must be, 0..1.
    """
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=cutoff)
    return f"Did you mean {' or '.join(map(repr, near))}? " if near else ""


def check_backbone(backbone) -> None:
    """Refuse a backbone whose output is not one map of features per frame.

    Raises:
        ValueError: several outputs, or an output other than `(N, T, h, w, C)`.
    """
    shape = getattr(backbone, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 5:
        raise ValueError(
            "`backbone` must have one output (N, T, h, w, C), as TemporalResNet and the "
            "results of insert_temporal have; build image networks with "
            "include_top=False and pooling=None. Received: "
            f"{type(backbone).__name__} with the output shape {shape}"
        )
