"""Load a trained classifier from a training run or a file."""

import zipfile
import zlib
from pathlib import Path

import keras

from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.utils.errors import InputError

CHECKPOINTS = ("best.keras", "last.keras")
# What Keras lets through when a file is damaged or not what it says.
LOADING_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)


def find_model_file(run_or_file: str | Path) -> Path:
    """The `.keras` file of a run folder (the best, else the last), or the file itself.

    Raises:
        InputError: nothing is there, or it is not a `.keras` file.
    """
    path = Path(run_or_file).expanduser()
    if path.is_dir():
        found = [path / name for name in CHECKPOINTS if (path / name).is_file()]
        if not found:
            raise InputError(
                f"`--model` {path} holds none of {', '.join(CHECKPOINTS)}; give the "
                "output folder of pipelines.train, or a .keras file."
            )
        path = found[0]
    if not path.is_file():
        raise InputError(
            f"`--model` {path} does not exist; give the output folder of "
            "pipelines.train, or a .keras file."
        )
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        raise InputError(
            f"`--model` {path} is not a model saved by Keras 3; give a .keras file or "
            "the output folder of pipelines.train."
        )
    return path


def load_classifier(
    run_or_file: str | Path, *, compile: bool = False
) -> VideoClassifier:
    """Load a `VideoClassifier`.

    Args:
        run_or_file: output folder of a training run, or a `.keras` file.
        compile: also restore the optimizer and the metrics.

    Returns:
        The model, with its class names and preprocessing.

    Raises:
        InputError: nothing is there, the file is damaged, or it is not a
            `VideoClassifier`.

    Example:
        ```python
        model = load_classifier("runs/tsi")
        logits = model.predict(clips)
        ```
    """
    path = find_model_file(run_or_file)
    try:
        model = keras.saving.load_model(path, compile=compile)
    except LOADING_ERRORS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"`--model` {path} cannot be loaded: {reason}; give another .keras file, or "
            "train again."
        ) from error
    if not isinstance(model, VideoClassifier):
        raise InputError(
            f"`--model` {path} holds a {type(model).__name__}; expected a "
            "tsi_keras VideoClassifier."
        )
    return model


def resolve_classifier(
    model: VideoClassifier | str | Path,
) -> tuple[Path | None, VideoClassifier]:
    """Load a classifier unless it is one already.

    Args:
        model: a classifier, or what `load_classifier` takes.

    Returns:
        The file it was loaded from, or None, and the classifier.

    Raises:
        InputError: as `load_classifier`.

    Example:
        ```python
        file, model = resolve_classifier("runs/tsi")  # runs/tsi/best.keras
        ```
    """
    if isinstance(model, str | Path):
        return find_model_file(model), load_classifier(model)
    return None, model
