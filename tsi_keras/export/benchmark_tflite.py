"""Latency of TFLite files of full-size networks, TSI's against TSN's."""

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.clip_options import check_positive
from tsi_keras.export.tflite import write_tflite
from tsi_keras.export.tflite_classifier import TFLiteClassifier
from tsi_keras.models.presets import video_resnet
from tsi_keras.models.video_classifier import VideoClassifier


@dataclass(frozen=True)
class Network:
    """A network to measure.

    Attributes:
        name: in the table.
        temporal: name of its temporal module.
        options: of the module.
    """

    name: str
    temporal: str
    options: dict[str, Any] = field(default_factory=dict)


def _tsi(alignment: str) -> Network:
    """TSI with one of the alignments."""
    return Network(f"TSI, {alignment}", "tsi", {"sme": {"alignment": alignment}})


# The first is what the others are compared with.
NETWORKS = (
    Network("TSN", "none"),
    _tsi("softmax"),
    _tsi("linear"),
    _tsi("efficient"),
    _tsi("row"),
    _tsi("none"),
    Network("TSM", "tsm"),
    Network("TEA", "tea"),
)


def benchmark_tflite(
    rounds: int = 5,
    threads: Sequence[int] = (2, 1),
    *,
    networks: Sequence[Network] = NETWORKS,
    kind: str = "float32",
    clips: ClipOptions | None = None,
    **resnet_options: Any,
) -> list[dict[str, Any]]:
    """Measure one clip through the TFLite file of each network.

    ResNet-50, 8 frames of 224x224, batch 1, random weights, the statistics of batch
    normalization those of noise. Rounds go through all networks in turn, so that a
    change of the machine's speed meets all alike; ratios are medians of the rounds'
    ratios to the first network.

    Args:
        rounds: clips per network and number of threads, after one to warm up.
        threads: numbers of threads of the interpreter.
        networks: what to measure.
        kind: `"float32"`, `"float16"`, `"dynamic"` or `"int8"` (calibrated on noise).
        clips: frames per clip and their size; 8 of 224x224 by default.
        **resnet_options: arguments of `video_resnet`, such as a smaller `depth`.

    Returns:
        One row per number of threads and network: `network`, `kind`, `threads`, `ms`
        (median by the clock), `cpu_ms` (median of processor time, all threads),
        `ratio` and `cpu_ratio` (to the first network), `megabytes` of the file, and
        `difference` (largest, of its logits to Keras').

    Raises:
        InputError: `rounds` or a number of threads is below 1, or the kind is unknown.

    Example:
        ```python
        for row in benchmark_tflite(rounds=3, threads=(4,)):
            print(row["network"], row["ms"], row["ratio"])
        ```
    """
    check_positive("rounds", rounds)
    for number in threads:
        check_positive("threads", number)
    clips = clips or ClipOptions()
    shape = (1, clips.num_frames, clips.crop_size, clips.crop_size, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        written = [
            _write(network, Path(folder, f"{i}.tflite"), kind, clips, resnet_options)
            for i, network in enumerate(networks)
        ]
        for number in threads:
            files = [TFLiteClassifier(path, number) for path, _ in written]
            seconds = _measure(files, noise, rounds)
            rows += [
                _row(network, kind, number, own, seconds[0])
                | _size_and_difference(*made, file, noise)
                for network, own, made, file in zip(
                    networks, seconds, written, files, strict=True
                )
            ]
    return rows


def _write(
    network: Network,
    path: Path,
    kind: str,
    clips: ClipOptions,
    resnet_options: dict[str, Any],
) -> tuple[Path, np.ndarray]:
    """Write the file of a network; its path, and Keras' logits of `noise`."""
    keras.utils.set_random_seed(0)
    keras.backend.clear_session()
    model = video_resnet(
        temporal=network.temporal,
        temporal_options=network.options,
        num_frames=clips.num_frames,
        **{"depth": 50, "head_stddev": 0.1, **resnet_options},
    )
    shape = (1, clips.num_frames, clips.crop_size, clips.crop_size, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    _settle(model, noise)
    write_tflite(model, path, kind, clips, clips=noise if kind == "int8" else None)
    return path, np.asarray(model(noise, training=False))


def _settle(model: VideoClassifier, noise: np.ndarray) -> None:
    """Give batch normalization the statistics of a clip.

    With the initial ones features double from block to block: the softmax of SME
    becomes a maximum, and rounding errors grow with them.
    """
    norms = [x for x in model._flatten_layers() if hasattr(x, "moving_variance")]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(noise, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _measure(
    files: Sequence[TFLiteClassifier], clip: np.ndarray, rounds: int
) -> list[list[tuple[float, float]]]:
    """Per file the seconds of each round: by the clock, and of the processor."""
    for file in files:  # touches the memory for the first time
        file.logits(clip)
    seconds = [[] for _ in files]
    for _ in range(rounds):
        for own, file in zip(seconds, files, strict=True):
            clock, cpu = time.perf_counter(), time.process_time()
            file.logits(clip)
            own.append((time.perf_counter() - clock, time.process_time() - cpu))
    return seconds


def _row(
    network: Network,
    kind: str,
    threads: int,
    own: list[tuple[float, float]],
    first: list[tuple[float, float]],
) -> dict[str, Any]:
    """The times of one network."""

    def median(which: int) -> float:
        return round(1000 * statistics.median(pair[which] for pair in own), 1)

    def ratio(which: int) -> float:
        pairs = zip(own, first, strict=True)
        return round(statistics.median(a[which] / b[which] for a, b in pairs), 2)

    return {
        "network": network.name,
        "kind": kind,
        "threads": threads,
        "ms": median(0),
        "cpu_ms": median(1),
        "ratio": ratio(0),
        "cpu_ratio": ratio(1),
        "clips": len(own),
    }


def _size_and_difference(
    path: Path, expected: np.ndarray, file: TFLiteClassifier, clip: np.ndarray
) -> dict[str, float]:
    """Size of a file, and how far its logits are from Keras'."""
    gap = np.abs(file.logits(clip) - expected).max()
    return {
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "difference": float(f"{gap:.2g}"),
    }
