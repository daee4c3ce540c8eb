"""`encode_record` gives the bytes that the protocol buffer library gives."""

import pytest
import tensorflow as tf

from tsi_keras.data.records import FRAMES
from tsi_keras.data.records import encode_record


@pytest.mark.parametrize(
    "lengths", [[], [0], [1], [127, 128], [16_383, 16_384, 5], [3_000_000, 1] * 2]
)
def test_frames_are_written_as_the_library_writes_them(lengths):
    jpegs = [bytes([index + 1]) * length for index, length in enumerate(lengths)]
    context = dict(video_id="ü", label=3, class_name="a", height=1, width=2)
    numbers = dict(fps=12.0, source_num_frames=9, source_fps=25.0)
    written = encode_record(jpegs=jpegs, **context, **numbers)
    example = tf.train.SequenceExample.FromString(written)
    frames = example.feature_lists.feature_list[FRAMES].feature
    assert [frame.bytes_list.value[0] for frame in frames] == jpegs
    assert example.SerializeToString(deterministic=True) == written
