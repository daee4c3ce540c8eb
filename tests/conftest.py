"""What all tests share: two logical CPU devices, real clips, the `slow` marker."""

import gc
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("JAX_ENABLE_X64", "1")  # the references are float64
# Several processes test at the same time, and most of JAX's time is compiling.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import keras  # noqa: E402
import pytest  # noqa: E402

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # MirroredStrategy is tested on two logical CPU devices; they must be made before
    # TensorFlow starts.
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_finish():
    """Garbage is looked for less often, and not among what was imported: 10 % of time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture
def repository() -> Path:
    """The root of the checkout, from which `python -m pipelines.X` runs."""
    return REPOSITORY


@pytest.fixture
def real_videos() -> Path:
    """Folder of real clips named by TSI_REAL_VIDEOS; the test is skipped without it."""
    folder = os.environ.get("TSI_REAL_VIDEOS")
    if not folder or not Path(folder).is_dir():
        pytest.skip("TSI_REAL_VIDEOS names no folder of real clips")
    return Path(folder)


@pytest.fixture(autouse=True)
def fixed_seed():
    """Every test starts from the same random state."""
    keras.utils.set_random_seed(0)
