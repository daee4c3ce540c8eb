"""Requests for exported models, good and bad ones."""

import numpy as np
import tensorflow as tf

from tests.evaluation.tiny import moving_frames
from tsi_keras.data.records import FRAMES


def jpeg_files(number: int, count: int = 9) -> list[bytes]:
    """The frames of `moving_frames`, as they are stored."""
    frames = moving_frames(number, count)
    return [tf.io.encode_jpeg(frame, quality=95).numpy() for frame in frames]


def jpeg_clips(count: int, num_frames: int = 4) -> np.ndarray:
    """JPEG files (N, T)."""
    clips = [jpeg_files(n)[:num_frames] for n in range(count)]
    return np.array(clips, object)


def example(files, key: str = FRAMES) -> bytes:
    """A serialized video of nothing but frames."""
    message = tf.train.SequenceExample()
    steps = message.feature_lists.feature_list[key].feature
    for file in files:
        steps.add().bytes_list.value.append(file)
    return message.SerializeToString()


def pixels(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.uint8)


def objects(*values: bytes) -> np.ndarray:
    return np.array(values, object)


def broken(place: tuple, content) -> np.ndarray:
    """Three clips of which one file is something else; or is made of itself."""
    clips = jpeg_clips(3)
    clips[place] = content(clips[place]) if callable(content) else content
    return clips


def bad_requests() -> list[tuple[str, str, np.ndarray, str]]:
    """Signature, input, value, and what the error must say; T = 4, any H and W."""
    good, text = example(jpeg_files(0)), objects(b"no JPEG")
    pixel = ("serving_default", "frames")
    jpeg = ("serve_jpeg", "frames")
    video = ("serve_example", "examples")
    clips = "(N, 4, H, W, 3): one or more clips of 4 RGB frames. Received the shape "
    files = "(N, 4): one or more clips of 4 JPEG files. Received the shape "
    whole = "cannot be decoded: a whole JPEG file is expected. Received "
    proto = "expected: a serialized tf.train.SequenceExample"
    return [
        (*pixel, pixels(2, 3, 32, 32, 3), clips + "[2 3 32 32 3]"),
        (*pixel, pixels(2, 5, 32, 32, 3), clips + "[2 5 32 32 3]"),
        (*pixel, pixels(0, 4, 32, 32, 3), clips + "[0 4 32 32 3]"),
        (*pixel, pixels(2, 4, 0, 32, 3), clips + "[2 4 0 32 3]"),
        (*pixel, pixels(4, 32, 32, 3), "[4 32 32 3]"),
        (*pixel, pixels(1, 4, 32, 32, 1), "[1,4,32,32,1]"),
        (*pixel, pixels(1, 4, 32, 32, 4), "[1,4,32,32,4]"),
        (*jpeg, jpeg_clips(2, 3), files + "[2 3]"),
        (*jpeg, jpeg_clips(2, 5), files + "[2 5]"),
        (*jpeg, jpeg_clips(2)[:0], files + "[0 4]"),
        (*jpeg, jpeg_clips(1)[0], files + "[4]"),
        (*jpeg, broken((1, 2), b"no JPEG"), f"frame 2 of clip 1 {whole}7 bytes"),
        (*jpeg, broken((2, 3), b""), f"frame 3 of clip 2 {whole}0 bytes"),
        (*jpeg, broken((0, 0), lambda x: x[:400]), f"frame 0 of clip 0 {whole}400"),
        (*jpeg, broken((2, 1), lambda x: x[60:]), f"frame 1 of clip 2 {whole}"),
        (*jpeg, np.tile(text, (2, 4)), "8 of 8 frames are broken"),
        (*jpeg, broken((slice(1, 3), 1), text), "frame 1 of clip 1"),
        (*video, objects()[:0], "one or more serialized tf.train.SequenceExample"),
        (*video, objects(good, b""), "`examples[1]` has no frames"),
        (*video, objects(good, example([], "x"), b""), "2 of 3 have none"),
        (*video, objects(example(jpeg_files(0), "frames")), "[0]` has no frames"),
        (*video, objects(good, good, b"no message"), "`examples[2]` (counted from 0"),
        (*video, objects(good[:-700], good), f"`examples[0]` (counted from 0; {proto}"),
        (*video, objects(good, example(list(text))), f"frame 0 of clip 1 {whole}7"),
    ]
