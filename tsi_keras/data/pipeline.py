"""From TFRecords of video frames to batches of clips, in `tf.data` throughout.

Per clip the order is: parse, choose the frames, decode only those, crop and flip.
No Python runs per element. Frames leave as uint8; models normalise them.
"""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from tsi_keras.data.autotuning import BATCHES_AHEAD
from tsi_keras.data.autotuning import untuned
from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.clips import Element
from tsi_keras.data.clips import choose_frames
from tsi_keras.data.clips import device_clip
from tsi_keras.data.clips import evaluation_clip
from tsi_keras.data.clips import mixed_batch
from tsi_keras.data.clips import training_clip
from tsi_keras.data.crop_resizing import largest_plain_side
from tsi_keras.data.data_service import check_service
from tsi_keras.data.data_service import dealt_out
from tsi_keras.data.data_service import through_service
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.epochs import Shuffle
from tsi_keras.data.epochs import fill_up
from tsi_keras.data.epochs import next_epoch
from tsi_keras.data.epochs import own_share
from tsi_keras.data.epochs import repeated_epochs
from tsi_keras.data.epochs import whole
from tsi_keras.data.flip_labels import flip_map
from tsi_keras.data.records import parse_record
from tsi_keras.data.records import read_buffer
from tsi_keras.data.shard_cache import cached_shard_paths
from tsi_keras.utils.cores import available_cores
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.errors import check_positive


