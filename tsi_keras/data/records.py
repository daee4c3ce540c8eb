"""The TFRecord schema: one `tf.train.SequenceExample` per video.

The keys are those of TF Model Garden's `official.vision.dataloaders.video_input`
(`image/encoded`, `clip/label/index`), so that its readers take these files as they
are; the other keys are extra context that such readers leave alone.
"""

from collections.abc import Sequence

import tensorflow as tf

from tsi_keras.utils.urls import is_remote

FRAMES = "image/encoded"
LABEL = "clip/label/index"
CLASS_NAME = "clip/label/text"
VIDEO_ID = "clip/id"
NUM_FRAMES = "clip/num_frames"
FPS = "clip/fps"
SOURCE_NUM_FRAMES = "clip/source_num_frames"
SOURCE_FPS = "clip/source_fps"
HEIGHT = "image/height"
WIDTH = "image/width"

CONTEXT_FEATURES = {
    LABEL: tf.io.FixedLenFeature([], tf.int64),
    CLASS_NAME: tf.io.FixedLenFeature([], tf.string),
    VIDEO_ID: tf.io.FixedLenFeature([], tf.string),
    NUM_FRAMES: tf.io.FixedLenFeature([], tf.int64),
    FPS: tf.io.FixedLenFeature([], tf.float32),
    SOURCE_NUM_FRAMES: tf.io.FixedLenFeature([], tf.int64),
    SOURCE_FPS: tf.io.FixedLenFeature([], tf.float32),
    HEIGHT: tf.io.FixedLenFeature([], tf.int64),
    WIDTH: tf.io.FixedLenFeature([], tf.int64),
}
SEQUENCE_FEATURES = {FRAMES: tf.io.FixedLenSequenceFeature([], tf.string)}


# One request a block: TensorFlow's own 256 kB take 2.5 times as long from S3.
_REMOTE_BUFFER = 8 << 20


def read_buffer(path: str) -> int:
    """Bytes to read at a time from a file of records; 0 is a record at a time."""
    # Records are larger than TensorFlow's buffer: through it they would be copied twice.
    return _REMOTE_BUFFER if is_remote(path) else 0


def encode_record(
    *,
    video_id: str,
    label: int,
    class_name: str,
    jpegs: Sequence[bytes],
    height: int,
    width: int,
    fps: float,
    source_num_frames: int,
    source_fps: float,
) -> bytes:
    """Serialise one video.

    Args:
        video_id: unique name of the video within its data set.
        label: class index, the position of `class_name` in the data set's class names.
        class_name: class as text.
        jpegs: the stored frames in display order, each a whole JPEG file.
        height: height of the stored frames in pixels.
        width: width of the stored frames in pixels.
        fps: stored frames per second.
        source_num_frames: frames of the video file before thinning.
        source_fps: frames per second of the video file.

    Returns:
        The serialised `tf.train.SequenceExample`; equal arguments give equal bytes.
    """
    example = tf.train.SequenceExample()
    context = example.context.feature
    context[LABEL].int64_list.value.append(label)
    context[CLASS_NAME].bytes_list.value.append(class_name.encode("utf-8"))
    context[VIDEO_ID].bytes_list.value.append(video_id.encode("utf-8"))
    context[NUM_FRAMES].int64_list.value.append(len(jpegs))
    context[FPS].float_list.value.append(fps)
    context[SOURCE_NUM_FRAMES].int64_list.value.append(source_num_frames)
    context[SOURCE_FPS].float_list.value.append(source_fps)
    context[HEIGHT].int64_list.value.append(height)
    context[WIDTH].int64_list.value.append(width)
    # Maps have no order of their own; shards must not differ from run to run.
    return b"".join([example.SerializeToString(deterministic=True), *_frames(jpegs)])


def _frames(jpegs: Sequence[bytes]) -> list[bytes]:
    """The field `feature_lists` of a `tf.train.SequenceExample`, in pieces.

    Protocol buffers are concatenations of fields. Letting the library build this one
    would copy the frames three times, gigabytes in the case of a long video.
    """
    sizes = [(len(jpeg), _field(1, len(jpeg))) for jpeg in jpegs]
    # Feature { BytesList { value } } as one element of FeatureList.feature.
    heads, total = [], 0
    for size, value in sizes:
        bytes_list = _field(1, len(value) + size) + value
        head = _field(1, len(bytes_list) + size) + bytes_list
        heads.append(head)
        total += len(head) + size
    key = _field(1, len(FRAMES)) + FRAMES.encode()
    entry = key + _field(2, total)  # one item of a map: 1 its key, 2 its value
    lists = _field(1, len(entry) + total) + entry
    pieces = [_field(2, len(lists) + total) + lists]
    for head, jpeg in zip(heads, jpegs, strict=True):
        pieces += (head, jpeg)
    return pieces


def _field(number: int, length: int) -> bytes:
    """Tag of a field that is `length` bytes long, then the length."""
    encoded = [number << 3 | 2]
    while length > 127:
        encoded.append(length & 127 | 128)
        length >>= 7
    return bytes([*encoded, length])


def parse_record(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Parse one record of `encode_record`; frames stay JPEG bytes.

    Args:
        serialized: scalar string tensor, one `tf.train.SequenceExample`.

    Returns:
        `frames` string `(F,)`; `label`, `num_frames`, `source_num_frames`, `height`,
        `width` int64 scalars; `id`, `class_name` string scalars; `fps`, `source_fps`
        float32 scalars (frames per second).

    Example:
        ```python
        dataset = tf.data.TFRecordDataset(info.shard_paths("train")).map(parse_record)
        ```
    """
    context, sequence = tf.io.parse_single_sequence_example(
        serialized, CONTEXT_FEATURES, SEQUENCE_FEATURES
    )
    return {
        "frames": sequence[FRAMES],
        "label": context[LABEL],
        "class_name": context[CLASS_NAME],
        "id": context[VIDEO_ID],
        "num_frames": context[NUM_FRAMES],
        "fps": context[FPS],
        "source_num_frames": context[SOURCE_NUM_FRAMES],
        "source_fps": context[SOURCE_FPS],
        "height": context[HEIGHT],
        "width": context[WIDTH],
    }
