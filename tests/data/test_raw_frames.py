"""Folders of raw frames: read like the video they came from, gaps told."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.making_videos import picture
from tsi_keras.data.annotations import FrameFiles
from tsi_keras.data.annotations import VideoEntry
from tsi_keras.data.raw_frames import convert_frame_folder
from tsi_keras.data.raw_frames import list_frames
from tsi_keras.data.span import Span
from tsi_keras.data.video_container import VideoError
from tsi_keras.data.video_source import convert_entry

RATE = FrameFiles(fps=12.0)


def make_frames(folder: Path, pattern: str, numbers, **save) -> list[np.ndarray]:
    """Write the frames of `make_video` as images of these numbers."""
    folder.mkdir(parents=True)
    total = max(numbers) + 1
    images = [picture(number, total, (32, 48), seed=0) for number in numbers]
    for number, image in zip(numbers, images, strict=True):
        Image.fromarray(image).save(folder / pattern.format(number), **save)
    return images


def read(folder: Path, files: FrameFiles, **options):
    """Stream and frames, in full size and rate unless said otherwise."""
    options = {"short_side": None, "fps": None, "min_frames": 1} | options
    return convert_frame_folder(folder, files, convert=np.asarray, **options)


def reason(folder: Path, files: FrameFiles, **options) -> str:
    with pytest.raises(VideoError) as error:
        read(folder, files, **options)
    assert "\n" not in error.value.reason
    return error.value.reason


@pytest.mark.parametrize(
    "name, pattern, first",
    [
        ("img_{:05d}.png", "img_{:05d}.png", 1),
        ("img_{:05d}.png", "img_%05d.png", 0),
        ("{:d}.png", "{}.png", 8),
        ("cam2_{:03d}_left.png", None, 0),
        ("{:06d}.bmp", None, 1),
    ],
)
def test_any_pattern_and_first_number(tmp_path, name, pattern, first):
    """Numbers are numbers: 10.png comes after 9.png."""
    images = make_frames(tmp_path / "v", name, range(first, first + 5))
    (tmp_path / "v" / "notes.txt").write_text("no frame")
    stream, frames = read(tmp_path / "v", FrameFiles(pattern, first, fps=12.0))
    np.testing.assert_array_equal(frames, images)
    assert (stream.source_num_frames, stream.source_fps, stream.fps) == (5, 12, 12)


def test_thinning_and_size_are_those_of_videos(tmp_path):
    images = make_frames(tmp_path / "v", "{:05d}.png", range(30))
    stream, frames = read(tmp_path / "v", FrameFiles(fps=30.0), fps=10)
    np.testing.assert_array_equal(frames, images[::3])
    assert (stream.fps, stream.num_frames, stream.source_num_frames) == (10, 10, 30)
    _, small = read(tmp_path / "v", RATE, short_side=16)
    assert small[0].shape == (16, 24, 3)


def test_parts_by_time_and_by_number(tmp_path):
    images = make_frames(tmp_path / "v", "{:05d}.png", range(1, 25))
    _, frames = read(tmp_path / "v", RATE, span=Span(0.5, 1.25))
    np.testing.assert_array_equal(frames, images[6:15])
    _, frames = read(tmp_path / "v", RATE, span=Span(start_frame=2, end_frame=5))
    np.testing.assert_array_equal(frames, images[2:5])
    assert "starts after the end of the video, which has 2 seconds" in reason(
        tmp_path / "v", RATE, span=Span(5, 9)
    )


def test_entries_lead_to_their_frames(tmp_path):
    images = make_frames(tmp_path / "v", "{:05d}.png", range(1, 25))
    entry = VideoEntry("v", tmp_path / "v", "a", None, "v", 1.0, frames=RATE)
    options = {"short_side": None, "fps": None, "min_frames": 2}
    _, frames = convert_entry(entry, convert=np.asarray, planes=True, **options)
    np.testing.assert_array_equal(frames, images[12:])


def test_gaps_and_missing_ends_are_told(tmp_path):
    make_frames(tmp_path / "v", "{:05d}.png", [2, 3, 5, 9, 10])
    files = tmp_path / "v", FrameFiles(fps=12.0)
    assert reason(*files) == "4 of its 9 frames are missing: number 4, 6-8"
    first = FrameFiles("{:05d}.png", first=1, fps=12.0)
    assert "5 of its 10 frames are missing: number 1, 4, 6-8" in reason(files[0], first)
    more = FrameFiles(first=9, count=4, fps=12.0)
    assert "2 of its 4 frames are missing: number 11-12" in reason(files[0], more)
    fewer = FrameFiles(first=9, count=2, fps=12.0)
    assert [path.name for path in list_frames(files[0], fewer)] == [
        "00009.png",
        "00010.png",
    ]


def test_folders_that_are_no_video(tmp_path):
    make_frames(tmp_path / "two", "img_{:05d}.png", [1])
    Image.new("RGB", (4, 4)).save(tmp_path / "two" / "flow_x_00001.png")
    make_frames(tmp_path / "same", "{:d}.png", [1])
    Image.new("RGB", (4, 4)).save(tmp_path / "same" / "01.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    make_frames(tmp_path / "cover", "cover.png", [1])
    pattern = FrameFiles("frame_{:05d}.jpg", fps=12.0)
    assert "several series of images: flow_x_#.png, img_#.png" in reason(
        tmp_path / "two", RATE
    )
    assert "01.png and 1.png have the same number" in reason(tmp_path / "same", RATE)
    assert "holds no images" in reason(tmp_path / "empty", RATE)
    assert "a file, not a folder" in reason(tmp_path / "file", RATE)
    assert "does not exist" in reason(tmp_path / "nowhere", RATE)
    assert "are not numbered: cover.png" in reason(tmp_path / "cover", RATE)
    assert "no frame_{:05d}.jpg but flow_x_00001.png" in reason(
        tmp_path / "two", pattern
    )
    assert "rate" in reason(tmp_path / "two", FrameFiles("img_{:05d}.png"))
    assert "one number" in reason(tmp_path / "two", FrameFiles("img.png", fps=1.0))
    assert reason(
        tmp_path / "two", FrameFiles("img_{:05d}.png", fps=1.0), min_frames=2
    ) == ("it has 1 frame; at least 2 are needed")


@pytest.mark.parametrize("content", [b"", b"no image", "half"])
def test_damaged_frames_are_told_by_name(tmp_path, content):
    make_frames(tmp_path / "v", "{:05d}.jpg", range(4))
    path = tmp_path / "v" / "00002.jpg"
    if content == "half":
        content = path.read_bytes()[:-60]
    path.write_bytes(content)
    assert reason(tmp_path / "v", RATE).startswith("frame 00002.jpg cannot be read: ")


def test_grey_transparent_and_turned_images_come_out_as_rgb(tmp_path):
    (tmp_path / "v").mkdir()
    Image.new("L", (8, 6), 100).save(tmp_path / "v" / "1.png")
    Image.new("RGBA", (8, 6), (10, 20, 30, 0)).save(tmp_path / "v" / "2.png")
    _, frames = read(tmp_path / "v", RATE)
    assert frames[0].shape == frames[1].shape == (6, 8, 3)
    assert frames[0][0, 0].tolist() == [100, 100, 100]
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held turned by 90 degrees
    (tmp_path / "w").mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / "w" / "1.jpg", exif=exif)
    _, frames = read(tmp_path / "w", RATE)
    assert frames[0].shape == (8, 6, 3)
