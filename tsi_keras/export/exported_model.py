"""What an exported folder tells a client: class names, and how to make its clips."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.evaluation.predict import stated_decoding
from tsi_keras.export.assets import LABELS
from tsi_keras.export.assets import PREPROCESSING
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import read_json
from tsi_keras.utils.label_files import parse_labels

_NEEDED = ("num_frames", "short_side", "crop_size", "sampling")


@dataclass(frozen=True)
class ExportedModel:
    """A model version without the model.

    Attributes:
        folder: the version folder.
        name: that of the model, the folder above it.
        class_names: in the order of the logits.
        options: clip length, sizes and sampling.
        decoding: how frames are taken from a video, arguments of `predict.read_clip`.
    """

    folder: Path
    name: str
    class_names: list[str]
    options: ClipOptions
    decoding: dict[str, Any]


def read_exported(folder: str | Path) -> ExportedModel:
    """Read what `pipelines.export` wrote for clients; the weights are not needed.

    Args:
        folder: a version folder (`saved_models/mine/1`), or the one above it: then
            its highest version counts, as in TF Serving. Of a version only `assets/`
            is read.

    Returns:
        Labels and preprocessing.

    Raises:
        InputError: there is no export, or its files are damaged.

    Example:
        ```python
        exported = read_exported("saved_models/mine")
        print(exported.class_names, exported.options.num_frames)
        ```
    """
    version = _version_folder(Path(folder).expanduser().absolute())
    path = version / "assets" / PREPROCESSING
    stated = read_json(path)
    missing = [
        key for key in _NEEDED if not isinstance(stated, dict) or key not in stated
    ]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; export the model again.")
    options = ClipOptions(**{key: stated[key] for key in _NEEDED})
    labels = _labels(version / "assets" / LABELS)
    return ExportedModel(
        version, version.parent.name, labels, options, stated_decoding(stated)
    )


def _version_folder(folder: Path) -> Path:
    """The folder itself, or the highest version in it."""
    if _is_version(folder):
        return folder
    inside = folder.glob("[0-9]*") if folder.is_dir() else []
    versions = [path for path in inside if path.name.isdecimal() and _is_version(path)]
    if not versions:
        raise InputError(
            f"`--export` {folder} is no exported model: there is no assets/"
            f"{PREPROCESSING} in it or in a version below it; give a folder written by "
            "pipelines.export, such as saved_models/NAME."
        )
    return max(versions, key=lambda path: int(path.name))


def _is_version(folder: Path) -> bool:
    return (folder / "assets" / PREPROCESSING).is_file()


def _labels(path: Path) -> list[str]:
    """One class name per line."""
    try:
        names = parse_labels(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read: {error}; export the model again."
        ) from None
    if not names:
        raise InputError(f"{path} is empty; export the model again.")
    return names
