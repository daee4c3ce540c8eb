"""From a source to predictions: one thread reads, the other classifies."""

import threading
import time
from collections import deque
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from pathlib import Path

from tsi_keras.data.video_container import VideoError
from tsi_keras.data.video_stream import VideoStream
from tsi_keras.export.stream_classifier import StreamingClassifier
from tsi_keras.export.stream_classifier import StreamPrediction
from tsi_keras.export.stream_overlay import Overlay
from tsi_keras.export.stream_windows import Window

# Windows of a file that are read ahead while the model works.
_AHEAD = 2
# A signal or the end of the other thread is noticed within this many seconds.
_PATIENCE = 0.2


@dataclass(frozen=True)
class StreamSummary:
    """Figures of a run.

    Attributes:
        frames: frames of the source.
        windows: windows that were classified.
        dropped: windows dropped because the model was slower than the source.
        unusable: windows with too few frames in them.
        damaged: damaged frames of a live source that were left out.
        reconnects: connections that were lost and opened again.
        seconds: time of the last frame.
        elapsed: seconds of work, without the start of the model.
        reused: share of the windows' multiply-adds that was not computed again.
    """

    frames: int
    windows: int
    dropped: int
    unusable: int
    damaged: int
    reconnects: int
    seconds: float
    elapsed: float
    reused: float

    @property
    def windows_per_second(self) -> float:
        """Windows per second of work."""
        return self.windows / self.elapsed if self.elapsed else 0.0

    @property
    def real_time_factor(self) -> float:
        """Seconds of the stream per second of work; 1 is as fast as a live source."""
        return self.seconds / self.elapsed if self.elapsed else 0.0

    def __str__(self) -> str:
        line = (
            f"{self.frames} frames, {self.windows} windows, "
            f"{self.windows_per_second:.2f} windows/s, "
            f"{self.real_time_factor:.2f} x real time, {self.reused:.1%} reused"
        )
        notes = {
            "dropped": self.dropped,
            "with too few frames": self.unusable,
            "damaged frames left out": self.damaged,
            "reconnections": self.reconnects,
        }
        return line + "".join(f", {n} {name}" for name, n in notes.items() if n)


class StreamRun:
    """Predictions of one stream, made while they are asked for; iterate it once.

    Args:
        stream: the source, open or not yet.
        classifier: what classifies the windows.
        overlay: an annotated copy of the video to write, see `Overlay`.

    Example:
        ```python
        run = classify_stream("rtsp://camera/door", classifier)
        for prediction in run:
            if prediction.label == "open":
                run.stop()
        print(run.summary)
        ```
    """

    def __init__(
        self,
        stream: VideoStream,
        classifier: StreamingClassifier,
        overlay: Overlay | None = None,
    ):
        self._stream = stream
        self._classifier = classifier
        self._overlay = overlay
        self._handover: _Handover | None = None
        self._opened = False
        self._stopped = False
        self._started: float | None = None
        self._ended: float | None = None
        self._seconds = 0.0
        self._windows = 0
        self._latest: StreamPrediction | None = None

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    @property
    def _over(self) -> bool:
        """Whether the reading thread shall end."""
        return self._stopped or self._ended is not None

    def stop(self) -> None:
        """End after the window at hand; a signal handler may call this."""
        self._stopped = True

    @property
    def summary(self) -> StreamSummary:
        """Figures so far."""
        end = self._ended or time.perf_counter()
        return StreamSummary(
            frames=self._stream.num_frames,
            windows=self._windows,
            dropped=self._handover.dropped if self._handover else 0,
            unusable=self._classifier.windows.unusable,
            damaged=self._stream.damaged,
            reconnects=self._stream.reconnects,
            seconds=self._seconds,
            elapsed=end - self._started if self._started else 0.0,
            reused=self._classifier.features.reused,
        )

    def open(self) -> "StreamRun":
        """Make the model and the source ready; iterating does this by itself.

        Raises:
            InputError: the source cannot be opened.
        """
        if not self._opened:
            self._classifier.reset()
            # First, so that no live frame has to wait for it.
            self._classifier.features.warm_up()
            self._stream.__enter__()
            self._opened = True
        return self

    def __iter__(self) -> Iterator[StreamPrediction]:
        """Yield a prediction per window, as soon as its last frame is there.

        Raises:
            InputError: the source cannot be opened, or the scores are not finite.
            ValueError: it was iterated before.
            VideoError: the source failed; what came before it was yielded.
        """
        if self._handover is not None:
            raise ValueError(
                "A stream can be iterated once; call `classify_stream` again."
            )
        self.open()
        self._handover = _Handover(self._stream.live, lambda: self._over)
        thread = threading.Thread(target=self._read, name="frames", daemon=True)
        self._started = time.perf_counter()
        thread.start()
        in_order = False
        try:
            yield from self._predictions()
            in_order = True
        except (VideoError, KeyboardInterrupt):
            in_order = True
            raise
        except GeneratorExit:
            in_order = self._stopped
            raise
        finally:
            self._end(thread, in_order)

    def _predictions(self) -> Iterator[StreamPrediction]:
        """Classify what the reading thread hands over."""
        overlay = None if self._stream.live else self._overlay
        hop = self._classifier.grid.seconds_per_hop
        try:
            for window, dropped in self._handover:
                self._latest = self._classifier.classify(window, dropped)
                self._windows += 1
                if overlay is not None:
                    overlay.draw_until(self._latest, hop)
                yield self._latest
        except VideoError:
            if overlay is not None:
                overlay.draw_rest()  # up to the damage
            raise
        if overlay is not None and not self._stopped:
            overlay.draw_rest()

    def _read(self) -> None:
        """The reading thread: frames to windows."""
        windows, error = self._classifier.windows, None
        try:
            for frame, seconds in self._stream:
                if self._over:
                    return
                self._seconds = float(seconds)
                picture = partial(self._classifier.cropped, frame)
                for window in windows.push(picture, seconds):
                    self._handover.put(window)
                if self._stream.live and self._overlay is not None:
                    self._overlay.draw(frame, seconds, self._latest)
            for window in windows.flush():
                self._handover.put(window)
        except Exception as caught:  # for the other thread to raise
            error = caught
        finally:
            # Here, not in the other thread: FFmpeg may be reading at that moment.
            self._stream.close()
            self._handover.close(error)

    def _end(self, thread: threading.Thread, in_order: bool) -> None:
        """Let the reading thread end, and complete the overlay or throw it away."""
        self._ended = time.perf_counter()
        # It may wait for a frame that never comes; being a daemon, it ends with us.
        thread.join(timeout=2 * _PATIENCE)
        if self._overlay is not None:
            self._overlay.close(keep=in_order)


