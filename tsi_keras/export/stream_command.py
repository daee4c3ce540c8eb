"""`predict --stream`: predictions as JSON lines or text, until the end or a signal."""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import TextIO

from tsi_keras.data.remote import to_path
from tsi_keras.data.remote_input import video_as_file
from tsi_keras.data.video_container import VideoError
from tsi_keras.data.video_stream import SCHEMES
from tsi_keras.data.video_stream import VideoStream
from tsi_keras.evaluation.predict import decoding_options
from tsi_keras.evaluation.prediction_output import check_json_file
from tsi_keras.export.stream_classifier import StreamingClassifier
from tsi_keras.export.stream_classifier import StreamPrediction
from tsi_keras.export.stream_run import StreamRun
from tsi_keras.export.stream_run import classify_stream
from tsi_keras.export.stream_segments import Segment
from tsi_keras.export.stream_segments import merge_segments
from tsi_keras.models.loading import load_classifier
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.utils.console import console
from tsi_keras.utils.console import errors
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import is_same_file
from tsi_keras.utils.stop_signals import StopSignals
from tsi_keras.utils.urls import is_remote


@dataclass(frozen=True)
class StreamCommand:
    """What `predict --stream` was asked for.

    Attributes:
        window, hop, smooth, min_probability, top_k: see `StreamingClassifier`.
        segments: merge consecutive windows of equal label.
        live: see `VideoStream`.
        json: file for the lines, `-` for stdout, None for text on stdout.
        overlay: annotated copy to write, or None.
        overwrite: replace these files if they exist.
    """

    window: float | None = None
    hop: float | None = None
    smooth: int = 1
    min_probability: float = 0.0
    top_k: int = 5
    segments: bool = False
    live: bool | None = None
    json: str | None = None
    overlay: str | None = None
    overwrite: bool = False


def run_stream(model: str | Path, source: str, command: StreamCommand) -> int:
    """Classify a stream and write what comes out, line by line.

    A line is there as soon as its window is. After SIGTERM or Ctrl-C the line at hand is
    completed, the files are closed and the summary is printed.

    Args:
        model: RUN folder or `.keras` file.
        source: a file, the number of a camera, or an address.
        command: the options.

    Returns:
        The exit status: 0, 1 when the stream failed on its way (the last JSON line then
        holds the reason as `error`), 130 or 143 when a signal ended it.

    Raises:
        InputError: an option is wrong, or the source or the model cannot be opened.
    """
    if command.json not in (None, "-"):
        _check_json(Path(command.json).expanduser(), source, command)
    loaded = load_classifier(model)
    with _readable(source) as readable:
        classifier = _classifier(loaded, readable, command)
        run = classify_stream(
            readable,
            classifier,
            live=command.live,
            overlay=command.overlay,
            overwrite=command.overwrite,
        )
        errors.print(classifier.describe(command.window, command.hop), markup=False)
        if command.overlay is not None:
            errors.print("--overlay: sound is not copied", markup=False)
        run.open()
        with _lines(command) as write, StopSignals(run.stop) as stop:
            failed = _write_all(run, write, segments=command.segments)
        target = errors if command.json == "-" else console
        target.print(str(run.summary), markup=False, soft_wrap=True)
    return 128 + stop.received if stop.received else int(failed)


def _check_json(path: Path, source: str, command: StreamCommand) -> None:
    """Raise InputError when the lines cannot be written there."""
    if is_same_file(path, source):
        raise InputError(
            f"`--json` {path} is the video itself; choose another file for the lines."
        )
    overlay = Path(command.overlay).expanduser() if command.overlay else None
    if overlay is not None and path.resolve() == overlay.resolve():
        raise InputError(
            f"`--json` and `--overlay` are both {path}; choose two different files."
        )
    check_json_file(path, overwrite=command.overwrite)


def _classifier(
    model: VideoClassifier, source: str | Path, command: StreamCommand
) -> StreamingClassifier:
    """The classifier; a model of all frames is told how many a second has."""
    rate = None
    if decoding_options(model)["fps"] is None:
        with VideoStream(source, live=command.live) as stream:
            rate = stream.rate and float(stream.rate)
    return StreamingClassifier(
        model,
        command.window,
        command.hop,
        command.smooth,
        min_probability=command.min_probability,
        top_k=command.top_k,
        rate=rate,
    )


@contextmanager
def _readable(source: str) -> Iterator[str | Path]:
    """The source, as something FFmpeg reads itself."""
    if is_remote(source) and source.partition("://")[0].lower() not in SCHEMES:
        with video_as_file(to_path(source)) as file:
            yield file
    else:
        yield source


def _write_all(
    run: StreamRun,
    write: Callable[[dict | Segment | StreamPrediction], None],
    *,
    segments,
) -> bool:
    """Write one line per window or segment; True if the stream failed."""
    failure: list[VideoError] = []
    predictions = _until_failure(run, failure)
    lines: Iterable[Any] = merge_segments(predictions) if segments else predictions
    try:
        for line in lines:
            write(line)
        for error in failure:
            write({"error": error.reason})
            errors.print(f"error: {error.reason}", markup=False, style="red")
    except BrokenPipeError:
        # Whoever read has had enough, as `head` has.
        run.stop()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        predictions.close()
    return bool(failure)


def _until_failure(
    run: StreamRun, failure: list[VideoError]
) -> Iterator[StreamPrediction]:
    """Predictions up to an error, which is kept: the last segment is still due."""
    try:
        yield from run
    except VideoError as error:
        failure.append(error)


@contextmanager
def _lines(command: StreamCommand) -> Iterator[Callable[[Any], None]]:
    """A function that writes one line, at once."""
    with contextlib.ExitStack() as stack:
        file: TextIO = sys.stdout
        if command.json not in (None, "-"):
            path = Path(command.json).expanduser()
            file = stack.enter_context(path.open("w", encoding="utf-8"))

        def write(item: Any) -> None:
            if command.json is None:
                text = _as_text(item)
            else:
                entry = item if isinstance(item, dict) else item.as_json()
                text = json.dumps(entry, ensure_ascii=False)
            if text:
                file.write(text + "\n")
                file.flush()

        yield write


def _as_text(item: dict | Segment | StreamPrediction) -> str:
    """A line for people; errors are printed elsewhere."""
    if isinstance(item, dict):
        return ""
    label = item.label if item.label is not None else "(no label)"
    percent = 100 * item.probability
    return f"{item.start:9.2f} - {item.end:9.2f} s  {percent:5.1f} %  {label}"
