"""Random backgrounds and object pictures; nothing here knows of classes."""

import colorsys

import numpy as np
from PIL import Image
from PIL import ImageDraw

_SUPERSAMPLING = 3


def draw_background(
    rng: np.random.Generator, width: int, height: int, scale: float, hue: float
) -> Image.Image:
    """Draw a textured background.

    Args:
        rng: source of all randomness.
        width: pixels.
        height: pixels.
        scale: short side of the frames in pixels; texture grains follow it.
        hue: main hue, 0 to 1.

    Returns:
        An RGB image of `width` x `height`.
    """
    value = rng.uniform(0.25, 0.6)
    colours = [
        _colour(hue + rng.normal(0, 0.06), rng.uniform(0.15, 0.6), value + step)
        for step in rng.permutation([-0.12, 0.0, 0.15])
    ]
    size = (height, width)
    coarse = _noise(rng, size, rng.uniform(0.18, 0.4) * scale)
    fine = _noise(rng, size, rng.uniform(0.05, 0.1) * scale)
    blend = np.clip(2.4 * (coarse - 0.5) + 0.5, 0, 1)[..., None]
    picture = colours[0] * blend + colours[1] * (1 - blend)
    spots = np.clip(8 * (fine - rng.uniform(0.5, 0.65)), 0, 1)[..., None]
    picture += rng.uniform(0.4, 0.9) * spots * (colours[2] - picture)
    return _to_image(picture)


def draw_object(
    rng: np.random.Generator, diameter: int, background_hue: float
) -> Image.Image:
    """Draw an object of irregular shape, two colours and a mark off its centre.

    Args:
        rng: source of all randomness.
        diameter: side of the picture in pixels.
        background_hue: hue to stay away from, 0 to 1.

    Returns:
        An RGBA image of `diameter` x `diameter`, the object around its centre.
    """
    side = _SUPERSAMPLING * diameter
    hue = background_hue + rng.uniform(0.25, 0.75)
    light = _colour(hue, rng.uniform(0.4, 0.9), rng.uniform(0.85, 1.0))
    dark_hue = hue + rng.normal(0, 0.15)
    dark = _colour(dark_hue, rng.uniform(0.5, 1), rng.uniform(0.2, 0.5))
    picture = _to_image(_two_tone(rng, side, light, dark))
    _draw_mark(rng, picture, rng.permutation([0, 255, 255, 0])[:3])
    outline = _outline(rng, side)
    rim = tuple(int(v) for v in np.full(3, rng.choice([10, 245])))
    ImageDraw.Draw(picture).line([*outline, outline[0]], rim, max(2, side // 20))
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    picture.putalpha(mask)
    return picture.reduce(_SUPERSAMPLING)


def _two_tone(
    rng: np.random.Generator, side: int, light: np.ndarray, dark: np.ndarray
) -> np.ndarray:
    """Light and dark halves with noise; stripes of the other colour on the dark one."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    stripes = np.sin(across * 2 * np.pi * rng.uniform(2.5, 4)) > 0.2
    is_light = (along > rng.uniform(-0.1, 0.1)) | (stripes & (rng.random() < 0.6))
    shade = 0.75 + 0.5 * _noise(rng, (side, side), side * rng.uniform(0.1, 0.3))
    return np.where(is_light[..., None], light, dark) * shade[..., None]


def _draw_mark(
    rng: np.random.Generator, picture: Image.Image, colour: np.ndarray
) -> None:
    """A disc off the centre, so that no rotation leaves the object unchanged."""
    side = picture.width
    angle, radius = rng.uniform(0, 2 * np.pi), side * rng.uniform(0.1, 0.15)
    x = side * (0.5 + 0.25 * np.cos(angle))
    y = side * (0.5 + 0.25 * np.sin(angle))
    box = [x - radius, y - radius, x + radius, y + radius]
    ImageDraw.Draw(picture).ellipse(box, fill=tuple(int(c) for c in colour))


def _outline(rng: np.random.Generator, side: int) -> list[tuple[float, float]]:
    """Corners of an irregular star-shaped polygon inside the picture."""
    corners = int(rng.integers(3, 9))
    turns = (np.arange(corners) + rng.uniform(-0.25, 0.25, corners)) / corners
    angles = 2 * np.pi * (turns + rng.uniform())
    radii = rng.uniform(0.62, 1.0, corners)
    radii *= (side / 2 - 2 * _SUPERSAMPLING) / radii.max()
    x = side / 2 + radii * np.cos(angles)
    y = side / 2 + radii * np.sin(angles)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _noise(rng: np.random.Generator, size: tuple[int, int], grain: float) -> np.ndarray:
    """Smooth noise over about 0..1 with grains of `grain` pixels; float32 `size`."""
    height, width = size
    rows, columns = (int(np.ceil(n / grain)) + 1 for n in size)
    grid = rng.random((rows, columns), dtype=np.float32)
    image = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


def _colour(hue: float, saturation: float, value: float) -> np.ndarray:
    """RGB, 0 to 1."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, min(max(value, 0), 1)))


def _to_image(picture: np.ndarray) -> Image.Image:
    """Turn RGB values in 0..1 into an image."""
    return Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
