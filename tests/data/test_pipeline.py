"""The input pipeline on small hand-made data sets."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.data.making_records import jpeg
from tests.data.making_records import record
from tests.data.making_records import write_dataset
from tsi_keras.data import pipeline
from tsi_keras.data.augmentation_options import Augmentation
from tsi_keras.data.autotuning import BATCHES_AHEAD
from tsi_keras.data.pipeline import ClipOptions
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.data.preprocessing import decode_frames
from tsi_keras.data.preprocessing import resize_and_center_crop
from tsi_keras.data.sampling import clip_indices
from tsi_keras.utils.errors import InputError

SMALL = ClipOptions(num_frames=4, crop_size=16, short_side=24)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Eleven videos of 2 to 22 frames in three shards."""
    lengths = [2, 3, 4, 5, 8, 9, 12, 16, 17, 20, 22]
    records = [record(video, length) for video, length in enumerate(lengths)]
    shards = [records[:4], records[4:8], records[8:]]
    return write_dataset(tmp_path_factory.mktemp("data"), shards)


def collect(dataset) -> dict[str, tuple[np.ndarray, int]]:
    """Clips and labels by video id."""
    return {
        name.decode(): (clip, int(label))
        for batch in dataset.as_numpy_iterator()
        for clip, label, name in zip(*batch, strict=True)
    }


def order(dataset) -> list[str]:
    """Ids in the order in which they come."""
    return [
        name.decode() for *_, names in dataset.as_numpy_iterator() for name in names
    ]


def train(data, options=SMALL, **kwargs):
    """A training dataset with ids."""
    defaults = {"batch_size": 2, "training": True, "with_ids": True}
    return make_dataset(data, "train", options, **(defaults | kwargs))


def evaluate(data, options=SMALL, **kwargs):
    """An evaluation dataset with ids."""
    return train(data, options, training=False, **({"batch_size": 4} | kwargs))


def test_shapes_and_types(data):
    frames, labels = make_dataset(
        data, "train", SMALL, batch_size=4, training=True
    ).element_spec
    assert frames.shape == (4, 4, 16, 16, 3) and frames.dtype == tf.uint8
    assert labels.shape == (4,) and labels.dtype == tf.int32
    frames, labels, ids = evaluate(data).element_spec
    assert frames.shape.as_list() == [None, 4, 16, 16, 3]
    assert ids.dtype == tf.string
    sizes = [len(batch[0]) for batch in evaluate(data)]
    assert sizes == [4, 4, 3]
    assert evaluate(data).cardinality() == 3
    assert train(data, batch_size=4).cardinality() == len(
        list(train(data, batch_size=4))
    )


@pytest.fixture
def parallel(monkeypatch) -> set:
    """What maps are to do at the same time on a machine of 64 cores."""
    found, dataset_map = set(), tf.data.Dataset.map

    def noted(dataset, function, num_parallel_calls=None, **options):
        found.add(num_parallel_calls)
        return dataset_map(dataset, function, num_parallel_calls, **options)

    monkeypatch.setattr(pipeline, "available_cores", lambda: 64)
    monkeypatch.setattr(tf.data.Dataset, "map", noted)
    return found


@pytest.mark.parametrize("make", [train, evaluate, lambda d: train(d, repeat=True)])
def test_nothing_is_autotuned(data, make, parallel):
    """Autotuned iterators may take a minute to end."""
    assert make(data).options().autotune.enabled is False
    assert parallel == {None, 64}


def test_few_whole_batches_are_mixed_at_the_same_time(data, parallel):
    """One per core would be gigabytes on large machines."""
    train(data, replace(SMALL, augmentation=Augmentation(mixup=0.8)))
    assert parallel == {None, 64, BATCHES_AHEAD}


def test_evaluation_keeps_the_order_and_every_video(data):
    ids = [f"v{video}" for video in range(11)]
    assert order(evaluate(data)) == ids
    assert order(evaluate(data, batch_size=64)) == ids
    assert order(evaluate(data, batch_size=4, drop_remainder=True)) == ids[:8]
    labels = {name: label for name, (_, label) in collect(evaluate(data)).items()}
    assert labels == {f"v{video}": video % 3 for video in range(11)}


@pytest.mark.parametrize("short_side", [24, 18])
def test_evaluation_is_sampling_decoding_and_preprocessing(data, short_side):
    options = ClipOptions(num_frames=8, crop_size=16, short_side=short_side)
    clips = collect(evaluate(data, options))
    for video, length in ((0, 2), (6, 12), (10, 22)):
        [indices] = clip_indices(length, 8)
        frames = decode_frames(tf.constant([jpeg(video, i) for i in indices]))
        expected = resize_and_center_crop(frames, short_side=short_side, crop_size=16)
        np.testing.assert_array_equal(clips[f"v{video}"][0], expected)


def test_training_draws_one_frame_of_each_segment(data):
    for _ in range(3):
        clips = collect(train(data, batch_size=1))
        for video, length in ((4, 8), (6, 12), (9, 20), (10, 22)):
            clip = clips[f"v{video}"][0].astype(float)
            numbers = np.rint(clip[..., 2].mean((1, 2)) / 8).astype(int)
            assert (numbers // (length // 4)).tolist() == [0, 1, 2, 3]
            assert abs(clip[..., 1].mean() - 10 * video) < 2
        short = np.rint(clips["v0"][0][..., 2].mean((1, 2)) / 8)
        assert short.tolist() == [0, 0, 1, 1]


def test_epochs_differ_in_order_and_draws(data):
    dataset = train(data, batch_size=1, deterministic=True)
    orders = [tuple(order(dataset)) for _ in range(4)]
    assert len(set(orders)) == 4
    assert {tuple(sorted(ids)) for ids in orders} == {tuple(sorted(orders[0]))}
    clips = [collect(dataset)["v10"][0].tobytes() for _ in range(4)]
    assert len(set(clips)) == 4


@pytest.mark.parametrize("flip", ["none", "swap"])
def test_equal_seeds_give_equal_batches(data, flip):
    options = ClipOptions(num_frames=4, crop_size=16, short_side=24, flip=flip)

    def epochs(seed):
        dataset = train(data, options, seed=seed, deterministic=True, batch_size=3)
        return [list(dataset.as_numpy_iterator()) for _ in range(2)]

    first, again, other = epochs(7), epochs(7), epochs(8)
    for batch, expected in zip(sum(again, []), sum(first, []), strict=True):
        for value, wanted in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(value, wanted)
    pairs = zip(sum(other, []), sum(first, []), strict=True)
    assert any((a[0] != b[0]).any() for a, b in pairs)


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_any_global_seed_will_do_and_is_left_alone(data, seed):
    tf.random.set_seed(seed)
    orders = [order(train(data, deterministic=True)) for _ in range(2)]
    assert orders[0] == orders[1]
    draws = []
    for _ in range(2):
        tf.random.set_seed(4)
        order(train(data))
        draws.append(float(tf.random.uniform(())))
    tf.random.set_seed(4)
    assert draws == [float(tf.random.uniform(()))] * 2


def test_draws_do_not_depend_on_the_order_of_reading(data):
    fixed = collect(train(data, batch_size=1, seed=3, deterministic=True))
    loose = collect(train(data, batch_size=1, seed=3, shuffle_buffer=2))
    assert fixed.keys() == loose.keys() == {f"v{video}" for video in range(11)}
    for name, (clip, label) in fixed.items():
        np.testing.assert_array_equal(loose[name][0], clip)
        assert loose[name][1] == label


def test_repeated_epochs_depend_on_seed_and_number_only(data):
    arguments = {"batch_size": 4, "seed": 5, "deterministic": True, "repeat": True}
    repeated = train(data, **arguments)
    assert repeated.cardinality() in (
        tf.data.INFINITE_CARDINALITY,
        tf.data.UNKNOWN_CARDINALITY,
    )
    expected = order(repeated.take(6))
    assert order(repeated.take(6)) == expected  # iterators that were never read
    for start in range(0, 24, 8):  # two batches of four in an epoch of eleven
        assert len(set(expected[start : start + 8])) == 8
    assert len({tuple(expected[start : start + 8]) for start in (0, 8, 16)}) == 3
    assert order(train(data, first_epoch=1, **arguments).take(4)) == expected[8:]
    middle = train(data, first_epoch=1, first_step=1, **arguments)
    assert order(middle.take(3)) == expected[12:]
    assert order(train(data, **{**arguments, "seed": 6}).take(6)) != expected


def test_resumed_epochs_have_the_same_clips(data):
    arguments = {"batch_size": 4, "seed": 5, "deterministic": True, "repeat": True}
    whole = list(train(data, **arguments).take(5).as_numpy_iterator())
    rest = train(data, first_epoch=1, first_step=1, **arguments)
    for batch, expected in zip(
        rest.take(2).as_numpy_iterator(), whole[3:], strict=True
    ):
        for value, wanted in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(value, wanted)


@pytest.mark.parametrize(
    "arguments",
    [
        {"repeat": True, "drop_remainder": False},
        {"first_epoch": 1},
        {"first_step": 1},
    ],
)
def test_impossible_repetitions(data, arguments):
    with pytest.raises(InputError, match="repeat"):
        train(data, **arguments)


def test_parts_are_the_batches_cut(data):
    """Epochs end after whole batches, and may begin within one."""
    arguments = {"batch_size": 4, "seed": 5, "deterministic": True, "repeat": True}
    whole = order(train(data, **arguments).take(4))
    parts = train(data, **arguments, parts=2)
    assert parts.element_spec[0].shape[0] == 2
    assert order(parts.take(8)) == whole
    rest = train(data, **arguments, parts=2, first_step=3)
    assert order(rest.take(5)) == whole[6:]
    shares = [
        train(data, **arguments, parts=2, first_step=3, worker=worker, workers=2)
        for worker in range(2)
    ]
    one, other = (order(share.take(5)) for share in shares)
    assert [one, other] == [whole[6::2], whole[7::2]]


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_share_every_batch(data, workers):
    """Reading in any order must not make them share different batches."""
    arguments = {"batch_size": 4, "seed": 5, "repeat": True, "first_step": 1}
    whole = train(data, **arguments, deterministic=True).take(4)
    shares = [
        train(data, **arguments, worker=worker, workers=workers).take(4)
        for worker in range(workers)
    ]
    shares = [list(share.as_numpy_iterator()) for share in shares]
    for step, batch in enumerate(whole.as_numpy_iterator()):
        ids = [name for share in shares for name in share[step][2]]
        clips = {
            name: clip
            for share in shares
            for clip, _, name in zip(*share[step], strict=True)
        }
        assert all(len(share[step][2]) == 4 // workers for share in shares)
        assert sorted(ids) == sorted(batch[2])
        for clip, name in zip(batch[0], batch[2], strict=True):
            np.testing.assert_array_equal(clips[name], clip)


def test_a_worker_decodes_only_its_share(tmp_path):
    """A JPEG that cannot be decoded concerns one worker only."""
    records = [record(video, 5, spoilt=video == 2) for video in range(4)]
    folder = write_dataset(tmp_path, [records])
    arguments = {"batch_size": 4, "fill_last": True, "workers": 2}
    evaluate(folder, worker=0, **arguments).unbatch().as_numpy_iterator().next()
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(evaluate(folder, worker=1, **arguments))


@pytest.mark.parametrize("batch_size", [1, 4, 11, 12, 40])
def test_filled_batches_have_every_video_once(data, batch_size):
    dataset = evaluate(data, batch_size=batch_size, fill_last=True)
    assert dataset.element_spec[0].shape[0] == batch_size
    batches = list(dataset.as_numpy_iterator())
    assert len(batches) == dataset.cardinality() == -(-11 // batch_size)
    weights = np.concatenate([batch[2] for batch in batches])
    names = np.concatenate([batch[3] for batch in batches])
    assert weights.dtype == np.float32 and weights.tolist() == [1] * 11 + [0] * (
        len(batches) * batch_size - 11
    )
    assert [name.decode() for name in names[:11]] == [
        f"v{video}" for video in range(11)
    ]
    plain, filled = collect(evaluate(data)), {}
    for clips, labels, _, ids in batches:
        for clip, label, name in zip(clips, labels, ids, strict=True):
            filled[name.decode()] = clip, label
    for name, (clip, label) in plain.items():
        np.testing.assert_array_equal(filled[name][0], clip)
        assert filled[name][1] == label


def test_workers_share_filled_batches(data):
    whole = evaluate(data, batch_size=6, fill_last=True)
    shares = [
        evaluate(data, batch_size=6, fill_last=True, worker=worker, workers=3)
        for worker in range(3)
    ]
    for batch, *parts in zip(whole, *shares, strict=True):
        for position, value in enumerate(batch):
            joined = np.concatenate([part[position].numpy() for part in parts])
            np.testing.assert_array_equal(joined, value)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"fill_last": True}, "`fill_last` is for evaluation"),
        ({"workers": 2}, "`workers` need `repeat`"),
        ({"workers": 2, "training": False}, "`workers` need `repeat`"),
        ({"workers": 0}, "`workers`.*Received: 0"),
        ({"workers": 2, "worker": 2, "repeat": True}, "between 0 and 1. Received: 2"),
        ({"workers": 2, "batch_size": 3, "repeat": True}, "multiple .*2.*Received: 3"),
        ({"parts": 2}, "`parts` need repeat=True"),
        ({"parts": 2, "batch_size": 3, "repeat": True}, "multiple .*2.*Received: 3"),
        ({"parts": 0, "repeat": True}, "`parts`.*Received: 0"),
    ],
)
def test_impossible_shares(data, arguments, message):
    with pytest.raises(InputError, match=message):
        train(data, **arguments)


