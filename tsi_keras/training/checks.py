"""What must be right before a run begins."""

from pathlib import Path

from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.training.config import Config
from tsi_keras.training.distribution import check_batch_size
from tsi_keras.training.weights_and_biases import import_wandb
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.urls import is_remote
from tsi_keras.utils.versions import versions


def common_facts(
    config: Config, info: DatasetInfo, **switches: bool
) -> dict[str, object]:
    """Return what all workers must have alike, by the name to use in an error.

    Args:
        config: the run's, without what tells the workers apart.
        info: its data set.
        **switches: those of the command, such as `resume`.
    """
    keys = {
        f"`{section}.{key}`": value
        for section, values in config.model_dump().items()
        for key, value in values.items()
    }
    return {
        **{f"`--{name}`": value for name, value in switches.items()},
        "`--data`": info.fingerprint[:12],
        "versions": versions(),
        **keys,
    }


def check_fit(config: Config, info: DatasetInfo, replicas: int) -> None:
    """Whether configuration, data set and devices go together.

    Raises:
        InputError: they do not; one line.
    """
    if config.train.wandb is not None:
        import_wandb(config.train.wandb)
    batch_size = config.train.batch_size
    check_batch_size(batch_size, replicas, config.train.accumulation_steps)
    videos = info.split("train").num_videos
    if videos < batch_size:
        raise InputError(
            f"`train.batch_size` must not exceed the {videos} videos of the train "
            f"split of {info.folder}. Received: {batch_size}"
        )
    if sum(count > 0 for count in info.split("train").counts.values()) < 2:
        raise InputError(
            f"`--data` {info.folder} has videos of one class only in its train split; "
            "at least two are needed, see its report.html."
        )
    info.shard_paths("train")
    if not config.train.validation:
        return
    if "val" not in info.splits or not info.splits["val"].num_videos:
        raise InputError(
            f"`--data` {info.folder} has no videos in a val split; add one in "
            "pipelines.prepare, or take --train.validation=false."
        )
    info.shard_paths("val")


def files_to_spare(config: Config, info: DatasetInfo) -> list[str | Path]:
    """Return what the run reads, which its folder must not contain."""
    weights = config.model.weights
    if weights is None:
        return [info.folder]
    return [info.folder, weights if is_remote(weights) else Path(weights).expanduser()]
