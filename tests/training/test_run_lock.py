"""The lock of a run's folder tells what a disk does not take."""

import pytest

from tsi_keras.training.run_lock import RunLock
from tsi_keras.utils.errors import InputError


def test_folder_that_is_not_writable(tmp_path):
    with pytest.raises(InputError, match="nowhere.* cannot be written: No such file"):
        RunLock(tmp_path / "nowhere").acquire()
