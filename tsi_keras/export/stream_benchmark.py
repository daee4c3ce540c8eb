"""Windows per second of a stream, with features of frames used again and without."""

import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tsi_keras.data.clip_options import check_positive
from tsi_keras.export.stream_classifier import StreamingClassifier
from tsi_keras.export.stream_run import classify_stream
from tsi_keras.models.presets import video_resnet
from tsi_keras.models.video_classifier import VideoClassifier

PREPROCESSING = {"short_side": 256, "crop_size": 224, "fps": 12.0}
# Untrained: what the weights are does not change what they cost.
NETWORKS = {
    "TSN ResNet-50": {"temporal": "none"},
    "TSI ResNet-50 in res5": {"temporal": "tsi", "stages": (5,)},
    "TSI ResNet-50": {"temporal": "tsi"},
    "TSM ResNet-50": {"temporal": "tsm"},
}


def benchmark_stream(
    video: str | Path,
    *,
    window: float | None = None,
    hop: float | None = None,
    repeats: int = 3,
    networks: Sequence[str] = tuple(NETWORKS),
) -> list[dict[str, Any]]:
    """Classify a video as a stream, each network with reuse and without in turns.

    Decoding, scaling and the choice of frames are part of what is measured.

    Args:
        video: a file; longer ones give steadier figures.
        window: see `StreamingClassifier`.
        hop: see `StreamingClassifier`.
        repeats: runs of each kind; the medians count.
        networks: names of `NETWORKS`, 8 frames of 224x224 each.

    Returns:
        Two rows per network: `network`, `window_seconds`, `hop_seconds`, `windows`,
        `reuse`, `windows_per_second`, `real_time_factor`, `cpu_seconds_per_window` (the
        processor's time over all cores), `per_frame_share` (of the multiply-adds, in
        front of the first module that mixes frames), `reused` (of the multiply-adds)
        and `speedup` (windows per second against no reuse, the median of the ratios of
        consecutive runs).

    Raises:
        InputError: `repeats` is below 1, or the video cannot be opened.

    Example:
        ```python
        for row in benchmark_stream("holiday.mp4", hop=0.5, repeats=1):
            print(row["network"], row["reuse"], row["windows_per_second"])
        ```
    """
    check_positive("repeats", repeats)
    rows = []
    for name in networks:
        model = video_resnet(
            50,
            num_classes=174,
            num_frames=8,
            preprocessing=PREPROCESSING,
            **NETWORKS[name],
        )
        rows += _measured(name, model, video, window, hop, repeats)
    return rows


def _measured(
    name: str, model: VideoClassifier, video, window, hop, repeats: int
) -> list[dict[str, Any]]:
    """The rows of one network."""
    kinds = {
        reuse: StreamingClassifier(model, window, hop, reuse=reuse)
        for reuse in (False, True)
    }
    runs: dict[bool, list[dict[str, float]]] = {reuse: [] for reuse in kinds}
    for _ in range(repeats):
        for reuse, classifier in kinds.items():
            runs[reuse].append(_run(classifier, video))
    ratios = [
        new["windows_per_second"] / old["windows_per_second"]
        for old, new in zip(runs[False], runs[True], strict=True)
    ]
    share = kinds[True].features.per_frame_share
    grid = kinds[True].grid
    return [
        {
            "network": name,
            "window_seconds": grid.window,
            "hop_seconds": grid.seconds_per_hop,
            "reuse": "yes" if reuse else "no",
            **{
                key: statistics.median(r[key] for r in runs[reuse])
                for key in runs[0][0]
            },
            "per_frame_share": share,
            "speedup": statistics.median(ratios) if reuse else 1.0,
        }
        for reuse in (False, True)
    ]


def _run(classifier: StreamingClassifier, video: str | Path) -> dict[str, float]:
    """One pass over the video."""
    features = classifier.features
    features.windows = features.computed = 0
    run = classify_stream(video, classifier).open()
    start = sum(os.times()[:2])
    for _ in run:
        pass
    cpu = sum(os.times()[:2]) - start
    summary = run.summary
    return {
        "windows": summary.windows,
        "windows_per_second": summary.windows_per_second,
        "real_time_factor": summary.real_time_factor,
        "cpu_seconds_per_window": cpu / max(summary.windows, 1),
        "reused": summary.reused,
    }
