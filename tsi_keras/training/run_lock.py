"""One training at a time in the folder of a run."""

from tsi_keras.training.whole_files import explained_disk_errors
from tsi_keras.utils.folder_lock import FolderLock


class RunLock(FolderLock):
    """A `FolderLock` on a run's folder, which says how to go on when a disk is full.

    Args:
        folder: the run's. Nothing is touched before `acquire`.

    Example:
        ```python
        with RunLock("runs/demo") as lock:
            lock.acquire()
        ```
    """

    def acquire(self) -> None:
        """Take the lock, once; the folder must exist.

        Raises:
            InputError: another process has it, or the disk does not take the file.
        """
        with explained_disk_errors(self.path.parent):
            super().acquire()
