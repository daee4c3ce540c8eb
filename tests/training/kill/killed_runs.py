"""Trainings in processes of their own that are killed at random moments."""

import csv
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tsi_keras.models import load_classifier
from tsi_keras.utils.files import file_sha256

RECIPE = """
model: {temporal: none, depth: 18, base_width: 4, num_frames: 2}
data: {crop_size: 32, short_side: 36}
train:
  epochs: 5
  batch_size: 2
  milestones: []
  schedule: cosine
  warmup_epochs: 1.5
  checkpoint_minutes: 0
  deterministic: true
"""
TIMING = ("clips_per_second", "data_wait", "seconds")


class Training:
    """One `python -m pipelines.train` after the other with the same output folder.

    Args:
        data: a prepared data set.
        output: the run's folder.
        repository: where the commands start.
    """

    def __init__(self, data: Path, output: Path, repository: Path):
        self.output = output
        self.repository = repository
        output.parent.mkdir(exist_ok=True)
        recipe = output.parent / "recipe.yaml"
        recipe.write_text(RECIPE)
        arguments = ["--config", recipe, "--data", data, "--output", output]
        module = ["-m", "pipelines.train", "--resume"]
        self._command = [sys.executable, *module, *map(str, arguments)]

    def finish(self) -> None:
        """Train to the end."""
        subprocess.run(
            self._command,
            cwd=self.repository,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=300,
        )

    def kill_after(self, states: int, jitter: float) -> tuple[str, ...]:
        """Kill the process when it has saved some states, and a while after.

        Args:
            states: how many to wait for.
            jitter: how long to wait then, as a share of the time between two states.

        Returns:
            What the process was in the midst of writing.
        """
        with self._start() as process:
            seen, times = {self._state()}, []
            while len(times) < states:
                assert process.poll() is None, "the training ended before it was killed"
                if (state := self._state()) not in seen:
                    seen.add(state)
                    times.append(time.monotonic())
                time.sleep(0.0005)
            pace = (times[-1] - times[0]) / max(1, states - 1)
            time.sleep(jitter * pace)
            return self._kill(process)

    def kill_at(self, seconds: float) -> tuple[str, ...]:
        """Kill the process so long after its start."""
        with self._start() as process:
            time.sleep(seconds)
            return self._kill(process)

    def _start(self) -> subprocess.Popen:
        return subprocess.Popen(
            self._command, cwd=self.repository, stdout=subprocess.DEVNULL
        )

    def _state(self) -> str:
        """The newest state's name."""
        names = [path.name for path in self.output.glob("backup/epoch-*")]
        return max(names, default="")

    def _kill(self, process: subprocess.Popen) -> tuple[str, ...]:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        return tuple(sorted(path.name for path in self.output.rglob(".*")))


def check_same(found: Path, expected: Path) -> None:
    """Two runs have the same models to the bit, the same log and the same files."""
    for name in ("last", "best"):
        weights = [
            load_classifier(run / f"{name}.keras").get_weights()
            for run in (found, expected)
        ]
        for one, other in zip(*weights, strict=True):
            np.testing.assert_array_equal(one, other)
        facts = _facts(found, name), _facts(expected, name)
        assert facts[0] == facts[1], facts
    rows = _rows(found), _rows(expected)
    assert rows[0] == rows[1], rows
    names = [sorted(path.name for path in run.iterdir()) for run in (found, expected)]
    assert names[0] == names[1]


def _facts(run: Path, name: str) -> dict:
    """What is said of a model, but for its date, which the hash depends on."""
    facts = json.loads((run / f"{name}.json").read_text())
    assert facts.pop("sha256") == file_sha256(run / f"{name}.keras")
    return facts


def _rows(run: Path) -> list[dict[str, str]]:
    """The log without the columns that measure time."""
    with (run / "log.csv").open() as file:
        return [
            {key: value for key, value in row.items() if key not in TIMING}
            for row in csv.DictReader(file)
        ]


def random_moments(kills: int, rng: random.Random) -> list[tuple[int, float]]:
    """Arguments for `kill_after` that leave something to do after the last kill."""
    # 5 epochs of 6 steps; half of them for the time between a look and a kill.
    most = 5 * 6 // 2 // kills
    return [(rng.randint(1, most), rng.uniform(0, 2)) for _ in range(kills)]
