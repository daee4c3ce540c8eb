"""Writing a folder of H.264 files, one folder per class."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from itertools import repeat
from pathlib import Path

import av
import numpy as np

from tsi_keras import __version__
from tsi_keras.data.synthetic.motions import CLASSES
from tsi_keras.data.synthetic.options import SyntheticOptions
from tsi_keras.data.synthetic.options import check_integer
from tsi_keras.data.synthetic.rendering import render_clip
from tsi_keras.utils.console import progress
from tsi_keras.utils.cores import available_cores
from tsi_keras.utils.files import claim_output
from tsi_keras.utils.files import write_json

INFO_FILE = "synthetic.json"
_CHUNK = 8  # videos handed to a worker at a time


def write_dataset(
    output: str | Path,
    options: SyntheticOptions | None = None,
    *,
    videos_per_class: int = 100,
    seed: int = 0,
    workers: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a synthetic data set as `output/class_name/class_name_00000.mp4`.

    Video number `i` of a class depends on `seed`, the class and `i` only: not on the
    number of videos, the other classes or the workers. `synthetic.json` with the
    options is written last, so its presence means that the set is complete.

    Args:
        output: folder to fill.
        options: size, length and classes; the defaults when `None`.
        videos_per_class: number of videos in each class folder.
        seed: non-negative integer; another seed gives other videos.
        workers: number of processes; one per available core when `None`. With more
            than one, a calling script needs the usual `if __name__ == "__main__":`.
        overwrite: remove what `output` holds first.

    Returns:
        The absolute path of `output`.

    Raises:
        InputError: an argument is out of range, or `output` is not empty and
            `overwrite` is false.

    Example:
        ```python
        options = SyntheticOptions(width=96, height=72)
        write_dataset("videos", options, videos_per_class=10, workers=1)
        ```
    """
    options = options or SyntheticOptions()
    workers = available_cores() if workers is None else workers
    check_integer("videos_per_class", videos_per_class, 1, 100_000)
    check_integer("seed", seed, 0, 2**63 - 1)
    check_integer("workers", workers, 1, 512)
    folder = claim_output(output, overwrite=overwrite, marks=(INFO_FILE, *CLASSES))
    for name in options.classes:
        (folder / name).mkdir()
    jobs = [(name, i) for i in range(videos_per_class) for name in options.classes]
    with progress("videos") as bar:
        done = _run(jobs, folder, options, seed, workers)
        for _ in bar.track(done, total=len(jobs), description="rendering"):
            pass
    write_json(folder / INFO_FILE, _info(options, videos_per_class, seed))
    return folder


def write_video(path: str | Path, frames: np.ndarray, *, fps: float, crf: int) -> Path:
    """Encode frames as an MP4 file (H.264, 4:2:0); the file is whole or absent.

    Args:
        path: file to write.
        frames: RGB, uint8 `(T, H, W, 3)`, even `H` and `W`.
        fps: frames per second.
        crf: constant rate factor of x264, 0 to 51.

    Returns:
        `path`.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with av.open(str(unfinished), "w", format="mp4") as container:
            for packet in _encode(container, frames, fps, crf):
                container.mux(packet)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return path


def _encode(
    container: av.container.OutputContainer, frames: np.ndarray, fps: float, crf: int
) -> Iterator[av.Packet]:
    """Yield the packets of `frames`."""
    rate = Fraction(fps).limit_denominator(1001)
    # x264's fast paths give other bytes on other processors, and with `mbtree` from
    # run to run; its portable ones give the same file everywhere.
    portable = {"x264-params": "cpu-independent=1"}
    options = {"crf": str(crf), "preset": "veryfast", **portable}
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1  # the workers share the cores already
    for frame in frames:
        yield from stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24"))
    yield from stream.encode(None)


def _run(
    jobs: list[tuple[str, int]],
    folder: Path,
    options: SyntheticOptions,
    seed: int,
    workers: int,
) -> Iterator[None]:
    """Render all jobs; yield once per video."""
    arguments = (jobs, repeat(folder), repeat(options), repeat(seed))
    if workers == 1:
        yield from map(_render_file, *arguments)
        return
    with _pool(min(workers, len(jobs))) as pool:
        yield from pool.map(_render_file, *arguments, chunksize=_CHUNK)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes; on an error or Ctrl-C the work still waiting is dropped."""
    # Spawned, as forking a process in which TensorFlow runs threads may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _render_file(
    job: tuple[str, int], folder: Path, options: SyntheticOptions, seed: int
) -> None:
    """Render and encode one video."""
    class_name, index = job
    path = folder / class_name / f"{class_name}_{index:05d}.mp4"
    frames = render_clip(class_name, video_seed(seed, class_name, index), options)
    write_video(path, frames, fps=options.fps, crf=options.crf)


def video_seed(seed: int, class_name: str, index: int) -> tuple[int, int, int]:
    """Seed for `render_clip` of video `index` of a class in a set with seed `seed`."""
    return seed, CLASSES.index(class_name), index


def _info(
    options: SyntheticOptions, videos_per_class: int, seed: int
) -> dict[str, object]:
    """What `synthetic.json` says."""
    return {
        "tool_version": __version__,
        "seed": seed,
        "videos_per_class": videos_per_class,
        "options": options.to_dict(),
    }
