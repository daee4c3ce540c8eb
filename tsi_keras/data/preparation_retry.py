"""The output folder of a job: new, gone on with, or with its failures tried again."""

import contextlib
import json
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tsi_keras.data.dataset_info import FILE_NAME
from tsi_keras.data.preparation_job import Job
from tsi_keras.data.preparation_report import last_failures
from tsi_keras.data.preparation_state import MANIFEST
from tsi_keras.data.preparation_state import build_manifest
from tsi_keras.data.preparation_state import check_same
from tsi_keras.data.preparation_state import locked
from tsi_keras.data.preparation_state import open_output
from tsi_keras.data.shards import STATE_FOLDER
from tsi_keras.data.shards import finished_shard
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import read_json
from tsi_keras.utils.files import write_text

_Claim = tuple[Job, Path, list[list[str]]]


@contextlib.contextmanager
def claimed(
    job: Job,
    output: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    retry_failed: bool = False,
) -> Iterator[_Claim]:
    """Hold the output folder of a job alone.

    Args:
        job: what is to be done.
        output: folder of the data set.
        overwrite: remove the data set that is there.
        resume: go on with the preparation that is there.
        retry_failed: try the videos that failed there again.

    Yields:
        The job, with the splits that were chosen when the folder was first used; the
        folder; and the ids of each later attempt, for `Job.tasks`.

    Raises:
        InputError: the folder may not be used, holds something else, or is being
            written by another process.
    """
    if retry_failed and (overwrite or resume):
        raise InputError(
            "`--retry-failed` goes with neither --resume nor --overwrite; give one."
        )
    if retry_failed:
        folder = Path(output).expanduser().absolute()
        _check_existing(folder)
        with locked(folder):
            yield _start_retry(job, folder)
        return
    job, retries = _as_before(job, output) if resume else (job, [])
    manifest = build_manifest(job.options, job.found.entries, job.splits)
    folder = open_output(output, manifest, overwrite=overwrite, resume=resume)
    with locked(folder):
        yield job, folder, retries


def _check_existing(folder: Path) -> None:
    """Refuse a folder without a preparation."""
    if not (folder / STATE_FOLDER / MANIFEST).is_file():
        raise InputError(
            f"`--retry-failed`: {folder} holds no preparation whose failures could be "
            "tried again; give the --output of an earlier run."
        )


def _as_before(job: Job, output: str | Path) -> tuple[Job, list[list[str]]]:
    """The job with the splits and later attempts of the folder's manifest.

    Splits keep files of equal contents together, so they may change with the files
    that were replaced for a later attempt.
    """
    path = Path(output).expanduser().absolute() / STATE_FOLDER / MANIFEST
    manifest = read_json(path) if path.is_file() else {}
    retries = manifest.get("retries", [])
    return (_with_splits(job, manifest) if retries else job), retries


def _with_splits(job: Job, manifest: Mapping[str, Any]) -> Job:
    """The job with the splits of a manifest."""
    before = manifest.get("videos", {})
    splits = {
        name: before[name][1] if name in before else split
        for name, split in job.splits.items()
    }
    return replace(job, splits=splits)


def _start_retry(job: Job, folder: Path) -> _Claim:
    """Note in the manifest which videos are tried again, before any work."""
    path = folder / STATE_FOLDER / MANIFEST
    before = read_json(path)
    job = _with_splits(job, before)
    now = build_manifest(job.options, job.found.entries, job.splits)
    retries = before.get("retries", [])
    failed = _failed(job, folder, retries, before)
    check_same(before, now, folder, "--retry-failed", changed=failed)
    retries = [*retries, failed]
    text = json.dumps(now | {"retries": retries}, ensure_ascii=False)
    # Until the new shards are there, the data set is not whole.
    (folder / FILE_NAME).unlink(missing_ok=True)
    write_text(path, text)
    return job, folder, retries


def _failed(
    job: Job, folder: Path, retries: list[list[str]], before: Mapping[str, Any]
) -> list[str]:
    """Ids of the videos that failed so far, from a preparation that is finished."""
    missing = before.get("videos", {}).keys() - job.splits.keys()
    if missing:
        raise InputError(
            f"`--retry-failed`: the input is not the same as in {folder}: video "
            f"{min(missing)!r} disappeared; repeat the command with the same input."
        )
    sidecars = [finished_shard(task, folder) for task in job.tasks(retries)]
    if any(sidecar is None for sidecar in sidecars):
        raise InputError(
            f"`--retry-failed`: the preparation in {folder} is not finished; finish it "
            "with --resume first."
        )
    failed = [failure.id for failure in last_failures(sidecars)]
    if not failed:
        raise InputError(f"`--retry-failed`: no video of {folder} failed.")
    return failed
