"""How many videos a running TF Serving classifies in a second, and how fast each."""

import contextlib
import itertools
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np

from tsi_keras.data.clip_options import check_positive
from tsi_keras.data.decoding import VideoError
from tsi_keras.data.synthetic import CLASSES
from tsi_keras.data.synthetic import SyntheticOptions
from tsi_keras.data.synthetic import write_dataset
from tsi_keras.data.synthetic.options import SMALLEST_SIDE
from tsi_keras.export.exported_model import ExportedModel
from tsi_keras.export.serving_client import ServingClient
from tsi_keras.export.serving_client import ServingError
from tsi_keras.export.serving_client import check_ready
from tsi_keras.export.serving_client import connect
from tsi_keras.export.serving_requests import request_logits
from tsi_keras.export.serving_requests import video_inputs
from tsi_keras.utils.console import console
from tsi_keras.utils.console import print_table
from tsi_keras.utils.console import progress
from tsi_keras.utils.errors import InputError

# Of the largest score: what batching on the server may change. (And 0.001 at least.)
_TOLERANCE = 1e-3
_SYNTHETIC_VIDEOS = 8


@dataclass
class _Target:
    """One signature on one server, and what was measured of it."""

    server: str
    signature: str
    inputs: list[dict[str, np.ndarray]]
    references: list[np.ndarray]
    seconds: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    wrong: int = 0


@dataclass(frozen=True)
class _Load:
    """What is put on a server at a time."""

    exported: ExportedModel
    name: str
    requests: int
    connections: int
    timeout: float

    def connect(self, server: str) -> ServingClient:
        return connect(server, self.name, timeout=self.timeout)


def benchmark_serving(
    servers: Sequence[str],
    exported: ExportedModel,
    videos: Sequence[str | Path] = (),
    *,
    name: str | None = None,
    signatures: Sequence[str] = ("serve_jpeg",),
    requests: int = 200,
    connections: int = 8,
    repeats: int = 3,
    timeout: float = 30.0,
) -> list[dict[str, Any]]:
    """Measure servers under load, and whether they answer the right video.

    Videos are decoded before; a request is one clip. Each connection is a thread of this
    process that sends its next request as soon as it has an answer, so that the time
    to write and read messages counts. The answers are compared with those the first
    server gave to the same videos one by one.

    Args:
        servers: addresses, see `serving_client.connect`; all serve the same model.
        exported: that model.
        videos: files; by default 8 synthetic ones of the size the model's records have.
        name: of the model on the servers; that of the export by default.
        signatures: to be measured, of `serving_requests.SIGNATURES`.
        requests: per measurement.
        connections: at the same time.
        repeats: measurements of each signature on each server, in turns.
        timeout: seconds to wait for an answer.

    Returns:
        One row per server and signature: `interface`, `signature`, `videos`,
        `request_kb` (mean size of what is sent, before its encoding), `connections`,
        `requests` (of all repeats), `errors`, `wrong` (answers that were another
        video's, or another model's), `first_error`, `requests_per_second` (median of
        the repeats), `slowest`, `fastest`, and of the time of single requests
        `median_ms`, `p95_ms` and `p99_ms` (None without any). Failed requests are not
        in these times.

    Raises:
        InputError: an argument is out of range, a video cannot be used, or a server is
            not ready.

    Example:
        ```python
        exported = read_exported("saved_models/mine")
        [row] = benchmark_serving(["grpc://localhost:8500"], exported)
        print(row["requests_per_second"], row["p99_ms"])
        ```
    """
    counts = {"requests": requests, "connections": connections, "repeats": repeats}
    for key, value in counts.items():
        check_positive(key, value)
    name = exported.name if name is None else name
    load = _Load(exported, name, requests, connections, timeout)
    with tempfile.TemporaryDirectory() as folder:
        paths = videos or _synthetic_videos(Path(folder), exported)
        sent = {each: _inputs(paths, exported, each) for each in signatures}
    targets = _targets(servers, sent, load)
    with progress("measurements") as bar:
        rounds = [target for _ in range(repeats) for target in targets]
        for target in bar.track(rounds, description="requesting"):
            _measure(target, load)
    return [_row(target, load) for target in targets]


def _synthetic_videos(folder: Path, exported: ExportedModel) -> list[Path]:
    """Videos of different motions, of the size of the model's records."""
    options, height = exported.options, exported.decoding["short_side"]
    height = max(SMALLEST_SIDE, height or options.short_side)
    height += height % 2
    synthetic = SyntheticOptions(
        width=height * 4 // 6 * 2,
        height=height,
        num_frames=max(24, options.num_frames),
        classes=CLASSES[:_SYNTHETIC_VIDEOS],
    )
    write_dataset(folder / "videos", synthetic, videos_per_class=1, workers=1)
    return sorted(folder.rglob("*.mp4"))


def _inputs(
    paths: Sequence[str | Path], exported: ExportedModel, signature: str
) -> list[dict[str, np.ndarray]]:
    """What is sent for each video."""
    inputs = []
    for path in paths:
        try:
            inputs.append(video_inputs(path, exported, signature))
        except VideoError as error:
            raise InputError(f"VIDEO {path} cannot be used: {error.reason}.") from error
    return inputs


