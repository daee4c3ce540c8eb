"""Small real video files for the tests of this folder."""

from pathlib import Path

import av
import numpy as np


def make_video(
    path: Path,
    num_frames: int = 8,
    *,
    size: tuple[int, int] = (32, 48),
    rate: int = 12,
    rotation: int | None = None,
    seed: int = 0,
    codec: str = "mpeg4",
    timestamps: list[int] | None = None,
) -> Path:
    """Encode `num_frames` of smooth coloured texture of `size` (height, width).

    The picture is bright at its top, and the grey level of frame i grows with i, so
    that orientation and time can be told from the decoded frames.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(
                picture(index, num_frames, size, seed), format="rgb24"
            )
            frame.pts = index if timestamps is None else timestamps[index]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def picture(index: int, total: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """uint8 `(H, W, 3)`: bright top, a colour by seed, brighter with time."""
    height, width = size
    colour = np.random.default_rng(seed).uniform(0.4, 1.0, 3)
    ramp = np.linspace(1.0, 0.2, height)[:, None, None]
    level = 80 + 150 * index / max(total, 1)
    return np.broadcast_to(ramp * colour * level, (height, width, 3)).astype(np.uint8)


def make_class_folder(root: Path, classes: dict[str, int], **options) -> Path:
    """Make `root/class_name/clip_i.mp4`, every file different."""
    seed = 0
    for name, count in classes.items():
        for index in range(count):
            seed += 1
            make_video(root / name / f"clip_{index}.mp4", seed=seed, **options)
    return root
