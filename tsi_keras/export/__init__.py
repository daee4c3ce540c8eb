"""Trained classifiers in the formats that serve them, with their parity measured.

Nothing is imported here before it is asked for; what is not listed below you import from
its module, for instance `from tsi_keras.export.saved_model import export_saved_model`.
"""

from importlib import import_module

_MODULES = {
    "StreamingClassifier": "tsi_keras.export.stream_classifier",
    "StreamPrediction": "tsi_keras.export.stream_classifier",
    "classify_stream": "tsi_keras.export.stream_run",
}

__all__ = list(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
