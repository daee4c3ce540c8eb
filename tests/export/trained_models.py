"""Five small trained networks, for exports to be compared on what they have learned.

TSI, TSM and TEA learn the demo's classes, which only the order of the frames tells. TSN
cannot, and a MobileNetV3 with TSI's modules does not from scratch in minutes: these two
learn the colour of the same videos.
"""

import colorsys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tests.conftest import REPOSITORY
from tsi_keras.data import synthetic
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import ShardInfo
from tsi_keras.data.dataset_info import SplitInfo
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.dataset_info import write_dataset_info
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.data.preparation import prepare
from tsi_keras.data.preprocessing import decode_frames
from tsi_keras.data.records import encode_record
from tsi_keras.data.records import parse_record
from tsi_keras.models import VideoClassifier
from tsi_keras.models import insert_temporal
from tsi_keras.models import insertion_points
from tsi_keras.models import load_classifier
from tsi_keras.training.building import clip_options
from tsi_keras.training.building import compile_classifier
from tsi_keras.training.config import Config
from tsi_keras.training.config_io import load_config
from tsi_keras.training.trainer import train
from tsi_keras.utils.files import file_sha256

MODELS = ("tsi", "tsn", "tsm", "tea", "mobilenet_v3")
COLOURS = ("red", "yellow", "green", "cyan", "blue", "magenta")

_RECIPES = {
    "tsi": ("demo_tsi", []),
    "tsn": ("demo_tsn", ["--train.epochs=4"]),
    "tsm": (
        "demo_tsi",
        ["--model.temporal=tsm", "--model.temporal_options={}"],
    ),
    "tea": (
        "demo_tsi",
        [
            "--model.temporal=tea",
            "--model.temporal_options={}",
            "--model.depth=14",
            "--train.epochs=8",
        ],
    ),
    # Enlarged frames: the network halves them five times.
    "mobilenet_v3": (
        "demo_tsi",
        ["--data.crop_size=64", "--data.short_side=72", "--train.epochs=4"],
    ),
}
_LEARN_COLOURS = ("tsn", "mobilenet_v3")


def make_demo_data(folder: Path) -> Path:
    """The data set of `make demo`; what is there already is taken as it is."""
    if not (folder / "data" / "dataset.json").is_file():
        synthetic.write_dataset(folder / "videos", videos_per_class=120, overwrite=True)
        prepare(
            folder / "videos",
            folder / "data",
            split="0.7/0.1/0.2",
            short_side=54,
            overwrite=True,
        )
    return folder / "data"


def trained_model(name: str, data: Path, folder: Path) -> tuple[VideoClassifier, Path]:
    """A trained network and the data set with its labels; trained once per folder.

    Args:
        name: one of `MODELS`.
        data: from `make_demo_data`.
        folder: keeps the runs.

    Returns:
        The model, and `data` or the same videos labelled by colour.
    """
    recipe, overrides = _RECIPES[name]
    config = load_config(REPOSITORY / "configs" / f"{recipe}.yaml", overrides)
    if name in _LEARN_COLOURS:
        data = labelled_by_colour(data, folder / "data_colours")
    run = folder / "runs" / name
    if name == "mobilenet_v3":
        _train_mobilenet(config, data, run)
    else:
        train(config, data, run, resume=(run / "config.yaml").is_file())
    return load_classifier(run), data


def labelled_by_colour(data: Path, folder: Path) -> Path:
    """The same videos in classes that any frame tells: the hue of their mean colour."""
    if (folder / "dataset.json").is_file():
        return folder
    info = load_dataset_info(data)
    folder.mkdir(parents=True, exist_ok=True)
    splits = {}
    for split in info.splits:
        counts = dict.fromkeys(COLOURS, 0)
        shard = f"{split}-00000-of-00001.tfrecord"
        with tf.io.TFRecordWriter(str(folder / shard)) as writer:
            for colour, record in _records_by_colour(info, split):
                counts[colour] += 1
                writer.write(record)
        videos = sum(counts.values())
        written = ShardInfo(shard, videos, file_sha256(folder / shard))
        splits[split] = SplitInfo(videos, counts, [written])
    write_dataset_info(
        DatasetInfo([*COLOURS], splits, info.options, info.tool_version, folder=folder)
    )
    return folder


def _records_by_colour(info: DatasetInfo, split: str) -> Iterator[tuple[str, bytes]]:
    """Colour and record of every video of a split."""
    stored = tf.data.TFRecordDataset(info.shard_paths(split)).map(parse_record)
    for video in stored.as_numpy_iterator():
        colour = _colour(decode_frames(tf.constant(video["frames"])).numpy())
        yield (
            colour,
            encode_record(
                video_id=video["id"].decode(),
                label=COLOURS.index(colour),
                class_name=colour,
                jpegs=list(video["frames"]),
                **{key: video[key].item() for key in _NUMBERS},
            ),
        )


_NUMBERS = ("height", "width", "fps", "source_num_frames", "source_fps")


def _colour(frames: np.ndarray) -> str:
    """Name of the mean colour of frames uint8 (F, H, W, 3)."""
    hue, _, _ = colorsys.rgb_to_hsv(*(frames.mean(axis=(0, 1, 2)) / 255))
    return COLOURS[round(6 * hue) % 6]


def _train_mobilenet(config: Config, data: Path, run: Path) -> None:
    """Train a MobileNetV3 with TSI's modules inserted and save it as a run does."""
    if (run / "last.keras").is_file():
        return
    keras.utils.set_random_seed(0)
    info = load_dataset_info(data)
    model = inserted_mobilenet(info, config)
    batch, epochs = config.train.batch_size, config.train.epochs
    compile_classifier(model, config, info.split("train").num_videos // batch)
    clips, common = clip_options(config), {"batch_size": batch}
    run.mkdir(parents=True, exist_ok=True)
    model.fit(
        make_dataset(data, "train", clips, training=True, **common),
        validation_data=make_dataset(data, "val", clips, training=False, **common),
        epochs=epochs,
        verbose=2,
        callbacks=[keras.callbacks.CSVLogger(run / "log.csv")],
    )
    model.save(run / "last.keras")


def inserted_mobilenet(info: DatasetInfo, config: Config) -> VideoClassifier:
    """A MobileNetV3Small of keras.applications with SME and CTI, untrained."""
    size = config.data.crop_size
    image_model = keras.applications.MobileNetV3Small(
        input_shape=(size, size, 3), alpha=0.5, include_top=False, weights=None
    )
    for layer in image_model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # Its own 0.999 wants more steps than this training has.
            layer.momentum = 0.9
    backbone = insert_temporal(
        image_model,
        "tsi",
        config.model.num_frames,
        where=insertion_points(image_model)[::2],
        temporal_options={"sme": {"reduction": 8}, "cti": {"alpha_bias": 3.0}},
    )
    return VideoClassifier(
        backbone,
        info.num_classes,
        dropout=0.0,
        class_names=info.class_names,
        preprocessing={
            "short_side": config.data.short_side,
            "crop_size": size,
            "sampling": config.data.sampling,
        },
        head_stddev=config.model.head_stddev,
        name="mobilenet_v3_tsi",
    )
