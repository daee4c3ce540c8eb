"""The clips of a run: of every step this worker's share."""

import tensorflow as tf

from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.training.building import clip_options
from tsi_keras.training.config import Config
from tsi_keras.training.device_prefetch import near_device
from tsi_keras.training.distribution import place_of
from tsi_keras.training.distribution import validation_batch_size
from tsi_keras.training.multi_worker import distributed
from tsi_keras.utils.console import console


def updates_per_epoch(config: Config, info: DatasetInfo) -> int:
    """Full batches in the train split."""
    return info.split("train").num_videos // config.train.batch_size


def clips_per_step(config: Config) -> int:
    """Clips computed at a time, over all devices: a part of the batch."""
    return config.train.batch_size // config.train.accumulation_steps


def training_clips(
    config: Config,
    info: DatasetInfo,
    first_epoch: int,
    first_step: int,
    **options,
) -> tf.data.Dataset:
    """Endless shuffled and augmented clips of a step, from one of an epoch on."""
    return make_dataset(
        info.folder,
        "train",
        clip_options(config),
        batch_size=config.train.batch_size,
        training=True,
        seed=config.train.seed,
        deterministic=config.train.deterministic,
        shuffle_buffer=config.data.shuffle_buffer,
        repeat=True,
        first_epoch=first_epoch,
        first_step=first_step,
        parts=config.train.accumulation_steps,
        **options,
    )


def training_shares(
    config: Config,
    info: DatasetInfo,
    strategy: tf.distribute.Strategy,
    first_epoch: int,
    first_step: int,
) -> tf.data.Dataset:
    """The same, of every step this worker's share."""
    worker, workers = place_of(strategy)
    shares = training_clips(
        config,
        info,
        first_epoch,
        first_step,
        worker=worker,
        workers=workers,
        cache=config.data.cache,
        service=config.data.service,
    )
    return near_device(distributed(shares, strategy), strategy)


def first_clips(config: Config, info: DatasetInfo) -> tf.data.Dataset:
    """The clips a run begins with, to be looked at: squares wherever they are made."""
    data = config.data.model_copy(update={"resize_on": "host"})
    config = config.model_copy(update={"data": data})
    return training_clips(config, info, 0, 0)


def reads_in_order(config: Config, workers: int) -> bool:
    """Whether the batches of a run are the same ones each time they are read.

    Args:
        config: the run's.
        workers: how many train together. Several, and the workers of a data service,
            read in the reproducible order in any case: they must agree.
    """
    service = config.data.service is not None
    return config.train.deterministic or workers > 1 or service


def batch_ids(
    config: Config, info: DatasetInfo, epoch: int, step: int, workers: int = 1
) -> list[str]:
    """The videos of a training batch, over all workers.

    The epoch is read again up to there, which the terminal is told. They are the videos
    that were trained with if `reads_in_order`, else those of another order.
    """
    console.print(
        f"looking up the videos of epoch {epoch + 1}, step {step + 1}: reading the "
        "epoch up to there again",
        soft_wrap=True,
    )
    if reads_in_order(config, workers):
        train = config.train.model_copy(update={"deterministic": True})
        config = config.model_copy(update={"train": train})
    data = training_clips(config, info, epoch, step, with_ids=True)
    *_, ids = next(data.take(1).as_numpy_iterator())
    return [name.decode() for name in ids]


def validation_shares(
    config: Config, info: DatasetInfo, strategy: tf.distribute.Strategy
) -> tf.data.Dataset | None:
    """Every val video once: centre frames, centre crop."""
    if not config.train.validation:
        return None
    worker, workers = place_of(strategy)
    videos, replicas = info.split("val").num_videos, strategy.num_replicas_in_sync
    shares = make_dataset(
        info.folder,
        "val",
        clip_options(config),
        batch_size=validation_batch_size(clips_per_step(config), videos, replicas),
        training=False,
        fill_last=replicas > 1,
        worker=worker,
        workers=workers,
        cache=config.data.cache,
    )
    return distributed(shares, strategy)
