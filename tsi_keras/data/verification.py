"""A check-up of a finished data set: is it whole, and is it what it says?"""

import tempfile
from collections import Counter
from dataclasses import asdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tsi_keras
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.remote import RemotePath
from tsi_keras.data.remote import check_writable
from tsi_keras.data.remote import to_path
from tsi_keras.data.remote import upload
from tsi_keras.data.shard_reading import ShardFacts
from tsi_keras.data.shard_reading import read_shard
from tsi_keras.data.verification_checks import ERROR
from tsi_keras.data.verification_checks import WARNING
from tsi_keras.data.verification_checks import Finding
from tsi_keras.data.verification_checks import ReadData
from tsi_keras.data.verification_checks import findings
from tsi_keras.data.worker_processes import chosen_workers
from tsi_keras.data.worker_processes import run_in_processes
from tsi_keras.utils.console import progress
from tsi_keras.utils.files import write_json
from tsi_keras.utils.urls import is_remote

VERIFICATION_JSON = "verification.json"
_LISTED = 1000  # findings of one kind that are kept; the rest is counted


@dataclass
class Verification:
    """What came of a check-up.

    Attributes:
        folder: folder of the data set, a `Path` or a `RemotePath`.
        num_shards: shards read.
        num_videos: records read.
        counts: videos by split and class, as found.
        frame_histogram: number of videos by their number of stored frames.
        findings: at most 1000 of each check and severity, errors first.
        found: number of findings by `(severity, check)`, all counted.
    """

    folder: Path | RemotePath
    num_shards: int
    num_videos: int
    counts: dict[str, dict[str, int]]
    frame_histogram: dict[int, int]
    findings: list[Finding]
    found: dict[tuple[str, str], int]

    def number(self, severity: str) -> int:
        """Number of findings of a severity."""
        return sum(n for (kind, _), n in self.found.items() if kind == severity)

    @property
    def is_sound(self) -> bool:
        """Whether there is no error."""
        return not self.number(ERROR)

    def to_json(self) -> dict[str, Any]:
        """Contents of `verification.json`."""
        return {
            "tool_version": tsi_keras.__version__,
            "sound": self.is_sound,
            "errors": self.number(ERROR),
            "warnings": self.number(WARNING),
            "shards": self.num_shards,
            "videos": self.num_videos,
            "found": [
                {"severity": severity, "check": check, "number": number}
                for (severity, check), number in self.found.items()
            ],
            "findings": [asdict(finding) for finding in self.findings],
            "counts": self.counts,
            "frame_histogram": self.frame_histogram,
        }


def verify(data_dir: str | Path, *, workers: int | None = None) -> Verification:
    """Read a whole data set, decode every frame, and compare with `dataset.json`.

    Writes `verification.json` into the folder and nothing else.

    Args:
        data_dir: a finished data set; on remote storage, each shard is copied here
            while it is read.
        workers: processes; `None` takes one per usable core.

    Returns:
        What was found; `is_sound` where there is no error.

    Raises:
        InputError: there is no finished data set, `workers` is below 1, or the
            storage does not answer or can only be read.
        PreparationError: a worker process died.

    Example:
        ```python
        for finding in verify("data/mine").findings:
            print(finding.severity, finding.where, finding.message)
        ```
    """
    workers = chosen_workers(workers)
    if is_remote(data_dir):
        check_writable(to_path(data_dir), "--verify")
    info = load_dataset_info(data_dir)
    shards = _read_all(info, workers)
    verification = check(info, shards)
    _write(verification)
    return verification


def _write(verification: Verification) -> None:
    """Put `verification.json` into the folder."""
    path = verification.folder / VERIFICATION_JSON
    if not is_remote(path):
        write_json(path, verification.to_json())
        return
    with tempfile.TemporaryDirectory() as folder:
        upload(write_json(Path(folder) / path.name, verification.to_json()), path)


def _read_all(info: DatasetInfo, workers: int) -> dict[str, list[ShardFacts]]:
    """Facts of all shards by split, in order."""
    names = [shard.name for split in info.splits.values() for shard in split.shards]
    with progress("shards") as bar:
        row = bar.add_task("verifying", total=len(names))
        facts = run_in_processes(
            partial(read_shard, info.folder),
            names,
            workers=workers,
            on_done=lambda done: bar.update(row, completed=done),
        )
    found = iter(facts)
    return {
        name: [next(found) for _ in split.shards] for name, split in info.splits.items()
    }


def check(info: DatasetInfo, shards: dict[str, list[ShardFacts]]) -> Verification:
    """Compare what was read with what `dataset.json` says.

    Args:
        info: the description.
        shards: facts by split, in the order of `info`.

    Returns:
        The findings.
    """
    read = ReadData(info, shards)
    found, listed = Counter(), []
    for finding in findings(read):
        kind = finding.severity, finding.check
        found[kind] += 1
        if found[kind] <= _LISTED:
            listed.append(finding)
    listed.sort(key=lambda finding: finding.severity)  # "error" before "warning"
    histogram = Counter(record.num_frames for _, record in read.videos)
    return Verification(
        folder=info.folder,
        num_shards=sum(map(len, shards.values())),
        num_videos=len(read.videos),
        counts=read.counts,
        frame_histogram=dict(sorted(histogram.items())),
        findings=listed,
        found=dict(sorted(found.items())),
    )
