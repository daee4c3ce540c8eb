"""A tiny export, videos and their records, and a server of the export."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.evaluation.tiny import CLASSES
from tests.evaluation.tiny import PREPROCESSING
from tests.evaluation.tiny import moving_frames
from tests.evaluation.tiny import tiny_model
from tests.evaluation.tiny import write_mp4
from tests.export.serving_standin import Standin
from tests.export.serving_standin import standin
from tsi_keras.data.annotations import VideoEntry
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import ShardInfo
from tsi_keras.data.dataset_info import SplitInfo
from tsi_keras.data.dataset_info import write_dataset_info
from tsi_keras.data.shards import ShardTask
from tsi_keras.data.shards import encode_video
from tsi_keras.data.stored_video import RecordOptions
from tsi_keras.evaluation.evaluate import evaluate
from tsi_keras.evaluation.protocols import clip_options
from tsi_keras.export.exported_model import ExportedModel
from tsi_keras.export.exported_model import read_exported
from tsi_keras.export.saved_model import write_saved_model
from tsi_keras.export.serving_requests import video_inputs

NUM_VIDEOS = 6


@dataclass
class Served:
    """A server with everything its answers are compared with.

    Attributes:
        server: it runs.
        exported: what it serves.
        videos: files.
        data: the same videos as records, split "val".
        logits: of the evaluation of these, `(NUM_VIDEOS, K)`.
        model: the Keras model.
    """

    server: Standin
    exported: ExportedModel
    videos: list[Path]
    data: Path
    logits: np.ndarray
    model: object


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """The server is on this machine, whatever proxy the environment names."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="package")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    videos = [
        write_mp4(folder / f"{n}.mp4", moving_frames(n, num_frames=9 + n))
        for n in range(NUM_VIDEOS)
    ]
    data = write_records(folder / "data", videos)
    model = tiny_model("none")
    write_saved_model(model, folder / "tiny" / "1", clip_options(model))
    exported = read_exported(folder / "tiny")
    logits = evaluate(model, data).logits
    with standin(exported.folder) as server:
        yield Served(server, exported, videos, data, logits, model)


@pytest.fixture
def jpegs(served):
    """One clip of every video, bytes (NUM_VIDEOS, T)."""
    rows = [video_inputs(path, served.exported)["frames"] for path in served.videos]
    return np.concatenate(rows)


def write_records(folder: Path, videos: list[Path]) -> Path:
    """What `pipelines.prepare` makes of the videos, by its own encoder."""
    folder.mkdir()
    options = RecordOptions(PREPROCESSING["fps"], 48, 90, 2)
    shard = "val-00000-of-00001.tfrecord"
    task = ShardTask(shard, "val", ())
    with tf.io.TFRecordWriter(str(folder / shard)) as writer:
        for n, path in enumerate(videos):
            entry = VideoEntry(path.name, path, CLASSES[n], "val", path.name)
            writer.write(encode_video(entry, n, task, options)[0])
    counts = {name: int(n < len(videos)) for n, name in enumerate(CLASSES)}
    split = SplitInfo(len(videos), counts, [ShardInfo(shard, len(videos), "0")])
    info = DatasetInfo(list(CLASSES), {"val": split}, {}, "test", folder=folder)
    write_dataset_info(info)
    return folder
