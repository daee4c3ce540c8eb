"""The TFRecord schema, there and back, and by TF Model Garden's reader."""

import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import ShardInfo
from tsi_keras.data.dataset_info import SplitInfo
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.dataset_info import write_dataset_info
from tsi_keras.data.records import encode_record
from tsi_keras.data.records import parse_record
from tsi_keras.utils.errors import InputError


def jpeg(level: int, size: tuple[int, int] = (24, 16)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (level, level // 2, 10)).save(file, "JPEG")
    return file.getvalue()


VIDEO = {
    "video_id": "wave/ä b.mp4",
    "label": 3,
    "class_name": "wäve",
    "jpegs": [jpeg(10), jpeg(100), jpeg(200)],
    "height": 16,
    "width": 24,
    "fps": 12.0,
    "source_num_frames": 8,
    "source_fps": 29.97,
}


def test_round_trip():
    parsed = {k: v.numpy() for k, v in parse_record(encode_record(**VIDEO)).items()}
    assert parsed["frames"].tolist() == VIDEO["jpegs"]
    assert parsed["label"] == 3
    assert parsed["label"].dtype == np.int64
    assert parsed["id"].decode() == VIDEO["video_id"]
    assert parsed["class_name"].decode() == VIDEO["class_name"]
    assert (parsed["num_frames"], parsed["source_num_frames"]) == (3, 8)
    assert (parsed["height"], parsed["width"]) == (16, 24)
    assert (parsed["fps"], parsed["source_fps"]) == (12.0, np.float32(29.97))


def test_keys_are_those_of_the_contract():
    example = tf.train.SequenceExample.FromString(encode_record(**VIDEO))
    assert set(example.context.feature) == {
        "clip/label/index",
        "clip/label/text",
        "clip/id",
        "clip/num_frames",
        "clip/fps",
        "clip/source_num_frames",
        "clip/source_fps",
        "image/height",
        "image/width",
    }
    assert list(example.feature_lists.feature_list) == ["image/encoded"]


def test_equal_videos_give_equal_bytes():
    assert encode_record(**VIDEO) == encode_record(**VIDEO)


def test_model_garden_parses_the_records():
    """`official.vision.dataloaders.video_input` with its two keys, and its images."""
    context, sequence = tf.io.parse_single_sequence_example(
        encode_record(**VIDEO),
        {"clip/label/index": tf.io.VarLenFeature(tf.int64)},
        {"image/encoded": tf.io.FixedLenSequenceFeature((), tf.string)},
    )
    assert tf.sparse.to_dense(context["clip/label/index"]).numpy().tolist() == [3]
    images = [tf.io.decode_jpeg(data).numpy() for data in sequence["image/encoded"]]
    assert np.stack(images).shape == (3, 16, 24, 3)
    assert [round(image[..., 0].mean(), -1) for image in images] == [10, 100, 200]


def test_model_garden_decoder_itself():
    video_input = pytest.importorskip("official.vision.dataloaders.video_input")
    decoded = video_input.Decoder().decode(encode_record(**VIDEO))
    assert decoded["clip/label/index"].numpy().tolist() == [3]
    clip = video_input.process_image(
        decoded["image/encoded"],
        is_training=False,
        num_frames=3,
        stride=1,
        min_resize=16,
        crop_size=16,
    )
    assert clip.shape == (3, 16, 16, 3)
    assert np.all(np.diff(clip.numpy()[..., 0].mean((1, 2))) > 0.3)


@pytest.fixture
def info(tmp_path) -> DatasetInfo:
    shard = ShardInfo("train-00000-of-00001.tfrecord", 2, "ab" * 32)
    (tmp_path / shard.name).touch()
    info = DatasetInfo(
        class_names=["a", "ü"],
        splits={
            "train": SplitInfo(2, {"a": 1, "ü": 1}, [shard]),
            "val": SplitInfo(0, {"a": 0, "ü": 0}, []),
        },
        options={"fps": None, "seed": 1},
        tool_version="1.2.3",
        folder=tmp_path,
    )
    write_dataset_info(info)
    return info


def test_dataset_info_round_trip(info):
    loaded = load_dataset_info(info.folder)
    assert loaded == info
    assert loaded.shard_paths("train") == [
        str(info.folder / "train-00000-of-00001.tfrecord")
    ]


def test_fingerprint_follows_the_contents_only(info):
    assert dataclasses.replace(info, options={}).fingerprint == info.fingerprint
    renamed = dataclasses.replace(info, class_names=["a", "b"])
    assert renamed.fingerprint != info.fingerprint


def test_unknown_and_empty_splits(info):
    with pytest.raises(InputError, match="must be one of .*'train'.*Received: 'dev'"):
        info.shard_paths("dev")
    with pytest.raises(InputError, match="split 'val' .* holds no videos"):
        info.shard_paths("val")


def test_missing_shard(info):
    (info.folder / "train-00000-of-00001.tfrecord").unlink()
    with pytest.raises(InputError, match="is missing"):
        info.shard_paths("train")


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "not readable JSON"),
        ("[]", "no `schema_version`"),
        ('{"schema_version": 99}', "schema version 99"),
        ('{"schema_version": 1}', "damaged"),
        ('{"schema_version": 1, "splits": []}', "damaged"),
    ],
)
def test_unreadable_dataset_json(tmp_path, text, message):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_dataset_info(tmp_path)


def test_folders_that_are_no_data_set(tmp_path):
    with pytest.raises(InputError, match="holds no dataset.json"):
        load_dataset_info(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        load_dataset_info(tmp_path / "nowhere")
