"""The order of the training videos: any epoch, from its number alone."""

from dataclasses import dataclass

import tensorflow as tf

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.clips import Element
from tsi_keras.data.clips import choose_frames
from tsi_keras.data.clips import clip_seed
from tsi_keras.data.clips import epoch_number
from tsi_keras.data.records import parse_record
from tsi_keras.data.records import read_buffer

# Shards read at the same time in training.
_PARALLEL_SHARDS = 8


def whole(videos: tf.data.Dataset, num_videos: int) -> tf.data.Dataset:
    """The same videos; an error at the end if they were more or fewer."""
    return videos.apply(tf.data.experimental.assert_cardinality(num_videos))


@dataclass(frozen=True)
class Shuffle:
    """The videos of a split in the order of any epoch.

    Attributes:
        paths: the shards.
        num_videos: in all of them.
        options: of the clips.
        buffer: videos to draw the next one from.
        deterministic: whether shards are read in a reproducible order.
        calls: records to parse at the same time; may be `AUTOTUNE`.
    """

    paths: list[str]
    num_videos: int
    options: ClipOptions
    buffer: int
    deterministic: bool
    calls: int

    def videos(self, number: tf.Tensor) -> tf.data.Dataset:
        """Every video once, with the JPEG files of random frames.

        The frames are chosen before the shuffle, which thus holds no others.

        Args:
            number: int64 below 2**32 that stands for the epoch.
        """

        def choose(serialized: tf.Tensor) -> Element:
            record = parse_record(serialized)
            seed = clip_seed(number, record["id"])
            return choose_frames(record, self.options, seed)

        videos = self.records(number).map(
            choose,
            num_parallel_calls=self.calls,
            deterministic=self.deterministic,
        )
        buffer = min(self.buffer, self.num_videos)
        videos = videos.shuffle(buffer, seed=number, reshuffle_each_iteration=False)
        return whole(videos, self.num_videos)

    def records(self, number: tf.Tensor) -> tf.data.Dataset:
        """Serialized records from the shuffled shards, several read at a time.

        Args:
            number: as for `videos`.
        """
        if not tf.executing_eagerly():
            # Holds for this graph only. Under a global seed of 0 TensorFlow would
            # compare `number` with 0 in Python, which a symbolic tensor does not allow.
            tf.random.set_seed(1)
        count = len(self.paths)
        shards = tf.data.Dataset.from_tensor_slices(self.paths)
        shards = shards.shuffle(count, seed=number, reshuffle_each_iteration=False)
        buffer = read_buffer(self.paths[0])
        return shards.interleave(
            lambda path: tf.data.TFRecordDataset(path, buffer_size=buffer),
            cycle_length=min(count, _PARALLEL_SHARDS),
            num_parallel_calls=min(count, _PARALLEL_SHARDS),
            deterministic=self.deterministic,
        )


def next_epoch(shuffle: Shuffle, seed: int, *_) -> tf.data.Dataset:
    """One epoch, another one each time the dataset is iterated."""
    numbers = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
    # The detour opens `numbers` when the first element is asked for: Keras makes
    # iterators that it never reads from, and those must not use up an epoch.
    first = tf.data.Dataset.range(1).flat_map(lambda _: numbers.take(1))
    return whole(first.flat_map(shuffle.videos), shuffle.num_videos)


def repeated_epochs(
    shuffle: Shuffle, seed: int, batch_size: int, first_epoch: int, skipped: int
) -> tf.data.Dataset:
    """Epochs for ever, each a function of `seed` and its number alone.

    Each ends with a full batch; of the first one `skipped` videos are left out.
    """

    def epoch_videos(epoch: tf.Tensor) -> tf.data.Dataset:
        videos = shuffle.videos(epoch_number(seed, epoch))
        # Batches read to the end, where a lost record is noticed, and call no function
        # for every video.
        full = videos.batch(batch_size, drop_remainder=True).unbatch()
        skip = tf.where(epoch == first_epoch, tf.constant(skipped, tf.int64), 0)
        return full.skip(skip)

    return tf.data.Dataset.counter(first_epoch).flat_map(epoch_videos)


def fill_up(videos: tf.data.Dataset, num_videos: int, size: int) -> tf.data.Dataset:
    """Repeat videos until their number is a multiple of `size`.

    Each gets a `weight`: 1, and 0 for the repetitions.
    """

    def weighted(weight: float) -> tf.data.Dataset:
        return videos.map(lambda video: video | {"weight": tf.constant(weight)})

    repetitions = weighted(0.0).repeat().take(-num_videos % size)
    return weighted(1.0).concatenate(repetitions)


def own_share(
    videos: tf.data.Dataset, size: int, worker: int, workers: int
) -> tf.data.Dataset:
    """Of each `size` videos those that one of `workers` processes decodes."""
    if workers == 1:
        return videos
    share = size // workers
    return (
        videos.enumerate()
        .filter(lambda index, _: tf.equal(index % size // share, worker))
        .map(lambda _, video: video)
    )
