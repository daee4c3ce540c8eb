"""The TFRecord schema: one `tf.train.SequenceExample` per video.

The keys are those of TF Model Garden's `official.vision.dataloaders.video_input`
(`image/encoded`, `clip/label/index`), so that its readers take these files as they
are; the other keys are extra context that such readers leave alone.
"""

from collections.abc import Sequence

import tensorflow as tf

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
        label: class index, the position of `class_name` in the sorted class names.
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
    frames = example.feature_lists.feature_list[FRAMES]
    for jpeg in jpegs:
        frames.feature.add().bytes_list.value.append(jpeg)
    # Maps have no order of their own; shards must not differ from run to run.
    return example.SerializeToString(deterministic=True)


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
