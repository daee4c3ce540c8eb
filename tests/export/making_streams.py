"""What the tests of streams share: models with known answers, sources that misbehave."""

import io
import threading
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path

import av
import keras
import numpy as np

from tsi_keras.layers import FoldFrames
from tsi_keras.layers import TemporalConv1D
from tsi_keras.layers import UnfoldFrames
from tsi_keras.models import VideoClassifier
from tsi_keras.models.video_backbone import VideoBackbone

PREPROCESSING = {"short_side": 32, "crop_size": 32, "fps": 12.0}
FRAMES = 4


def slope_model(**preprocessing) -> VideoClassifier:
    """Says whether a clip grows brighter or darker; single frames do not tell.

    A temporal difference, summed over the clip, is the last frame less the first.
    """
    inputs = keras.Input((FRAMES, None, None, 3))
    x = FoldFrames(name="fold_frames")(inputs)
    x = keras.layers.AveragePooling2D(8, name="pool")(x)
    difference = TemporalConv1D(FRAMES, name="difference")
    x = UnfoldFrames(FRAMES, name="unfold_frames")(difference(x))
    [kernel] = difference.weights[:1]
    kernel.assign(np.broadcast_to([[-1.0], [0.0], [1.0]], kernel.shape))
    model = VideoClassifier(
        VideoBackbone(inputs, x, FRAMES),
        num_classes=2,
        class_names=["brighter", "darker"],
        preprocessing=PREPROCESSING | preprocessing,
    )
    head = model.get_layer("classifier")
    head.kernel.assign(np.tile([[0.1, -0.1]], (3, 1)))
    return model


def ramp(num_frames: int, first: int, last: int, size=(48, 64)) -> np.ndarray:
    """Frames from one grey level to another, uint8 (F, H, W, 3)."""
    levels = np.linspace(first, last, num_frames).round().astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (num_frames, *size, 3)).copy()


def write_video(
    target: Path | io.BytesIO,
    frames: np.ndarray,
    *,
    rate: int = 24,
    timestamps: list[int] | None = None,
    format: str | None = None,
) -> Path | io.BytesIO:
    """A lossless H.264 file; timestamps count 1/rate seconds, one per frame."""
    file = str(target) if isinstance(target, Path) else target
    # No B-frames: the pictures of two files of the same frames are alike.
    options = {"qp": "0", "bf": "0", "g": "12"}
    with av.open(file, "w", format=format) as container:
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts = number if timestamps is None else timestamps[number]
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return target


def transport_stream(frames: np.ndarray, **options) -> bytes:
    """The same as MPEG-TS, which needs no index and no length."""
    return write_video(io.BytesIO(), frames, format="mpegts", **options).getvalue()


@contextmanager
def http_server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server on this machine whose GET requests `answer` handles; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            try:
                answer(self)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the reader has left

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/video"
    finally:
        server.shutdown()
        server.server_close()


def send_file(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    """Answer a request for a file, or for the part of it from a position on."""
    asked = handler.headers.get("Range", "bytes=0-")
    start = int(asked.removeprefix("bytes=").partition("-")[0])
    handler.send_response(206 if "Range" in handler.headers else 200)
    handler.send_header("Accept-Ranges", "bytes")
    handler.send_header("Content-Length", str(len(data) - start))
    last = len(data) - 1
    handler.send_header("Content-Range", f"bytes {start}-{last}/{len(data)}")
    handler.end_headers()
    handler.wfile.write(data[start:])


def send_endless(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    """Answer with a stream of no stated length."""
    handler.send_response(200)
    handler.send_header("Content-Type", "video/mp2t")
    handler.end_headers()
    handler.wfile.write(data)
    handler.wfile.flush()
