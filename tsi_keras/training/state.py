"""All that decides how training goes on, as one file per moment."""

import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tsi_keras.training.distribution import is_chief
from tsi_keras.training.distribution import place_of
from tsi_keras.training.whole_files import remove_unfinished
from tsi_keras.training.whole_files import whole_file
from tsi_keras.utils.errors import InputError

_NAME = re.compile(r"epoch-(\d{5,})-step-(\d{7,})\.npz")
_DAMAGE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


class SavedState(NamedTuple):
    """A state on disk.

    Attributes:
        path: the file.
        epoch: finished epochs.
        step: finished steps of the next epoch; all of them when only its validation
            is left.
    """

    path: Path
    epoch: int
    step: int


@dataclass(frozen=True)
class TrainingState:
    """Everything a run goes on from, exactly.

    Attributes:
        epoch: finished epochs.
        step: finished steps of the next epoch.
        begin: the optimizer's iterations when that epoch began.
        arrays: values of all variables, by group, position and copy; see
            `take_state`.
    """

    epoch: int
    step: int
    begin: int
    arrays: dict[str, np.ndarray]

    def is_finite(self) -> bool:
        """Whether no weight and no optimizer variable is infinite or not a number."""
        return all(
            np.isfinite(array).all()
            for name, array in self.arrays.items()
            if not name.startswith("metrics/") and array.dtype.kind == "f"
        )

    def save(self, folder: str | Path) -> SavedState:
        """Write the file, then remove those of other moments.

        Args:
            folder: for states only; it is created.

        Returns:
            Where the state is now.

        Raises:
            InputError: the disk does not take it; older states are as they were.
        """
        saved = self.place(folder)
        with whole_file(saved.path) as path:
            _write_arrays(path, {"begin": np.array(self.begin), **self.arrays})
        keep_only(saved.path)
        return saved

    def place(self, folder: str | Path) -> SavedState:
        """Where `save` writes it."""
        name = f"epoch-{self.epoch:05d}-step-{self.step:07d}.npz"
        return SavedState(Path(folder) / name, self.epoch, self.step)


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write what `np.savez` would, which leaves its archive open on a full disk."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def keep_only(target: Path) -> None:
    """Remove the other states in the folder of `target`, and unfinished files."""
    remove_unfinished(target.parent)
    for path in target.parent.iterdir():
        if path != target and _NAME.fullmatch(path.name):
            path.unlink(missing_ok=True)


def latest_state(folder: str | Path) -> SavedState | None:
    """Return the newest state in a folder; it need not exist."""
    found = [
        SavedState(path, int(match[1]), int(match[2]))
        for path in Path(folder).glob("*.npz")
        if (match := _NAME.fullmatch(path.name))
    ]
    return max(found, key=lambda state: (state.epoch, state.step), default=None)


def take_state(
    model: keras.Model, epoch: int, step: int, begin: int = 0
) -> TrainingState:
    """Copy the state of a model in training.

    That is its weights and statistics, random generators, all variables of the
    optimizer and the metrics of the epoch so far. Where the replicas of a
    `tf.distribute` strategy differ, each one's copy is kept. Of metrics under several
    workers the sum over all is kept: every worker must call this.

    Args:
        model: compiled; its optimizer is built.
        epoch: finished epochs.
        step: finished steps of the next epoch.
        begin: the optimizer's iterations when that epoch began.
    """
    arrays = {}
    several = place_of(model.distribute_strategy).workers > 1
    with model.distribute_strategy.scope():
        for name, variable in _variables(model).items():
            # Of a sum TensorFlow reads the whole, over all workers.
            whole = several and _is_partial(variable)
            copies = [variable.value] if whole else _copies(variable)
            copies = [np.asarray(copy.numpy()) for copy in copies]
            if not _is_partial(variable) and _all_equal(copies):
                copies = copies[:1]
            arrays |= {f"{name}/{index}": copy for index, copy in enumerate(copies)}
    return TrainingState(epoch, step, begin, arrays)


def load_state(saved: SavedState) -> TrainingState:
    """Read a state from disk.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with np.load(saved.path, allow_pickle=False) as file:
            arrays = dict(file)
        begin = int(arrays.pop("begin"))
    except _DAMAGE as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"The saved training state {saved.path} cannot be read: {reason}; start "
            f"anew {_new_run(saved)}."
        ) from error
    return TrainingState(saved.epoch, saved.step, begin, arrays)


def _new_run(saved: SavedState) -> str:
    """How to start anew without losing all, as part of a sentence."""
    model = saved.path.parent.parent / "last.keras"
    if not model.is_file():
        return "with --overwrite"
    return (
        f"in another --output with --model.weights={model} (the last finished epoch but "
        "for the head), or from nothing with --overwrite"
    )


def restore_state(model: keras.Model, state: TrainingState) -> None:
    """Give a model's variables the values they had; see `take_state`.

    Metrics that Keras has not built yet are left out.

    Args:
        model: compiled as the saved one was.
        state: from `load_state`.

    Raises:
        InputError: the state is that of another network or optimizer.
    """
    with model.distribute_strategy.scope():
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        variables = _variables(model)
        saved = _grouped(state.arrays)
        _check_same(variables, saved)
        for name, variable in variables.items():
            _assign(variable, saved[name])


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    """All variables of a model in training by group and position.

    (Names are counted per process and may differ in the next.)
    """
    groups = {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }
    return {
        f"{group}/{index:05d}": variable
        for group, variables in groups.items()
        for index, variable in enumerate(variables)
    }


def _copies(variable: keras.Variable) -> Sequence[tf.Variable]:
    """The copies that the replicas hold; without a strategy the variable itself."""
    value = variable.value
    return tf.distribute.get_strategy().experimental_local_results(value)


def _is_partial(variable: keras.Variable) -> bool:
    """Whether every replica holds its own part of a sum, as metrics do."""
    return variable.synchronization == "on_read"


def _all_equal(copies: list[np.ndarray]) -> bool:
    """Whether all copies hold the same bytes."""
    return all(copy.tobytes() == copies[0].tobytes() for copy in copies[1:])


def _grouped(arrays: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """The copies of every variable, in order."""
    grouped: dict[str, list[np.ndarray]] = {}
    for name in sorted(arrays, key=_position):
        grouped.setdefault(name.rpartition("/")[0], []).append(arrays[name])
    return grouped


def _position(name: str) -> tuple[str, int]:
    """Sorts the tenth copy after the ninth."""
    variable, _, copy = name.rpartition("/")
    return variable, int(copy)


def _check_same(
    variables: dict[str, keras.Variable], saved: dict[str, list[np.ndarray]]
) -> None:
    """Refuse values that belong to other variables."""
    here = {name: f"{tuple(v.shape)} {v.dtype}" for name, v in variables.items()}
    there = {
        name: f"{copies[0].shape} {copies[0].dtype}"
        for name, copies in saved.items()
        if name in here or not name.startswith("metrics/")
    }
    wrong = sorted(name for name in here | there if here.get(name) != there.get(name))
    if wrong:
        raise InputError(
            f"The saved training state does not fit this network: {len(wrong)} "
            f"variables differ, first {wrong[0]} ({there.get(wrong[0], 'none')} saved, "
            f"{here.get(wrong[0], 'none')} here); start anew with --overwrite."
        )


def _assign(variable: keras.Variable, saved: list[np.ndarray]) -> None:
    """Give every replica its copy again, or what fits a new number of replicas."""
    copies = _copies(variable)
    if _is_partial(variable) and not is_chief(tf.distribute.get_strategy()):
        saved = [np.zeros_like(saved[0])]
    if len(saved) != len(copies):
        rest = saved[0]
        if _is_partial(variable):
            rest = np.zeros_like(rest)
            saved = [np.sum(saved, axis=0, dtype=rest.dtype)]
        saved = [saved[0], *[rest] * (len(copies) - 1)]
    for copy, value in zip(copies, saved, strict=True):
        copy.assign(value)
