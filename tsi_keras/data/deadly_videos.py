"""Videos that kill the process which decodes them, found and left out.

When a worker dies, all are ended, and any video they were at may be to blame: a worker
can also be killed from outside, or by a neighbour that took all memory. So each of these
videos is decoded once more, alone; only one that kills again is called unusable.
"""

import signal
from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tsi_keras.data.annotations import VideoEntry
from tsi_keras.data.shards import STATE_FOLDER
from tsi_keras.data.shards import PreparationError
from tsi_keras.data.shards import ShardTask
from tsi_keras.data.stored_video import RecordOptions
from tsi_keras.data.worker_processes import follow_parent
from tsi_keras.data.worker_processes import process_context
from tsi_keras.utils.console import errors

# Start of the names of the files in which workers note what they decode.
WORKING = "working-"

# Deaths at which a video may be present and yet be innocent.
_MOST_DEATHS = 3


class Suspects:
    """Looks for the culprit after each death of a worker.

    Args:
        folder: folder of the data set.
        options: how to decode and encode.
        encode: `encode_video` or a function like it, importable by name.
    """

    def __init__(
        self,
        folder: Path,
        options: RecordOptions,
        encode: Callable[..., Any],
    ):
        self._state = folder / STATE_FOLDER
        self._options = options
        self._encode = encode
        self._deaths = Counter()
        self._unusable: dict[str, str] = {}

    def without_culprits(self, task: ShardTask) -> ShardTask:
        """The same shard, with the reasons for what is to be left out."""
        found = self._unusable
        names = [entry.id for entry, _ in task.videos if entry.id in found]
        return replace(task, unusable=tuple((name, found[name]) for name in names))

    def examine(self, tasks: Sequence[ShardTask]) -> None:
        """Decode alone what was being decoded when a worker died.

        Args:
            tasks: the shards that were being written.

        Raises:
            PreparationError: it was no video, or it happens again and again to videos
                that do no harm alone.
        """
        names = self._take_notes()
        self._deaths.update(names)
        if not names or max(self._deaths[name] for name in names) > _MOST_DEATHS:
            raise PreparationError(_obituary(names))
        errors.print(
            f"a worker process died; decoding again, one by one: {', '.join(names)}",
            markup=False,
        )
        for task in tasks:
            for entry, label in task.videos:
                if entry.id in names:
                    self._try_alone(entry, label, task)

    def _take_notes(self) -> list[str]:
        """Ids of the videos the workers were at, and no trace of these workers."""
        notes = sorted(self._state.glob(f"{WORKING}*"))
        names = {note.read_text(encoding="utf-8") for note in notes}
        for path in (*notes, *self._state.glob("*.tmp")):
            path.unlink(missing_ok=True)
        return sorted(names - {""})

    def _try_alone(self, entry: VideoEntry, label: int, task: ShardTask) -> None:
        """Decode a video in a process of its own; note the reason if that dies."""
        arguments = (entry, label, task, self._options)
        process = process_context().Process(
            target=_decode, args=(self._encode, arguments)
        )
        process.start()
        process.join()
        if code := process.exitcode:
            self._unusable[entry.id] = f"it killed its worker process, {_cause(code)}"


def _decode(encode: Callable[..., Any], arguments: tuple) -> None:
    """What a process on trial does; an exception is no death."""
    follow_parent()
    with suppress(Exception):
        encode(*arguments)


def _cause(code: int) -> str:
    """An exit code in words."""
    if code > 0:
        return f"exit status {code}"
    with suppress(ValueError):
        return f"signal {-code} ({signal.Signals(-code).name})"
    return f"signal {-code}"


def _obituary(names: Sequence[str]) -> str:
    """Say that workers die, and over which videos it may have been."""
    return (
        "a worker process died (killed, out of memory or crashed)"
        + (f" while decoding one of: {', '.join(names)}" if names else "")
        + "; finished shards are kept: run again with --resume, perhaps with fewer "
        "--workers."
    )