class Recorder(keras.Model):
    """A model that notes which clips it is trained on."""

    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(3)
        self.seen = []

    def build(self, input_shape):
        self.head.build((None, 3))

    def call(self, frames):
        return self.head(keras.ops.mean(keras.ops.cast(frames, "float32"), (1, 2, 3)))

    def train_step(self, data):
        self.seen.append(data[0].numpy())
        return super().train_step(data)


def test_each_epoch_of_fit_gets_the_next_draws(data):
    arguments = {"batch_size": 4, "seed": 2, "deterministic": True, "with_ids": False}
    dataset = train(data, **arguments)
    expected = [clips for _ in range(3) for clips, _ in dataset.as_numpy_iterator()]
    model = Recorder()
    model.build((None, 4, 16, 16, 3))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, run_eagerly=True)
    model.fit(train(data, **arguments), epochs=3, verbose=0)
    assert len(model.seen) == len(expected) == 6
    for seen, clips in zip(model.seen, expected, strict=True):
        np.testing.assert_array_equal(seen, clips)


def test_distributed_batches_are_the_same_clips(data):
    arguments = {"batch_size": 4, "seed": 2, "deterministic": True}
    dataset = train(data, **arguments)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    distributed = strategy.experimental_distribute_dataset(train(data, **arguments))
    for _ in range(2):
        for one, parts in zip(dataset, distributed, strict=True):
            for value, part in zip(one, parts, strict=True):
                replicas = strategy.experimental_local_results(part)
                assert len(replicas) == 2
                np.testing.assert_array_equal(np.concatenate(replicas), value)


