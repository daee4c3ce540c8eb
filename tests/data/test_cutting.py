"""Parts of videos: the frames of the whole video at these times, wrong parts refused."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.data.making_videos import make_video
from tests.data.making_videos import picture
from tsi_keras.data.cutting import SeekFailed
from tsi_keras.data.cutting import SpanReader
from tsi_keras.data.decoding import FrameStream
from tsi_keras.data.decoding import VideoError
from tsi_keras.data.decoding import convert_video
from tsi_keras.data.decoding import read_video
from tsi_keras.data.span import Span
from tsi_keras.data.video_container import open_container
from tsi_keras.data.video_container import video_stream

SIZE = (32, 48)


def make_long(path: Path, num_frames: int = 72, gop: int = 10, **options) -> Path:
    """A video with B-frames and a key frame every `gop` frames, where x264 is."""
    with av.open(str(path), "w", **options) as container:
        stream = container.add_stream("libx264", rate=12)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = {"g": str(gop), "bf": "3", "b-adapt": "0", "crf": "10"}
        stream.options |= {"x264-params": "open-gop=1:scenecut=0"}
        for index in range(num_frames):
            image = picture(index, num_frames, SIZE, seed=0)
            image = np.roll(image, 3 * index, axis=1)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def times_of(path: Path) -> list[Fraction]:
    """Seconds of each frame after the first, by its timestamp."""
    with av.open(str(path)) as container:
        stamps = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    return [stamp - stamps[0] for stamp in stamps]


def whole(path: Path) -> list[np.ndarray]:
    return read_video(path, short_side=None, fps=None).frames


def cut(path: Path, start, end, *, seek: bool) -> list[np.ndarray]:
    """Frames of a part, decoded with a seek or without."""
    span = Span(start, end)
    return list(FrameStream(path, short_side=None, fps=None, span=span, seek=seek))


def between(path: Path, start: float | None, end: float | None) -> list[np.ndarray]:
    """The frames of the whole video at start <= time < end."""
    first, last = (Fraction(str(limit or 0)) for limit in (start, end))
    pairs = zip(whole(path), times_of(path), strict=True)
    return [f for f, time in pairs if first <= time and (not last or time < last)]


def same(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    return len(found) == len(expected) and all(map(np.array_equal, found, expected))


PARTS = [(0, 1.5), (0.5, 2.25), (2.5, 4.1), (3.3, None), (None, 1), (0.83, 0.9)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "avi", "ts"])
def test_a_part_is_the_cut_of_the_whole_video(tmp_path, suffix):
    path = make_long(tmp_path / f"a.{suffix}")
    assert len(whole(path)) == 72
    for start, end in PARTS:
        expected = between(path, start, end)
        video = read_video(
            path, short_side=None, fps=None, start=start, end=end, min_frames=1
        )
        assert expected and same(video.frames, expected), (start, end)
        assert video.source_num_frames == len(expected)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_decoding_begins_at_the_key_frame_before_the_part(tmp_path, suffix):
    """Else a ten-second part of a long video would cost the whole video."""
    path = make_long(tmp_path / f"a.{suffix}", num_frames=240)
    span = Span(15.0, 16.0)
    stream = FrameStream(path, short_side=None, fps=None, span=span, seek=True)
    sought = list(stream)
    assert same(sought, whole(path)[180:192])
    assert decoded_frames(path, span, seek=True) < 60
    assert decoded_frames(path, span, seek=False) > 190


def decoded_frames(path: Path, span: Span, *, seek: bool) -> int:
    """How many frames the decoder had to give."""
    with open_container(path) as container:
        reader = SpanReader(container, video_stream(container), span, seek=seek)
        assert list(reader)
        return reader.decoded


def test_seeking_is_given_up_where_timestamps_cannot_be_trusted(tmp_path):
    path = make_long(tmp_path / "a.avi")
    with pytest.raises(SeekFailed):
        cut(path, 3, 4, seek=True)
    assert same(cut(path, 3, 4, seek=False), whole(path)[36:48])


def test_variable_frame_rate_is_cut_by_timestamps(tmp_path):
    stamps = [*range(12), 12, 18, 24, 30, 36, 37, 38, 60]
    path = make_video(tmp_path / "a.mkv", len(stamps), rate=24, timestamps=stamps)
    frames = whole(path)
    for seek in (False, True):
        try:
            found = cut(path, 0.5, 1.5, seek=seek)
        except SeekFailed:
            continue
        assert same(found, frames[12:16])


def test_thinning_counts_from_the_first_frame_of_the_part(tmp_path):
    path = make_long(tmp_path / "a.mp4")
    frames = whole(path)
    video = read_video(path, short_side=None, fps=4, start=2.5, end=5)
    assert same(video.frames, frames[30:60:3])
    assert (video.fps, video.source_fps, video.source_num_frames) == (4, 12, 30)


def test_a_part_by_frame_numbers(tmp_path):
    path = make_long(tmp_path / "a.mp4")
    stream, frames = convert_video(
        path,
        short_side=None,
        fps=None,
        min_frames=2,
        convert=lambda frame: frame,
        span=Span(start_frame=5, end_frame=17),
    )
    assert same(frames, whole(path)[5:17])
    assert stream.source_num_frames == 12


def reason(path: Path, **options) -> str:
    with pytest.raises(VideoError) as error:
        read_video(path, **options)
    return error.value.reason


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_parts_that_are_not_in_the_video_are_refused(tmp_path, suffix):
    path = make_long(tmp_path / f"a.{suffix}")  # 6 seconds
    assert reason(path, start=95, end=105) == (
        "its part from 95 to 105 seconds starts after the end of the video, which has "
        "6 seconds"
    )
    assert "ends after the end of the video" in reason(path, start=2, end=9)
    assert reason(path, start=3, end=3.01) == (
        "its part has 1 frame; at least 2 are needed"
    )


@pytest.mark.parametrize("start, end", [(3, 2), (2, 2), (-1, 2), (float("nan"), 2)])
def test_parts_that_are_none_are_refused(tmp_path, start, end):
    path = make_video(tmp_path / "a.mp4")
    assert "its part cannot be cut out" in reason(path, start=start, end=end)


def test_ends_rounded_up_to_the_next_second_are_kept(tmp_path):
    path = make_video(tmp_path / "a.mp4", 40, rate=12)  # 3.33 seconds
    video = read_video(path, short_side=None, fps=None, start=1, end=4)
    assert same(video.frames, whole(path)[12:])


def test_frame_numbers_after_the_end_are_refused(tmp_path):
    path = make_video(tmp_path / "a.mp4", 20)
    options = {"short_side": None, "fps": None, "min_frames": 2}

    def count(**limits) -> int:
        span = Span(**limits)
        return len(convert_video(path, convert=id, span=span, **options)[1])

    assert count(end_frame=22) == 20
    with pytest.raises(VideoError, match="from 0 to 23 frames ends after the end"):
        count(end_frame=23)
    with pytest.raises(VideoError, match="starts after the end"):
        count(start_frame=20)


def test_damage_outside_the_part_does_no_harm_and_inside_is_told(tmp_path):
    path = make_long(tmp_path / "a.mkv", num_frames=240)
    expected = whole(path)[60:84]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 7 // 10])  # ends at 14 of 20 seconds
    assert same(
        read_video(path, short_side=None, fps=None, start=5, end=7).frames, expected
    )
    words = reason(path, start=10, end=18)
    assert "ends early" in words or "damaged" in words or "decoding failed" in words


def test_real_clips_are_cut_like_the_whole(real_videos):
    """The timestamps of the AVI go back and forth; the clock makes them grow."""
    for name in ("kinetics_arm_wrestling.mp4", "flipping_a_pancake.mkv", "mpeg4.avi"):
        path = real_videos / name
        with open_container(path) as container:
            reader = SpanReader(container, video_stream(container), Span(), seek=False)
            times = [time for _, time in reader]
        frames = read_video(path, short_side=64, fps=None).frames
        for start, end in [(0.5, 2), (4.25, 6.125), (5.25, 1000)]:
            last = None if end == 1000 else end
            video = read_video(path, short_side=64, fps=None, start=start, end=last)
            pairs = zip(frames, times, strict=True)
            expected = [frame for frame, time in pairs if start <= time < end]
            assert same(video.frames, expected), (name, start, end)
