"""Which BatchNormalization layers of a network train."""

from collections.abc import Iterator

import keras

MODES = ("train", "partial", "frozen")


def freeze_batch_norm(model: keras.Model, mode: str) -> list[str]:
    """Decide which BatchNormalization layers of the image network train.

    A frozen layer normalises by its moving statistics, in training too, and keeps these
    and its gamma and beta. Layers inside temporal modules are new and always train; so
    do other normalisations. Call this before the model is compiled: its optimizer looks
    after the variables that are left. The choice is saved with the model.

    Args:
        model: a `VideoClassifier`, or a backbone such as `TemporalResNet` or the result
            of `insert_temporal`.
        mode: `"train"`: all train; `"partial"`: all but the first are frozen (TSN's
            partial BN, against overfitting on small data sets); `"frozen"`: all are
            frozen.

    Returns:
        Names of the frozen layers.

    Raises:
        ValueError: an unknown mode, or nothing to freeze.

    Example:
        ```python
        frozen = freeze_batch_norm(model, "partial")
        model.compile(GroupedSGD(0.001), loss)
        ```

    Source: `TSN.train` with `partialBN` in TSM's `ops/models.py`. It freezes every
    BatchNorm2d of the network but the first, those inside TEA's modules included.
    """
    if mode not in MODES:
        raise ValueError(
            f"`mode` must be one of {list(MODES)}. Received: mode={mode!r}"
        )
    layers = list(_batch_norms(getattr(model, "backbone", model)))
    kept = {"train": len(layers), "partial": 1, "frozen": 0}[mode]
    if mode != "train" and not layers:
        raise ValueError(
            f"`mode={mode!r}` freezes BatchNormalization, of which {model.name} has none "
            "outside its temporal modules. Use mode='train'."
        )
    for position, layer in enumerate(layers):
        layer.trainable = position < kept
    return [layer.name for layer in layers[kept:]]


def _batch_norms(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The BatchNormalization layers of the graph in the order of the data.

    Those inside of other layers, such as temporal modules, are not among them.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            yield layer
        elif isinstance(layer, keras.Model):
            yield from _batch_norms(layer)
