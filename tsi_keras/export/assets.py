"""What is told to the clients of an exported model: its labels, how frames are made."""

from pathlib import Path
from typing import Any

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.sampling import SAMPLING_RULES
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.utils.files import write_json
from tsi_keras.utils.files import write_text
from tsi_keras.utils.label_files import format_labels

LABELS = "labels.txt"
PREPROCESSING = "preprocessing.json"


def labels_text(model: VideoClassifier) -> str:
    """One class name per line.

    Raises:
        InputError: a name holds a line break.
    """
    return format_labels(model.label_names)


def preprocessing(model: VideoClassifier, options: ClipOptions) -> dict[str, Any]:
    """What a client must do to frames before it sends them; JSON-ready."""
    return {
        **(model.preprocessing or {}),
        "short_side": options.short_side,
        "crop_size": options.crop_size,
        "num_frames": options.num_frames,
        "sampling": options.sampling,
        "frames": SAMPLING_RULES[options.sampling],
        "serving_default": "RGB uint8 (N, T, H, W, 3): short side resized to "
        "short_side (bilinear, antialiased), centre square of crop_size",
        "serve_jpeg": "JPEG files (N, T) of any size; resized and cropped in the model",
        "serve_example": "serialized tf.train.SequenceExample (N,), all JPEG files of "
        "a video in the feature list image/encoded; the T frames are chosen, resized "
        "and cropped in the model",
        "normalization": "inside the model",
    }


def write_assets(
    model: VideoClassifier, folder: Path, options: ClipOptions
) -> dict[str, Path]:
    """Write both files into a folder and return them by name without the ending."""
    return {
        "labels": write_text(folder / LABELS, labels_text(model)),
        "preprocessing": write_json(
            folder / PREPROCESSING, preprocessing(model, options)
        ),
    }
