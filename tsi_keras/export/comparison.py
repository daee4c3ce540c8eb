"""All that an export wrote, compared with the model it was written from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.evaluation.protocols import check_class_names
from tsi_keras.export.parity import ParityClips
from tsi_keras.export.parity import ParityError
from tsi_keras.export.parity import measure_parity
from tsi_keras.export.parity import random_clips
from tsi_keras.export.parity import record_clips
from tsi_keras.export.parity_rules import thresholds_for
from tsi_keras.export.stored_weights import rounded_model
from tsi_keras.export.stored_weights import rounding_effect
from tsi_keras.models.video_classifier import VideoClassifier


def choose_clips(
    model: VideoClassifier,
    options: ClipOptions,
    info: DatasetInfo | None,
    split: str,
    count: int,
) -> ParityClips:
    """Clips of a data set if there is one, else noise.

    Raises:
        InputError: the data set has other classes or no such split, or is damaged.
    """
    if info is None:
        return random_clips(options, count)
    check_class_names(model, info.class_names)
    return record_clips(info, split, count, options)


@dataclass(frozen=True)
class Comparison:
    """With what, on what, and within what limits exports are compared.

    Attributes:
        model: the Keras model.
        options: clip length, sizes and sampling.
        clips: what to compare on.
        min_agreement: other limits than `parity_rules.THRESHOLDS`, see
            `measure_parity`.

    Raises:
        InputError: `min_agreement` cannot be asked for.
    """

    model: VideoClassifier
    options: ClipOptions
    clips: ParityClips
    min_agreement: Mapping[str, float] | None = None

    def __post_init__(self):
        thresholds_for(self.clips.source, self.min_agreement)

    def of_all(
        self,
        served: VideoClassifier,
        folder: Path,
        weights: str,
        files: Mapping[str, Path],
    ) -> dict[str, Any]:
        """Compare a SavedModel and the files beside it.

        Args:
            served: the model as the exports hold it, with or without folded BN.
            folder: the SavedModel.
            weights: how it stores them.
            files: TFLite files and `"onnx"`, by kind.

        Returns:
            The report of `measure_parity`. A SavedModel of rounded weights is compared
            with the model of such weights, to the last digits; how far that one is
            from the model stands under `rounding`.

        Raises:
            ParityError: something is not what the model is.
        """
        tflite = {kind: path for kind, path in files.items() if kind != "onnx"}
        beside = {"tflite": tflite, "onnx": files.get("onnx")}
        try:
            if weights == "float32":
                return self._measured(self.model, folder, **beside)
            report = self._rounded(served, folder, weights)
            return report | self._beside(beside, report) if files else report
        except ParityError as error:
            if served is self.model:
                raise
            told = ParityError(
                f"{error}. The order of its sums is another with --fold-bn; without it "
                "the export computes as the model does"
            )
            told.report = error.report
            raise told from error

    def effect_of(self, other: VideoClassifier) -> dict[str, float]:
        """How far another model is from this one, see `rounding_effect`."""
        return rounding_effect(self.model, other, self.clips.jpegs, self.options)

    def _measured(
        self, model: VideoClassifier, folder: Path | None, **files: Any
    ) -> dict[str, Any]:
        return measure_parity(
            model,
            folder,
            self.clips,
            self.options,
            min_agreement=self.min_agreement,
            **files,
        )

    def _rounded(
        self, served: VideoClassifier, folder: Path, weights: str
    ) -> dict[str, Any]:
        """The SavedModel against the rounded model, and that one against the model."""
        rounded = rounded_model(served, weights)
        effect = self.effect_of(rounded)
        limits = thresholds_for(self.clips.source, self.min_agreement)
        share, least = effect["top1_agreement"], limits[weights].min_agreement
        # Written so that NaN fails.
        if least is not None and not share >= least:
            raise ParityError(
                f"with {weights} weights the best class is that of the model in "
                f"{share:.1%} of {len(self.clips.ids)} clips; {least:.1%} is asked for "
                f"(logits differ by up to {effect['max_difference']:.3g})"
            )
        return self._measured(rounded, folder) | {"rounding": effect}

    def _beside(
        self, files: Mapping[str, Any], report: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The files, whose weights are those of the model, against the model."""
        found = self._measured(self.model, None, **files)
        required = {**report["required"], **found["required"]}
        kept = {key: found[key] for key in ("keras", "tflite", "onnx")}
        return kept | {"required": required}
