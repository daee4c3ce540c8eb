"""Test protocols: which clips of a video are scored, and how they are prepared."""

from dataclasses import dataclass
from itertools import zip_longest

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.utils.errors import InputError


@dataclass(frozen=True)
class Protocol:
    """One way to score a video.

    Attributes:
        name: as given on the command line, clips x crops.
        clips: clips per video.
        crops: spatial crops per clip.
        summary: one line for humans.
    """

    name: str
    clips: int
    crops: int
    summary: str


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (Protocol("1x1", 1, 1, "the middle clip, centre crop"),)
}


def get_protocol(name: str) -> Protocol:
    """Return the protocol called `name`.

    Raises:
        InputError: there is none of that name.
    """
    if name not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise InputError(f"`--protocol` must be one of: {known}. Received: {name!r}")
    return PROTOCOLS[name]


def clip_options(model: VideoClassifier) -> ClipOptions:
    """Return the clip length, sizes and sampling a model was made for.

    Args:
        model: its `preprocessing` gives `short_side`, `crop_size` and `sampling`;
            without the last it was trained with segments, as all were once.

    Returns:
        Options for `data.pipeline.make_dataset` and for export.

    Raises:
        InputError: the model does not say how its frames are prepared, or takes frames
            of one size only and is given others.
    """
    stated = model.preprocessing or {}
    missing = [key for key in ("short_side", "crop_size") if key not in stated]
    if missing:
        raise InputError(
            f"The model {model.name!r} does not state `preprocessing` "
            f"{' and '.join(missing)}; build it with "
            'VideoClassifier(..., preprocessing={"short_side": 256, "crop_size": 224}) '
            "or whatever it was trained with, and save it again."
        )
    _check_frame_size(model, stated["crop_size"])
    return ClipOptions(
        num_frames=model.num_frames,
        short_side=stated["short_side"],
        crop_size=stated["crop_size"],
        sampling=stated.get("sampling", "segments"),
    )


def _check_frame_size(model: VideoClassifier, crop_size: int) -> None:
    """Raise InputError if the model cannot take the frames it is to be given."""
    height, width = model.input_shape[2:4]
    if not {height, width} <= {None, crop_size}:
        size = f"{height or 'any'} x {width or 'any'}"
        raise InputError(
            f"The model {model.name!r} takes frames of {size} pixels, but its "
            f"`preprocessing` gives it `crop_size` {crop_size}. State the `crop_size` "
            "it was built for, or build it on a backbone for frames of "
            f"({crop_size}, {crop_size}) or (None, None), and save it again."
        )


def check_num_frames(model: VideoClassifier, num_frames: int | None) -> None:
    """Raise InputError when `num_frames` is given and is not that of the model."""
    if num_frames is not None and num_frames != model.num_frames:
        raise InputError(
            f"`--num-frames` is {num_frames}, but the model {model.name!r} was built "
            f"for {model.num_frames} frames; leave the option out or use a model for "
            f"{num_frames} frames."
        )


def check_class_names(model: VideoClassifier, class_names: list[str]) -> None:
    """Raise InputError unless the model knows exactly these classes in this order.

    Args:
        model: its `class_names`, or only their number if it has no names.
        class_names: those of the data set.
    """
    advice = "evaluate on data prepared with the classes of the training."
    known = model.class_names or class_names
    for index, (own, other) in enumerate(zip_longest(known, class_names)):
        if own != other:
            raise InputError(
                f"Class {index} is {_quoted(own)} in the model and {_quoted(other)} in "
                f"the data set; {advice}"
            )
    if model.num_classes != len(class_names):
        raise InputError(
            f"The model has {model.num_classes} classes, the data set "
            f"{len(class_names)}; {advice}"
        )


def _quoted(name: str | None) -> str:
    """A class name in quotes, or that there is none at this index."""
    return "missing" if name is None else repr(name)