def _targets(
    servers: Sequence[str], sent: dict[str, list[dict[str, np.ndarray]]], load: _Load
) -> list[_Target]:
    """All that is measured, with the answers it must give; warms the servers up."""
    targets: list[_Target] = []
    expected: dict[bool, list[np.ndarray]] = {}
    for server, signature in itertools.product(servers, sent):
        with load.connect(server) as client:
            check_ready(client, signature, load.exported.options.num_frames)
            alone = _answers(client, sent[signature], signature, load.exported)
        # Pixels have not gone through JPEG; all else means the same frames.
        references = expected.setdefault(signature == "serving_default", alone)
        targets.append(_Target(server, signature, sent[signature], references))
    return targets


def _answers(
    client: ServingClient,
    inputs: list[dict[str, np.ndarray]],
    signature: str,
    exported: ExportedModel,
) -> list[np.ndarray]:
    """Scores of every video, asked for one by one."""
    try:
        return [request_logits(client, exported, row, signature) for row in inputs]
    except ServingError as error:
        raise InputError(f"`--server`: {error}.") from error


def _measure(target: _Target, load: _Load) -> None:
    """Send the requests of one measurement over all connections."""
    turns = iter(range(load.requests))
    lock = threading.Lock()

    def work(client: ServingClient) -> None:
        while True:
            with lock:
                turn = next(turns, None)
            if turn is None:
                return
            outcome = _ask(client, target, turn % len(target.inputs), load.exported)
            with lock:
                _note(target, *outcome)

    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(load.connect(target.server))
            for _ in range(load.connections)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(load.connections))
        for client in clients:
            _open(client)
        start = time.perf_counter()
        list(pool.map(work, clients))
        target.seconds.append(time.perf_counter() - start)


def _open(client: ServingClient) -> None:
    """Connect, so that no measured request has to; a failure will come again."""
    try:
        client.versions()
    except ServingError:
        return


def _ask(
    client: ServingClient, target: _Target, number: int, exported: ExportedModel
) -> tuple[float, str | None, bool]:
    """Seconds, error and whether the answer is right, of one request."""
    start = time.perf_counter()
    try:
        logits = request_logits(
            client, exported, target.inputs[number], target.signature
        )
    except ServingError as error:
        return time.perf_counter() - start, str(error), False
    seconds = time.perf_counter() - start
    expected = target.references[number]
    room = _TOLERANCE * max(1.0, float(np.abs(expected).max()))
    return seconds, None, bool((np.abs(logits - expected) <= room).all())


def _note(target: _Target, seconds: float, error: str | None, is_right: bool) -> None:
    """Keep the outcome of one request."""
    if error is not None:
        target.failures.append(error)
        return
    target.latencies.append(1000 * seconds)
    target.wrong += not is_right


def _row(target: _Target, load: _Load) -> dict[str, Any]:
    """The figures of one server and signature."""
    speeds = [load.requests / seconds for seconds in target.seconds]
    sizes = [_size(array) for row in target.inputs for array in row.values()]
    return {
        "interface": "gRPC" if target.server.startswith("grpc:") else "REST",
        "signature": target.signature,
        "videos": len(target.inputs),
        "request_kb": float(np.mean(sizes)) / 1000,
        "connections": load.connections,
        "requests": load.requests * len(speeds),
        "errors": len(target.failures),
        "wrong": target.wrong,
        "first_error": next(iter(target.failures), ""),
        "requests_per_second": float(np.median(speeds)),
        "slowest": min(speeds),
        "fastest": max(speeds),
        "median_ms": _percentile(target.latencies, 50),
        "p95_ms": _percentile(target.latencies, 95),
        "p99_ms": _percentile(target.latencies, 99),
    }


def _percentile(times: list[float], share: int) -> float | None:
    """None where nothing was answered."""
    return float(np.percentile(times, share)) if times else None


def _size(array: np.ndarray) -> int:
    """Bytes of pixels, or of the files in an object array."""
    return sum(map(len, array.ravel())) if array.dtype == object else array.nbytes


def print_serving(rows: Sequence[dict[str, Any]]) -> None:
    """Print what `benchmark_serving` returned, and what failed."""
    figures = {
        "per s": "requests_per_second",
        "median ms": "median_ms",
        "p95 ms": "p95_ms",
        "p99 ms": "p99_ms",
        "errors": "errors",
        "wrong": "wrong",
    }
    cells = [
        (
            f"{row['interface']} {row['signature']}",
            *("-" if row[key] is None else row[key] for key in figures.values()),
        )
        for row in rows
    ]
    print_table("Serving", ("requests", *figures), cells)
    for row in rows:
        which = f"{row['interface']} {row['signature']}"
        if row["errors"]:
            console.print(
                f"{which}: {row['errors']} of {row['requests']} requests failed, the "
                f"first because {row['first_error']}",
                markup=False,
                soft_wrap=True,
            )
        if row["wrong"]:
            console.print(
                f"{which}: {row['wrong']} answers differ from those to the same videos "
                "one by one",
                markup=False,
                soft_wrap=True,
            )