def make_dataset(
    data_dir: str | Path,
    split: str,
    options: ClipOptions,
    *,
    batch_size: int,
    training: bool,
    seed: int = 0,
    with_ids: bool = False,
    drop_remainder: bool | None = None,
    deterministic: bool = False,
    repeat: bool = False,
    shuffle_buffer: int = 1024,
    first_epoch: int = 0,
    first_step: int = 0,
    parts: int = 1,
    fill_last: bool = False,
    worker: int = 0,
    workers: int = 1,
    cache: str | Path = "none",
    service: str | None = None,
) -> tf.data.Dataset:
    """Batches of clips from one split of a prepared data set.

    In training, shards and videos come in a new order and with new draws each time
    the dataset is iterated, or, with `repeat`, in each epoch. What is drawn for a video
    depends on `seed`, the epoch (the number of iterations before) and the video's id
    only: never on thread timing, and the same in every process. (Without `repeat`,
    TensorFlow mixes in `tf.random.set_seed` where that was called.) Otherwise videos
    come in stored order, each once, with centre frames and crop.

    Memory: the shuffle holds up to `shuffle_buffer` videos as the JPEG files of their
    chosen frames, about 0.2 MB for 8 frames of 340x256. Decoded are four batches, as many
    more while MixUp or CutMix is at them, and a clip for each core.

    Several processes that train together (`workers`) each read every record, but decode
    and get only their share of each batch, always the same one: together they have the
    batches of one process with `deterministic`.

    Args:
        data_dir: the output folder of `pipelines.prepare`.
        split: name of the split, such as `"train"`.
        options: frames, sizes and augmentation of the clips.
        batch_size: clips per (global) batch.
        training: shuffle and augment.
        seed: of all draws in training.
        with_ids: also yield the ids of the videos.
        drop_remainder: leave out a last batch that is not full. The default is to do
            so in training only, so that evaluation sees every video.
        deterministic: training only: also read shards in a reproducible order, so
            that equal arguments give equal batches, at some loss of speed when reads
            are slow.
        repeat: training only: go on with the next epoch for ever instead of ending;
            give `fit` the `steps_per_epoch` then. Each epoch is a function of `seed` and
            its number, and the next one is read ahead while the last batches train.
        shuffle_buffer: videos to draw the next one from in training.
        first_epoch: with `repeat`: the epoch to begin with, counted from 0, so that a
            resumed run goes on as the undisturbed one would have.
        first_step: with `repeat`: batches of that epoch to leave out, or parts of them.
            Their videos are read but not decoded.
        parts: with `repeat`: yield each batch in so many equal parts, one after the other,
            for gradients to be accumulated. Epochs still end with a whole batch.
        fill_last: evaluation only: fill the last batch up with videos that were there
            before, so that it can be shared equally, and yield weights: 1, and 0 for
            those that fill up.
        worker: position of this process among the `workers`.
        workers: processes that share each batch; more than one need `repeat` or
            `fill_last`.
        cache: copy the shards first, to `"memory"` or to a local folder, and read the
            copies: for data sets on slow or remote storage. `"none"`: do not. See
            `shard_cache.cached_shard_paths`.
        service: with `repeat`: `grpc://host:port` of a `tf.data` service whose workers
            decode the clips; they must find the data set under the same path. The
            batches are those of `deterministic`. See `data_service`.

    Returns:
        A dataset of `(frames, labels)`, with the weights next if the last batch is filled
        up, and the ids at the end if these are wanted: uint8
        `(B, num_frames, crop_size, crop_size, 3)`, int32 `(B,)`, float32 `(B,)`, string
        `(B,)`. With MixUp or CutMix the labels of training are the shares of the
        classes, float32 `(B, num_classes)`. With `options.resize_on="device"` the frames
        of training are a dictionary, for `crop_resizing.resize_crops`: `crops` uint8
        `(B, num_frames, P, P, 3)`, P static, and `sides` int32 `(B, 2)`. B is
        `batch_size / parts / workers`, and static when all batches are full. The
        cardinality is known.

    Raises:
        InputError: the data set, the split or a shard is missing, a number is out of
            range, the split has fewer videos than one batch needs, or options that
            exclude one another.
        tf.errors.OpError: when iterated, a shard or a JPEG is damaged.

    Example:
        ```python
        options = ClipOptions(num_frames=8, crop_size=224)
        train = make_dataset("data", "train", options, batch_size=16, training=True)
        val = make_dataset("data", "val", options, batch_size=16, training=False)
        model.fit(train, validation_data=val, epochs=50)
        ```
    """
    check_positive("batch_size", batch_size)
    check_positive("shuffle_buffer", shuffle_buffer)
    info = load_dataset_info(data_dir)
    drop_remainder = training if drop_remainder is None else drop_remainder
    full = drop_remainder or fill_last
    _check_size(info, split, batch_size if drop_remainder else 1)
    _check_repeat(repeat, training and drop_remainder, first_epoch, first_step)
    _check_sharing(batch_size, parts, worker, workers, repeat, fill_last)
    _check_service(service, repeat, cache)
    if fill_last and training:
        raise InputError("`fill_last` is for evaluation (training=False).")
    size = batch_size // parts
    mix = mixed_batch(options, info.num_classes) if training else None
    _check_mixing(mix is not None, full, size // workers)
    paths = cached_shard_paths(info, split, cache)
    num_videos = info.split(split).num_videos
    # A service's workers have other cores, and nobody waits for their iterators to end.
    calls = available_cores() if service is None else tf.data.AUTOTUNE
    # Workers that saw another order would not share the same batches.
    in_order = deterministic or workers > 1 or service is not None
    if training:
        shuffle = Shuffle(paths, num_videos, options, shuffle_buffer, in_order, calls)
        epochs = repeated_epochs if repeat else next_epoch
        videos = epochs(shuffle, seed, batch_size, first_epoch, first_step * size)
        to_clip = _training_clip(options, info)
    else:
        multiple = batch_size if fill_last else None
        videos = _ordered_videos(paths, num_videos, options, calls, multiple)
        to_clip = evaluation_clip(options)
    videos = own_share(videos, size, worker, workers)
    keys = ["frames", "label"] + ["weight"] * fill_last + ["id"] * with_ids
    if service is not None:
        videos = dealt_out(videos, size // workers)
        keys = ["batch", *keys]
    clips = videos.map(
        lambda video: _chosen(video | to_clip(video), [*keys, *["seed"] * bool(mix)]),
        num_parallel_calls=calls,
        deterministic=deterministic or not training or service is not None,
    )
    batches = _batched(clips, size // workers, full, _largest_side(options, info))
    if mix is not None:
        # Whole batches: as many as cores would be too many. (AUTOTUNE is -1.)
        batches = batches.map(mix, num_parallel_calls=min(calls, BATCHES_AHEAD))
    batches = batches.map(lambda batch: tuple(batch[key] for key in keys))
    if service is not None:
        batches = through_service(batches, service)
    if repeat:
        batches = whole(batches, tf.data.INFINITE_CARDINALITY)
    elif fill_last:
        batches = whole(batches, -(-num_videos // batch_size))
    if service is None:  # which has its own options
        batches = batches.with_options(_dataset_options())
    return untuned(batches.prefetch(BATCHES_AHEAD * parts))


def _training_clip(
    options: ClipOptions, info: DatasetInfo
) -> Callable[[Element], Element]:
    """The map from a chosen video to what a batch holds of it."""
    flips = flip_map(info.class_names, options.flip)
    if options.resize_on == "host":
        return training_clip(options, flips)
    return device_clip(options, flips, _largest_side(options, info))


def _largest_side(options: ClipOptions, info: DatasetInfo) -> int:
    """Longest side of a crop that the device gets to resize, in pixels."""
    largest = largest_plain_side(options.crop_size)
    stored = info.options.get("short_side")
    if stored is None or options.augmentation.crop != "multi_scale":
        return largest
    # No crop is larger than the short side: less to copy.
    return min(largest, max(stored, options.crop_size))


def _batched(
    clips: tf.data.Dataset, size: int, full: bool, largest_side: int
) -> tf.data.Dataset:
    """Batches of clips; crops of different sizes are padded to the largest side."""
    shapes = tf.nest.map_structure(lambda spec: spec.shape, clips.element_spec)
    if all(shape.is_fully_defined() for shape in tf.nest.flatten(shapes)):
        return clips.batch(size, drop_remainder=full)
    shapes = tf.nest.map_structure(
        lambda shape: [largest_side if side is None else side for side in shape], shapes
    )
    return clips.padded_batch(size, shapes, drop_remainder=full)


def _check_size(info: DatasetInfo, split: str, needed: int) -> None:
    """Refuse a split that would not give a single batch."""
    available = info.split(split).num_videos
    if available < needed:
        raise InputError(
            f"Split {split!r} of {info.folder} has {available} videos, fewer than one "
            f"batch of {needed}; lower `batch_size` or add videos."
        )


def _check_repeat(
    repeat: bool, allowed: bool, first_epoch: int, first_step: int
) -> None:
    """Refuse epochs that would run into one another, and a start nobody counts."""
    if repeat and not allowed:
        raise InputError(
            "`repeat` is for training with full batches (training=True and no "
            "drop_remainder=False)."
        )
    if not repeat and (first_epoch or first_step):
        raise InputError(
            "`first_epoch` and `first_step` need repeat=True. "
            f"Received: {first_epoch} and {first_step}"
        )


def _check_service(service: str | None, repeat: bool, cache: str | Path) -> None:
    """Refuse a service for what it cannot keep in order, or could not find."""
    if service is None:
        return
    check_service(service)
    if not repeat:
        raise InputError("`service` needs repeat=True.")
    if str(cache) != "none":
        raise InputError(
            "`cache` is for reading in this process; the workers of `service` read the "
            f"data set itself. Received: cache={cache!r} and service={service!r}"
        )


def _check_sharing(
    batch_size: int,
    parts: int,
    worker: int,
    workers: int,
    repeat: bool,
    fill_last: bool,
) -> None:
    """Refuse batches that cannot be cut into parts, or shared by processes."""
    if parts != 1 and not repeat:
        raise InputError(f"`parts` need repeat=True. Received: parts={parts!r}")
    check_positive("parts", parts)
    check_positive("workers", workers)
    if not 0 <= worker < workers:
        raise InputError(
            f"`worker` must lie between 0 and {workers - 1}. Received: {worker!r}"
        )
    if batch_size % (parts * workers):
        raise InputError(
            f"`batch_size` must be a multiple of `parts` times `workers` ({parts} times "
            f"{workers}). Received: {batch_size}"
        )
    if workers > 1 and not (repeat or fill_last):
        raise InputError("`workers` need `repeat` or, in evaluation, `fill_last`.")


def _check_mixing(mixes: bool, full: bool, size: int) -> None:
    """Refuse batches in which a clip would have no neighbour to be mixed with."""
    if mixes and (not full or size % 2):
        raise InputError(
            "`mixup` and `cutmix` need full batches of an even number of clips, in each "
            f"part and each worker's share. Received: {size} clips"
            f"{'' if full else ', and drop_remainder=False'}"
        )


def _dataset_options() -> tf.data.Options:
    """Shard elements rather than files between workers."""
    options = tf.data.Options()
    policy = tf.data.experimental.AutoShardPolicy.DATA
    options.experimental_distribute.auto_shard_policy = policy
    return options


def _ordered_videos(
    paths: list[str],
    num_videos: int,
    options: ClipOptions,
    calls: int,
    multiple: int | None,
) -> tf.data.Dataset:
    """Videos in stored order, each with the JPEG files of its centre frames.

    Parsed `calls` at a time; filled up, with weights, to a multiple of a number if one is
    given.
    """

    def choose(serialized: tf.Tensor) -> Element:
        return choose_frames(parse_record(serialized), options, None)

    files = tf.data.TFRecordDataset(paths, buffer_size=read_buffer(paths[0]))
    videos = files.map(choose, num_parallel_calls=calls, deterministic=True)
    # A shard that lost records must not pass for a smaller data set.
    videos = whole(videos, num_videos)
    return videos if multiple is None else fill_up(videos, num_videos, multiple)


def _chosen(clip: Element, keys: list[str]) -> Element:
    """The entries of a clip that are needed."""
    return {key: clip[key] for key in keys}