def classify_stream(
    source: str | Path | int | VideoStream,
    classifier: StreamingClassifier,
    *,
    live: bool | None = None,
    overlay: str | Path | None = None,
    overwrite: bool = False,
    notify: Callable[[str], None] | None = None,
) -> StreamRun:
    """Classify the windows of a file, a camera or a network stream.

    Files are classified whole: reading waits for the model. Live sources do not wait:
    when a window is complete before the model has begun with the last one, that one is
    dropped and counted; no frame ever is. Memory is bounded by the length of a window.

    Args:
        source: a file, the number of a camera, an address (`rtsp://`, `http://`, ...),
            or a `VideoStream`.
        classifier: what classifies; it is reset first.
        live: see `VideoStream`.
        overlay: MP4 file to write an annotated copy to, without sound. Of a file, every
            frame is labelled by the window whose middle is nearest; of a live source,
            by the latest window. It is complete at the end of the source, up to a place
            where that fails, or after `StreamRun.stop` or Ctrl-C; any other error, and
            leaving the loop without `stop`, leaves no file and an earlier one as it was.
        overwrite: replace that file if it exists.
        notify: called with one line when something happens to a live source; by
            default the line is printed to stderr.

    Returns:
        An iterable `StreamRun` with a `summary`.

    Raises:
        InputError: the source is of no known kind, or the overlay cannot be written.

    Example:
        ```python
        classifier = StreamingClassifier(model, window=4, hop=1, smooth=3)
        for prediction in classify_stream("holiday.mp4", classifier):
            print(prediction.start, prediction.end, prediction.label)
        ```
    """
    if not isinstance(source, VideoStream):
        source = VideoStream(source, live=live, notify=notify)
    drawn = None
    if overlay is not None:
        drawn = Overlay(overlay, source.source.target, overwrite=overwrite)
    return StreamRun(source, classifier, drawn)


class _Handover:
    """Windows on their way from the reading thread to the classifying one.

    Args:
        live: drop the waiting window when another comes, instead of waiting.
        stopped: says whether the run is to end.

    Attributes:
        dropped: windows that were dropped.
    """

    def __init__(self, live: bool, stopped: Callable[[], bool]):
        self._live = live
        self._stopped = stopped
        self._changed = threading.Condition()
        self._waiting: deque[Window] = deque()
        self._closed = False
        self._error: Exception | None = None
        self.dropped = 0

    def put(self, window: Window) -> None:
        """Hand a window over; of a file, once there is room."""
        with self._changed:
            if self._live and self._waiting:
                lost = self._waiting.popleft()
                window = replace(window, joined=window.joined and lost.joined)
                self.dropped += 1
            while len(self._waiting) >= _AHEAD and not self._stopped():
                self._changed.wait(_PATIENCE)
            self._waiting.append(window)
            self._changed.notify_all()

    def close(self, error: Exception | None) -> None:
        """No window follows, because of the error if there is one."""
        with self._changed:
            self._closed, self._error = True, error
            self._changed.notify_all()

    def __iter__(self) -> Iterator[tuple[Window, int]]:
        """Yield windows and how many were dropped up to then; raise the error last."""
        while True:
            with self._changed:
                while not (self._waiting or self._closed or self._stopped()):
                    self._changed.wait(_PATIENCE)
                if self._stopped():
                    return
                if not self._waiting:
                    break
                window = self._waiting.popleft()
                self._changed.notify_all()
                dropped = self.dropped
            yield window, dropped
        if self._error is not None:
            raise self._error
