"""The output folder of a preparation: claiming it, locking it, going on with it."""

import contextlib
import fcntl
import json
import os
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import av
import simplejpeg

import tsi_keras
from tsi_keras.data.annotations import VideoEntry
from tsi_keras.data.dataset_info import FILE_NAME
from tsi_keras.data.shards import STATE_FOLDER
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import claim_output
from tsi_keras.utils.files import read_json
from tsi_keras.utils.files import write_text

MANIFEST = "manifest.json"
REPORT_JSON = "report.json"
REPORT_HTML = "report.html"


def build_manifest(
    options: Mapping[str, Any],
    entries: Sequence[VideoEntry],
    splits: Mapping[str, str],
) -> dict[str, Any]:
    """Describe all that decides the bytes of the shards.

    Args:
        options: the options of the preparation.
        entries: the videos.
        splits: split by video id.

    Returns:
        `options`, `versions` of the tools, and `videos`: by id the label, split,
        group, size in bytes and modification time in nanoseconds.
    """
    return {
        "options": dict(options),
        "versions": {
            "tsi_keras": tsi_keras.__version__,
            "av": av.__version__,
            "simplejpeg": simplejpeg.__version__,
        },
        "videos": {
            entry.id: [
                entry.label,
                splits[entry.id],
                entry.group,
                *_stamp(entry.path),
                *_part(entry),
            ]
            for entry in entries
        },
    }


def open_output(
    output: str | Path, manifest: Mapping[str, Any], *, overwrite: bool, resume: bool
) -> Path:
    """Claim the output folder for the preparation that `manifest` describes.

    Args:
        output: folder of the data set.
        manifest: see `build_manifest`.
        overwrite: remove the data set that is there.
        resume: go on with the preparation that is there.

    Returns:
        The folder, with the manifest in it and without temporary files.

    Raises:
        InputError: the folder may not be used, or holds a preparation of other
            videos or with other options.
    """
    folder = Path(output).expanduser().absolute()
    if folder.is_dir() and (overwrite or resume):
        _check_is_ours(folder)
    folder = claim_output(folder, overwrite=overwrite, resume=resume)
    try:
        state = folder / STATE_FOLDER
        state.mkdir(exist_ok=True)
        if (state / MANIFEST).exists():
            check_same(read_json(state / MANIFEST), manifest, folder, "--resume")
        else:
            write_text(state / MANIFEST, json.dumps(manifest, ensure_ascii=False))
    except OSError as error:
        raise InputError(
            f"`--output` {folder} cannot be written: {error.strerror}."
        ) from error
    return folder


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder alone; the lock goes with the process, however it ends.

    Args:
        folder: folder of the data set.

    Raises:
        InputError: another process is preparing it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InputError(
            f"`--output` {folder} is being written by another process; wait for it."
        ) from None
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of a run that was killed.

    Args:
        folder: folder of the data set, locked.
    """
    state = folder / STATE_FOLDER
    patterns = [(state, "*.tmp"), (state, "working-*"), (state, ".*.json.*")]
    patterns += [
        (folder, f".{name}.*") for name in (FILE_NAME, REPORT_JSON, REPORT_HTML)
    ]
    for place, pattern in patterns:
        for path in place.glob(pattern):
            path.unlink(missing_ok=True)


def _check_is_ours(folder: Path) -> None:
    """`--overwrite` and `--resume` are for data sets; other folders are safe."""
    ours = (STATE_FOLDER, FILE_NAME, REPORT_JSON)
    if any(folder.iterdir()) and not any((folder / name).exists() for name in ours):
        raise InputError(
            f"`--output` {folder} is not empty and holds no data set of this tool; "
            "it was not touched. Choose another folder."
        )


def check_same(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    folder: Path,
    switch: str,
    *,
    changed: Collection[str] = (),
) -> None:
    """Refuse to go on with what would mix two different preparations.

    Args:
        old: the manifest in the folder.
        new: that of the job.
        folder: folder of the data set.
        switch: the option that asked for going on.
        changed: ids of videos whose files may have changed.

    Raises:
        InputError: options, versions or videos differ.
    """
    advice = "repeat the command that was stopped, or start anew with --overwrite."
    for kind, word in (("options", "option"), ("versions", "version of")):
        for name in sorted({*old.get(kind, {}), *new[kind]}):
            before, now = old.get(kind, {}).get(name), new[kind].get(name)
            if before != now:
                raise InputError(
                    f"`{switch}`: {word} `{name}` was {before!r} in {folder} and is "
                    f"{now!r} now; {advice}"
                )
    change = _first_change(old.get("videos", {}), new["videos"], set(changed))
    if change:
        raise InputError(
            f"`{switch}`: the input is not the same as in {folder}: {change}; {advice}"
        )


def _first_change(
    before: Mapping[str, Any], now: Mapping[str, Any], changed: Collection[str]
) -> str | None:
    """Name one difference between two lists of videos."""
    for identifier in sorted(now.keys() - before.keys()):
        return f"video {identifier!r} was added"
    for identifier in sorted(before.keys() - now.keys()):
        return f"video {identifier!r} disappeared"
    for identifier in sorted(now):
        kept = 3 if identifier in changed else None  # label, split, group
        if before[identifier][:kept] != now[identifier][:kept]:
            return f"video {identifier!r} changed"
    return None


def _part(entry: VideoEntry) -> list[Any]:
    """What of the file is used and how it is read, where that is not all of a video."""
    part = [entry.start, entry.end, entry.start_frame, entry.end_frame]
    part += [entry.frames and list(astuple(entry.frames))]
    return part if any(item is not None for item in part) else []


def _stamp(path: Path) -> tuple[int, int]:
    """Size and modification time; zeros where there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns
