"""Writing the shards of a preparation with Apache Beam; needs `tsi_keras[beam]`.

Import it only where a runner was asked for: Beam takes seconds. The shards come from
the same plan and the same function as in a local run, so they are the same.
"""

import logging
import tempfile
import warnings
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tsi_keras.data.remote import RemotePath
from tsi_keras.data.remote_output import Place
from tsi_keras.data.remote_output import fetch_sidecars
from tsi_keras.data.shards import STATE_FOLDER
from tsi_keras.data.shards import PreparationError
from tsi_keras.data.shards import ShardTask
from tsi_keras.data.shards import finished_shard
from tsi_keras.data.shards import write_shard
from tsi_keras.data.stored_video import RecordOptions
from tsi_keras.utils.errors import InputError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # of cloud clients that are not installed
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners.runner import create_runner
    except ImportError as error:
        raise InputError(
            f"`--runner` needs Apache Beam: pip install 'tsi_keras[beam]' ({error})."
        ) from None
    finally:
        logging.disable(logging.NOTSET)


def write_shards_on(
    tasks: Sequence[ShardTask],
    folder: Path,
    options: RecordOptions,
    *,
    place: Place,
    runner: str,
    runner_options: Sequence[str],
    on_progress: Callable[[int], None],
) -> list[dict[str, Any]]:
    """`write_shards` as a Beam pipeline, one element a shard.

    Args:
        tasks: the shards.
        folder: local folder of the data set, or of its staging area. Without a remote
            destination every worker must see it.
        options: how to decode and encode.
        place: where the shards go in the end.
        runner: name of a Beam runner, such as `DirectRunner`.
        runner_options: options of the pipeline, as on a command line.
        on_progress: called with the number of videos when the pipeline has ended.

    Returns:
        The sidecars in the order of `tasks`.

    Raises:
        InputError: Beam does not know the runner or an option.
        PreparationError: a shard could not be written; the others stay.
    """
    settings = pipeline_options(runner, runner_options)
    if tasks:
        _run(tasks, folder, options, place.destination, settings)
    if place.destination is not None:
        fetch_sidecars(place.destination, folder, [task.name for task in tasks])
    sidecars = [finished_shard(task, folder) for task in tasks]
    for task, sidecar in zip(tasks, sidecars, strict=True):
        if sidecar is None:
            raise PreparationError(
                f"{task.name} is not in {folder} after the pipeline ended; where "
                "workers do not share this folder, give a remote --output."
            )
    on_progress(sum(len(task.videos) for task in tasks))
    return sidecars


def pipeline_options(runner: str, options: Sequence[str]) -> PipelineOptions:
    """Read options of a Beam pipeline.

    Args:
        runner: name of the runner.
        options: such as `["--region=europe-west4"]`.

    Raises:
        InputError: Beam has no such runner, it cannot be used here, or one of the
            options means nothing to it.
    """
    try:
        create_runner(runner)
    except (ValueError, ImportError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"`--runner` {runner} cannot be used: {first}") from None
    settings = PipelineOptions([f"--runner={runner}", *options])
    try:
        known = settings.get_all_options()
        everything = settings.get_all_options(retain_unknown_options=True)
    except (SystemExit, ValueError) as error:
        raise InputError(f"options of the runner: {error}") from None
    unknown = sorted(everything.keys() - known.keys())
    if unknown:
        raise InputError(
            f"unknown argument --{unknown[0]}; neither this command nor Beam's {runner} "
            "has such an option (see --help)."
        )
    return settings


def _run(
    tasks: Sequence[ShardTask],
    folder: Path,
    options: RecordOptions,
    destination: RemotePath | None,
    settings: PipelineOptions,
) -> None:
    """Run the pipeline to its end."""
    try:
        with beam.Pipeline(options=settings) as pipeline:
            _ = (
                pipeline
                | "shards" >> beam.Create(list(tasks))
                | "spread" >> beam.Reshuffle()
                | "write" >> beam.Map(_write, str(folder), options, destination)
            )
    except Exception as error:
        raise PreparationError(_first_cause(error)) from error


def _write(
    task: ShardTask, folder: str, options: RecordOptions, destination: RemotePath | None
) -> str:
    """Write one shard, where the worker runs."""
    if destination is None:
        write_shard(task, Path(folder), options, _ignore)
        return task.name
    # A worker elsewhere has no staging folder.
    with tempfile.TemporaryDirectory(prefix="tsi_keras-") as own:
        (Path(own) / STATE_FOLDER).mkdir()
        place = Place(Path(own), {}, destination)
        place.write(task, Path(own), options, _ignore)
    return task.name


def _ignore(identifier: str | None) -> None:
    """Nobody watches single videos of a pipeline."""


def _first_cause(error: Exception) -> str:
    """The sentence of ours inside what Beam made of it."""
    text = str(error)
    mark = f"{PreparationError.__name__}: "
    if mark in text:
        text = text.split(mark, 1)[1]
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__
