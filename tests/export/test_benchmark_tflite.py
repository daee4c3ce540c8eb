"""The benchmark of TFLite files; no time is asserted, only what is measured."""

import pytest

from pipelines._command import run
from pipelines.benchmark import main
from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.export.benchmark_tflite import NETWORKS
from tsi_keras.export.benchmark_tflite import benchmark_tflite
from tsi_keras.utils.errors import InputError

SMALL = ClipOptions(num_frames=4, crop_size=64, short_side=72)


def test_every_network_and_number_of_threads_is_measured():
    rows = benchmark_tflite(
        2, (1, 2), networks=NETWORKS[:2], clips=SMALL, depth=14, base_width=16
    )
    assert [(row["threads"], row["network"]) for row in rows] == [
        (1, "TSN"),
        (1, "TSI, softmax"),
        (2, "TSN"),
        (2, "TSI, softmax"),
    ]
    for row in rows:
        assert row["ms"] > 0 and row["cpu_ms"] > 0 and row["clips"] == 2
        assert row["difference"] < 0.02 and row["megabytes"] > 0.1
    assert rows[0]["ratio"] == rows[2]["cpu_ratio"] == 1


@pytest.mark.parametrize("arguments", [{"rounds": 0}, {"threads": (0,)}])
def test_impossible_numbers(arguments):
    with pytest.raises(InputError, match="Received"):
        benchmark_tflite(**arguments)


def test_unknown_kind_is_status_2(capsys):
    assert run(main, ["tflite", "--kind", "int4"]) == 2
    assert "int4" in capsys.readouterr().err
