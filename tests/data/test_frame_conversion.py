"""Planes for JPEG files show what RGB shows."""

import io

import av
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from tsi_keras.data.frame_conversion import FrameConverter
from tsi_keras.data.frame_conversion import Planes

SIZES = [(144, 192), (143, 191), (144, 191), (143, 192)]


def smooth(height: int, width: int) -> np.ndarray:
    """uint8 RGB with slow changes in all colours."""
    y, x = np.mgrid[0:height, 0:width] / 40
    waves = [np.sin(x + y), np.cos(x - 0.7 * y), np.sin(0.5 * x * y / 3)]
    return (128 + 90 * np.stack(waves, -1)).astype(np.uint8)


def frame_of(pixels: str, height: int, width: int, matrix: int = 2) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(smooth(height, width), format="rgb24")
    frame = frame.reformat(format=pixels, dst_colorspace=matrix)
    frame.colorspace = matrix
    return frame


def seen(picture: np.ndarray | Planes) -> np.ndarray:
    """What a reader of the JPEG file gets, float RGB."""
    if isinstance(picture, Planes):
        jpeg = simplejpeg.encode_jpeg_yuv_planes(*picture, quality=98)
    else:
        jpeg = simplejpeg.encode_jpeg(picture, quality=98, colorsubsampling="444")
    return np.asarray(Image.open(io.BytesIO(jpeg)), float)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p"])
@pytest.mark.parametrize("short_side", [None, 72, 240, 251])
def test_planes_show_the_same_picture_as_rgb(size, pixels, short_side):
    frame = frame_of(pixels, *size)
    planes = FrameConverter(short_side, planes=True)(frame)
    rgb = FrameConverter(short_side)(frame)
    assert isinstance(planes, Planes)
    assert planes.y.shape == rgb.shape[:2]
    assert planes.u.shape == tuple(-(-n // 2) for n in rgb.shape[:2])
    error = seen(planes) - seen(rgb)
    assert np.abs(error).mean() < 2.5
    # No tint, neither dark nor bright; odd sizes shift the colours by half a pixel.
    exact = short_side is None and size == SIZES[0]
    assert np.abs(error.mean((0, 1))).max() < (0.3 if exact else 0.8)


@pytest.mark.parametrize(
    "pixels, matrix", [("yuv420p", 1), ("yuv444p", 2), ("gray", 2)]
)
def test_other_colours_go_through_rgb(pixels, matrix):
    frame = frame_of(pixels, 48, 64, matrix)
    picture = FrameConverter(24, planes=True)(frame)
    assert isinstance(picture, np.ndarray)
    error = seen(picture) - seen(FrameConverter(24)(frame))
    assert np.abs(error).mean() < 2.5


def test_the_whole_range_of_levels_is_kept():
    black, white = (
        av.VideoFrame.from_ndarray(
            np.full((16, 16, 3), level, np.uint8), format="rgb24"
        )
        for level in (0, 255)
    )
    for frame, level in ((black, 0), (white, 255)):
        planes = FrameConverter(None, planes=True)(frame.reformat(format="yuv420p"))
        assert (planes.y == level).all()
        assert (planes.u == 128).all()
        assert (planes.v == 128).all()


@pytest.mark.parametrize("size", SIZES)
def test_nothing_behind_the_picture_gets_into_the_file(size):
    planes = FrameConverter(None, planes=True)(frame_of("yuv420p", *size))
    odd = ((0, size[0] % 2), (0, size[1] % 2))
    repeated = np.pad(planes.y, odd, "edge")[: size[0], : size[1]]
    first, second = (
        simplejpeg.encode_jpeg_yuv_planes(y, planes.u, planes.v, quality=90)
        for y in (planes.y, repeated)
    )
    assert first == second
