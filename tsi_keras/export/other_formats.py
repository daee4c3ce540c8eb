"""What can stand beside the SavedModel: TFLite files and an ONNX file."""

from dataclasses import dataclass
from pathlib import Path

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.export.onnx_file import ONNX
from tsi_keras.export.onnx_file import check_onnx_packages
from tsi_keras.export.onnx_file import write_onnx
from tsi_keras.export.tflite import calibration_clips
from tsi_keras.export.tflite import tflite_name
from tsi_keras.export.tflite import write_tflite_files
from tsi_keras.export.tflite_conversion import KINDS
from tsi_keras.export.version_folder import files_of
from tsi_keras.export.version_folder import read_reports
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.utils.errors import InputError


@dataclass(frozen=True)
class OtherFormats:
    """Which files to write.

    Attributes:
        tflite: kinds of TFLite files, of `tflite_conversion.KINDS`.
        tflite_batch: clips per call of those, or None to leave it open.
        onnx: whether to write an ONNX file.
    """

    tflite: tuple[str, ...] = ()
    tflite_batch: int | None = 1
    onnx: bool = False

    def names(self) -> list[str]:
        """File names."""
        return [*map(tflite_name, self.tflite), *([ONNX] if self.onnx else [])]


NO_OTHERS = OtherFormats()


def check_formats(
    formats: OtherFormats,
    target: Path,
    version: int,
    *,
    has_data: bool,
    overwrite: bool,
) -> None:
    """Refuse what cannot be written, before anything is; writes nothing.

    Args:
        formats: what is asked for.
        target: the folder the files will stand in.
        version: the version they are made with.
        has_data: whether there is a data set to calibrate on.
        overwrite: whether files of an earlier export may be replaced.

    Raises:
        InputError: an unknown kind, a batch below 1, int8 without data, missing
            packages, a file that exists, or one of the replaced version that would be
            left over.
    """
    unknown = [kind for kind in formats.tflite if kind not in KINDS]
    if unknown or len(set(formats.tflite)) < len(formats.tflite):
        raise InputError(
            f"`--tflite` takes some of {', '.join(KINDS)}, each once. "
            f"Received: {', '.join(formats.tflite)}"
        )
    if formats.tflite_batch is not None and formats.tflite_batch < 1:
        raise InputError(
            "`--tflite-batch` must be 1 or more, or any. "
            f"Received: {formats.tflite_batch}"
        )
    if "int8" in formats.tflite and not has_data:
        raise InputError(
            "`--tflite int8` is calibrated on clips of a data set: add --data, or choose "
            "dynamic, which needs none."
        )
    if formats.onnx:
        check_onnx_packages()
    existing = [name for name in formats.names() if (target / name).exists()]
    if existing and not overwrite:
        raise InputError(
            f"{target / existing[0]} exists; nothing was written. Add --overwrite to "
            "replace it, or choose another --name."
        )
    of_version = files_of(read_reports(target).get(str(version), {}))
    left = [name for name in of_version if name not in formats.names()]
    if left:
        raise InputError(
            f"{target / left[0]} belongs to version {version}, which is to be "
            "replaced; nothing was written. Ask for it again (--tflite, --onnx), or "
            "choose another --version or --name."
        )


def write_formats(
    model: VideoClassifier,
    folder: Path,
    options: ClipOptions,
    formats: OtherFormats,
    info: DatasetInfo | None,
) -> dict[str, Path]:
    """Write the files.

    Args:
        model: the classifier.
        folder: an existing folder.
        options: clip length, sizes and sampling.
        formats: what to write.
        info: the data set that int8 is calibrated on; only then needed.

    Returns:
        The files by kind, with `"onnx"` for that one.

    Raises:
        TFLiteError: a TFLite file cannot be made.
        OnnxError: the ONNX file cannot be made.
    """
    files: dict[str, Path] = {}
    if formats.tflite:
        clips = None
        if "int8" in formats.tflite and info is not None:
            clips = calibration_clips(info, options)
        files |= write_tflite_files(
            model,
            folder,
            formats.tflite,
            options,
            clips=clips,
            batch=formats.tflite_batch,
        )
    if formats.onnx:
        files["onnx"] = write_onnx(model, folder / ONNX, options)
    return files
