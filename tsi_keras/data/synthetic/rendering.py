"""From a class name and a seed to the frames of a clip."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tsi_keras.data.synthetic.motions import DIAMETER
from tsi_keras.data.synthetic.motions import MARGIN
from tsi_keras.data.synthetic.motions import MOTIONS
from tsi_keras.data.synthetic.motions import TILT
from tsi_keras.data.synthetic.motions import TRAVEL
from tsi_keras.data.synthetic.motions import ZOOM
from tsi_keras.data.synthetic.motions import Pose
from tsi_keras.data.synthetic.motions import frame_times
from tsi_keras.data.synthetic.motions import resting_pose
from tsi_keras.data.synthetic.options import SyntheticOptions
from tsi_keras.data.synthetic.options import check_class
from tsi_keras.data.synthetic.textures import draw_background
from tsi_keras.data.synthetic.textures import draw_object

# Standard deviation of the camera's tremble relative to its largest travel.
_TREMBLE = 0.08


@dataclass
class _Body:
    """An object and the box it may move in; lengths in pixels, angles in degrees."""

    picture: Image.Image
    centre: np.ndarray  # (2,): x, y
    box: np.ndarray  # (2,): width, height
    tilt: float
    smallest: float  # diameter at zoom 0
    zoom: float  # diameter at zoom 1 / at zoom 0


def render_clip(
    class_name: str, seed: int | Sequence[int], options: SyntheticOptions | None = None
) -> np.ndarray:
    """Render the frames of one clip.

    The scene (background, objects, where they are, the camera's path) depends on
    `seed` only; the class decides what the actor does in it. `recede`, `move_left`,
    `move_up`, `rotate_counterclockwise` and `vanish` are the frames of `approach`,
    `move_right`, `move_down`, `rotate_clockwise` and `appear` in reverse order.

    Args:
        class_name: one of `CLASSES`.
        seed: integer or integers that determine the content.
        options: size, length and camera motion; the defaults when `None`.

    Returns:
        RGB frames, uint8 `(T, H, W, 3)`.

    Raises:
        InputError: `class_name` is unknown.

    Example:
        ```python
        frames = render_clip("approach", seed=7)
        (frames[::-1] == render_clip("recede", seed=7)).all()   # True
        ```
    """
    check_class(class_name)
    options = options or SyntheticOptions()
    motion = MOTIONS[class_name]
    rng = np.random.default_rng(seed)
    camera = _camera_path(rng, options)
    background, bodies = _draw_scene(rng, options, camera)
    poses = [resting_pose(rng, options.num_frames) for _ in bodies]
    has_companion = rng.random() < 0.5
    motion.animate(poses[-1], rng, frame_times(options.num_frames))
    poses[0].visible[:] = motion.companion or has_companion
    frames = np.stack(
        [
            _draw_frame(t, background, bodies, poses, camera[t], options)
            for t in range(options.num_frames)
        ]
    )
    return np.ascontiguousarray(frames[::-1]) if motion.backwards else frames


def _camera_path(rng: np.random.Generator, options: SyntheticOptions) -> np.ndarray:
    """Offset of the scene in pixels, `(T, 2)`; as likely as the same path reversed."""
    largest = options.camera_motion * np.mean(TRAVEL) * _short_side(options)
    angle, travel = rng.uniform(0, 2 * np.pi), largest * rng.uniform(0.2, 1)
    direction = np.array([np.cos(angle), np.sin(angle)])
    pan = travel * (frame_times(options.num_frames)[:, None] - 0.5) * direction
    jolts = rng.normal(size=(options.num_frames + 4, 2))
    weights = np.array([1, 2, 3, 2, 1]) / np.sqrt(19)
    tremble = sum(w * jolts[k : k + len(pan)] for k, w in enumerate(weights))
    return pan + _TREMBLE * largest * np.clip(tremble, -2.5, 2.5)


def _draw_scene(
    rng: np.random.Generator, options: SyntheticOptions, camera: np.ndarray
) -> tuple[Image.Image, list[_Body]]:
    """Draw the background (as large as the camera needs), companion and actor."""
    hue = rng.uniform()
    border = 2 * _border(camera)
    size = options.width + border, options.height + border
    background = draw_background(rng, *size, _short_side(options), hue)
    return background, [_draw_body(rng, options, hue) for _ in range(2)]


def _draw_body(
    rng: np.random.Generator, options: SyntheticOptions, hue: float
) -> _Body:
    """Draw an object with a home box inside the frame's central square."""
    side = _short_side(options)
    box = rng.uniform(*TRAVEL, size=2)
    slack = (1 - 2 * MARGIN - box) / 2
    middle = np.array([options.width, options.height]) / 2
    smallest, zoom = rng.uniform(*DIAMETER) * side, rng.uniform(*ZOOM)
    return _Body(
        picture=draw_object(rng, math.ceil(smallest * zoom), hue),
        centre=middle + side * slack * rng.uniform(-1, 1, size=2),
        box=side * box,
        tilt=rng.uniform(-TILT, TILT),
        smallest=smallest,
        zoom=zoom,
    )


def _draw_frame(
    t: int,
    background: Image.Image,
    bodies: list[_Body],
    poses: list[Pose],
    camera: np.ndarray,
    options: SyntheticOptions,
) -> np.ndarray:
    """Compose frame `t`; uint8 `(H, W, 3)`. The last body is in front."""
    border = (np.array(background.size) - (options.width, options.height)) / 2
    x, y = border - camera
    frame = background.transform(
        (options.width, options.height),
        Image.Transform.AFFINE,
        (1, 0, x, 0, 1, y),
        Image.Resampling.BILINEAR,
    )
    for body, pose in zip(bodies, poses, strict=True):
        if pose.visible[t]:
            _paste(frame, body, pose, t, camera)
    return np.asarray(frame)


def _paste(
    frame: Image.Image, body: _Body, pose: Pose, t: int, camera: np.ndarray
) -> None:
    """Paste `body`, turned and scaled, with its centre at a fractional pixel."""
    diameter = body.smallest * body.zoom ** pose.zoom[t]
    x, y = _position(body, pose, t) + camera
    reach = math.ceil(diameter / 2) + 1
    left, top = math.floor(x) - reach, math.floor(y) - reach
    # Maps a point of the patch to a point of the object's picture.
    grow = body.picture.width / diameter
    cos, sin = (grow * f(math.radians(pose.angle[t])) for f in (math.cos, math.sin))
    half, x, y = body.picture.width / 2, x - left, y - top
    matrix = (
        *(cos, sin, half - cos * x - sin * y),
        *(-sin, cos, half + sin * x - cos * y),
    )
    size = (2 * reach + 1, 2 * reach + 1)
    patch = body.picture.transform(
        size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    frame.paste(patch, (left, top), patch)


def _position(body: _Body, pose: Pose, t: int) -> np.ndarray:
    """Centre of the object in the scene in pixels, `(2,)`."""
    dx = (pose.across[t] - 0.5) * body.box[0]
    dy = (pose.down[t] - 0.5) * body.box[1]
    cos, sin = math.cos(math.radians(body.tilt)), math.sin(math.radians(body.tilt))
    return body.centre + (cos * dx - sin * dy, sin * dx + cos * dy)


def _border(camera: np.ndarray) -> int:
    """Pixels by which the background must exceed the frame on each side."""
    return math.ceil(np.abs(camera).max()) + 2


def _short_side(options: SyntheticOptions) -> int:
    return min(options.width, options.height)