def test_distributed_evaluation_sees_every_video(data):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    distributed = strategy.experimental_distribute_dataset(evaluate(data))
    ids = [
        name.decode()
        for *_, names in distributed
        for part in strategy.experimental_local_results(names)
        for name in part.numpy()
    ]
    assert ids == [f"v{video}" for video in range(11)]


def mirrored_and_labels(data, flip: str) -> dict[int, Counter]:
    """For each true class: how often (mirrored, label) came in 12 epochs."""
    options = ClipOptions(num_frames=2, crop_size=16, short_side=24, flip=flip)
    dataset = train(data, options, batch_size=1, repeat=True).take(12 * 11)
    counts = {label: Counter() for label in range(3)}
    for (clip,), (label,), (name,) in dataset.as_numpy_iterator():
        red = clip[..., 0].astype(int)
        mirrored = red[:, :, 0].mean() > red[:, :, -1].mean()
        # One flip for all frames of the clip.
        assert ((red[:, :, 0] > red[:, :, -1]) == mirrored).all()
        counts[int(name[1:]) % 3][bool(mirrored), int(label)] += 1
    return counts


def test_flip_none_keeps_clips_and_labels(data):
    counts = mirrored_and_labels(data, "none")
    assert all(set(counts[label]) == {(False, label)} for label in range(3))


def test_flip_swap_exchanges_left_and_right(data):
    counts = mirrored_and_labels(data, "swap")
    assert set(counts[0]) == {(False, 0), (True, 0)}
    assert set(counts[1]) == {(False, 1), (True, 2)}
    assert set(counts[2]) == {(False, 2), (True, 1)}


