"""The figures of the augmentation benchmark: what is in them, not how large they are."""

import pytest

from tsi_keras.data import benchmark_augmentation as benchmark
from tsi_keras.data.benchmark_records import BenchmarkRecords
from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.utils.errors import InputError


def test_rows_compare_with_the_plain_crop(monkeypatch):
    few = ("multi-scale crop", "flip", "CutMix of every clip")
    variants = {name: benchmark.VARIANTS[name] for name in few}
    monkeypatch.setattr(benchmark, "VARIANTS", variants)
    records = BenchmarkRecords(2, num_frames=8, num_shards=1)
    rows = benchmark.benchmark_augmentation(rounds=2, records=records)
    assert [row["augmentation"] for row in rows] == list(few)
    assert all(row["clips"] == 16 and row["ms_per_clip"] > 0 for row in rows)
    assert rows[0]["ratio"] == 1.0


def test_every_augmentation_is_there():
    options = list(benchmark.VARIANTS.values())
    assert options[0] == ClipOptions() and len(options) == len(set(options)) == 8
    assert sum(each.augmentation.mixes for each in options) == 2
    assert sum(bool(each.augmentation.rand_augment) for each in options) == 1
    with pytest.raises(InputError, match="`rounds`"):
        benchmark.benchmark_augmentation(rounds=0)