def test_flip_all_keeps_labels(data):
    counts = mirrored_and_labels(data, "all")
    assert all(
        set(counts[label]) == {(False, label), (True, label)} for label in range(3)
    )


@pytest.mark.parametrize("training", [True, False])
def test_damaged_jpeg_stops_the_run(tmp_path, training):
    records = [record(0, 5), record(1, 5, spoilt=True), record(2, 5)]
    dataset = train(write_dataset(tmp_path, [records]), training=training, batch_size=1)
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(dataset)


@pytest.mark.parametrize("training", [True, False])
def test_damaged_shard_stops_the_run(tmp_path, training):
    write_dataset(tmp_path, [[record(0, 5), record(1, 5)]])
    shard = next(tmp_path.glob("*.tfrecord"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 4] ^= 255
    shard.write_bytes(bytes(content))
    with pytest.raises(tf.errors.DataLossError):
        list(train(tmp_path, training=training, batch_size=1))


@pytest.mark.parametrize("training", [True, False])
def test_lost_records_stop_the_run(tmp_path, training):
    write_dataset(tmp_path, [[record(0, 5), record(1, 5)]], num_videos=3)
    with pytest.raises(
        tf.errors.FailedPreconditionError, match="expected to contain 3"
    ):
        list(train(tmp_path, training=training, batch_size=1))


def test_lost_records_stop_a_filled_evaluation(tmp_path):
    for stored in (2, 4):
        folder = tmp_path / str(stored)
        folder.mkdir()
        records = [record(video, 5) for video in range(stored)]
        write_dataset(folder, [records], num_videos=3)
        with pytest.raises(tf.errors.FailedPreconditionError, match="contain 3"):
            list(evaluate(folder, batch_size=3, fill_last=True))


def test_lost_records_stop_a_repeated_run(tmp_path):
    write_dataset(tmp_path, [[record(0, 5), record(1, 5)]], num_videos=3)
    with pytest.raises(
        tf.errors.FailedPreconditionError, match="expected to contain 3"
    ):
        list(train(tmp_path, repeat=True, batch_size=1).take(9))


def test_record_without_frames_stops_the_run(tmp_path):
    write_dataset(tmp_path, [[record(0, 0)]])
    for training in (True, False):
        with pytest.raises(tf.errors.InvalidArgumentError):
            list(train(tmp_path, training=training, batch_size=1))


def test_missing_folder_split_and_shard_are_named(tmp_path, data):
    with pytest.raises(InputError, match="is not a folder"):
        evaluate(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"\['train'\].*'val'"):
        make_dataset(data, "val", SMALL, batch_size=1, training=False)
    folder = write_dataset(tmp_path, [[record(0, 3)], [record(1, 3)]])
    (folder / "train-00001-of-00002.tfrecord").unlink()
    with pytest.raises(InputError, match="train-00001-of-00002.tfrecord"):
        evaluate(folder)


def test_split_smaller_than_a_batch(data, tmp_path):
    with pytest.raises(InputError, match="11 videos, fewer than one batch of 12"):
        train(data, batch_size=12)
    assert len(order(train(data, batch_size=12, drop_remainder=False))) == 11
    assert len(order(evaluate(data, batch_size=12))) == 11
    with pytest.raises(InputError, match="no videos"):
        evaluate(write_dataset(tmp_path, [[]]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 0}, "`num_frames`.*Received: 0"),
        ({"num_frames": 2.5}, "`num_frames`.*Received: 2.5"),
        ({"crop_size": 257}, "`crop_size` must not exceed.*257"),
        ({"crop_size": 0}, "`crop_size`.*Received: 0"),
        ({"short_side": -1}, "`short_side`.*Received: -1"),
        ({"flip": "left"}, "`flip` must be one of.*'left'"),
        ({"scales": ()}, "`scales`.*Received"),
        ({"scales": [1.0, 1.1]}, "`scales`.*1.1"),
    ],
)
def test_impossible_options(arguments, message):
    with pytest.raises(InputError, match=message):
        ClipOptions(**arguments)


@pytest.mark.parametrize("argument", ["batch_size", "shuffle_buffer"])
def test_impossible_counts(data, argument):
    with pytest.raises(InputError, match=f"`{argument}`.*Received: 0"):
        train(data, **{argument: 0})
