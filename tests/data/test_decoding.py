"""Decoding: upright, thinned by time, complete or refused with a reason."""

import av
import numpy as np
import pytest
from PIL import Image

from tests.data.making_videos import make_video
from tsi_keras.data.decoding import VideoError
from tsi_keras.data.decoding import read_video


def reason(path, **options) -> str:
    """Why `path` is refused: one line."""
    with pytest.raises(VideoError) as error:
        read_video(path, **options)
    assert "\n" not in error.value.reason
    return error.value.reason


def levels(video) -> list[float]:
    """Mean brightness of each frame; grows with time in `make_video`."""
    return [float(frame.mean()) for frame in video.frames]


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv", "mov", "m4v", "flv"])
def test_all_frames_of_many_containers(tmp_path, suffix):
    codec = "flv1" if suffix == "flv" else "mpeg4"
    path = make_video(tmp_path / f"a.{suffix}", 10, codec=codec)
    video = read_video(path, short_side=None, fps=None)
    assert len(video.frames) == video.source_num_frames == 10
    assert video.frames[0].shape == (32, 48, 3)
    assert video.frames[0].dtype == np.uint8
    assert video.fps == video.source_fps == pytest.approx(12, rel=0.01)
    assert np.all(np.diff(levels(video)) > 0)


def test_colours_survive(tmp_path):
    video = read_video(make_video(tmp_path / "a.mp4", seed=3), short_side=None)
    top = np.random.default_rng(3).uniform(0.4, 1.0, 3) * 80
    np.testing.assert_allclose(video.frames[0][1].mean(0), top, atol=6)


@pytest.mark.parametrize("turn", [90, 180, 270, -90])
def test_rotated_recordings_come_out_upright(tmp_path, turn):
    """A camera held turned stores turned pictures and says so."""
    size = (32, 48)
    upright = read_video(make_video(tmp_path / "up.mp4", size=size), short_side=32)
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.bit_rate = 2_000_000
        # rot90 turns counterclockwise; the file then asks to turn it back.
        stored = [np.rot90(f, -turn // 90) for f in upright.frames]
        stream.height, stream.width = stored[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.set_display_rotation(turn)
        for image in stored:
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(image), format="rgb24"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    found = read_video(path, short_side=32)
    assert found.frames[0].shape == (32, 48, 3)
    error = np.abs(found.frames[2].astype(int) - upright.frames[2])
    assert error.mean() < 3


def test_mirrored_recordings_come_out_upright(tmp_path):
    path = make_video(tmp_path / "a.mp4")
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(0, vflip=True)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    plain = read_video(path, short_side=None).frames[0]
    mirrored = read_video(tmp_path / "b.mp4", short_side=None).frames[0]
    np.testing.assert_array_equal(mirrored, plain[::-1])


def test_odd_rotation_is_refused(tmp_path):
    path = make_video(tmp_path / "a.mp4", rotation=30)
    assert "only multiples of 90 are supported" in reason(path)


@pytest.mark.parametrize("rate, fps, kept", [(30, 10, range(0, 30, 3)), (24, 24, None)])
def test_thinning_keeps_the_frame_nearest_in_time(tmp_path, rate, fps, kept):
    path = make_video(tmp_path / "a.mp4", 30, rate=rate)
    all_levels = levels(read_video(path, fps=None))
    video = read_video(path, fps=fps)
    assert levels(video) == [all_levels[i] for i in (kept or range(30))]
    assert video.fps == fps
    assert (video.source_num_frames, video.source_fps) == (30, rate)


def test_thinning_takes_the_earlier_of_two_equally_near(tmp_path):
    """30 to 12 fps: grid points at 0, 2.5, 5, 7.5 frames."""
    path = make_video(tmp_path / "a.mp4", 10, rate=30)
    all_levels = levels(read_video(path, fps=None))
    kept = levels(read_video(path, fps=12))
    assert kept == [all_levels[i] for i in (0, 2, 5, 7)]


def test_slow_videos_keep_all_frames_once(tmp_path):
    path = make_video(tmp_path / "a.mp4", 9, rate=5)
    video = read_video(path, fps=12)
    assert len(video.frames) == 9
    assert video.fps == pytest.approx(5)


def test_variable_frame_rate_goes_by_timestamps(tmp_path):
    """Twelve frames in the first half second, then one every quarter."""
    times = [*range(12), 12, 18, 24, 30, 36]
    path = make_video(tmp_path / "a.mkv", len(times), rate=24, timestamps=times)
    every = levels(read_video(path, fps=None))
    video = read_video(path, fps=12)
    assert levels(video) == [every[i] for i in (0, 2, 4, 6, 8, 10, 12, 13, 14, 15, 16)]
    assert video.fps == pytest.approx(10 / 1.5, rel=0.01)


def test_short_clips_are_not_thinned_to_nothing(tmp_path):
    path = make_video(tmp_path / "a.mp4", 3, rate=30)
    video = read_video(path, fps=2, min_frames=2)
    assert len(video.frames) == 3
    assert video.fps == 30


@pytest.mark.parametrize(
    "size, short", [((32, 48), 20), ((48, 32), 20), ((32, 48), 64)]
)
def test_short_side_is_as_asked(tmp_path, size, short):
    path = make_video(tmp_path / "a.mp4", size=size)
    height, width = read_video(path, short_side=short).frames[0].shape[:2]
    assert min(height, width) == short
    assert height / width == pytest.approx(size[0] / size[1], abs=0.05)


def test_names_with_spaces_colons_and_accents(tmp_path):
    path = make_video(tmp_path / "vidéo: 1 %03d.mp4")
    assert len(read_video(path).frames) == 8


def test_things_that_are_no_video(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    Image.new("RGB", (64, 64)).save(tmp_path / "still.png")
    (tmp_path / "still.png").rename(tmp_path / "still.mp4")
    (tmp_path / "folder.mp4").mkdir()
    make_video(tmp_path / "one.mp4", 1)
    assert reason(tmp_path / "missing.mp4") == "the file does not exist"
    assert reason(tmp_path / "empty.mp4") == "the file is empty (0 bytes)"
    assert reason(tmp_path / "text.mp4").startswith("it is not a readable video")
    assert reason(tmp_path / "still.mp4") == "it has 1 frame; at least 2 are needed"
    assert reason(tmp_path / "folder.mp4") == "it is a folder, not a file"
    assert reason(tmp_path / "one.mp4") == "it has 1 frame; at least 2 are needed"


def test_sound_without_pictures(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert reason(path) == "it holds no video stream"


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv"])
def test_truncated_files_are_never_shorter_videos(tmp_path, suffix):
    path = make_video(tmp_path / f"a.{suffix}", 60)
    if suffix == "mp4":  # put the index in front, or the file would not even open
        with av.open(str(path)) as source:
            fast = tmp_path / "fast.mp4"
            with av.open(str(fast), "w", options={"movflags": "faststart"}) as target:
                stream = target.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.stream = stream
                        target.mux(packet)
        path = fast
    assert len(read_video(path).frames) == 60
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    words = reason(path)
    assert "ends early" in words or "damaged" in words or "decoding failed" in words


def test_real_clips(real_videos):
    expected = {
        "kinetics_arm_wrestling.mp4": (120, (256, 340, 3), 280, 28),
        "mpeg4.avi": (79, (256, 341, 3), 164, 25),
        "flipping_a_pancake.mkv": (124, (256, 454, 3), 310, 30),
        "video_0.mov": (2, (256, 454, 3), 3, 30),
        "video_90.mov": (2, (454, 256, 3), 3, 30),
    }
    for name, (kept, shape, source_frames, source_fps) in expected.items():
        video = read_video(real_videos / name)
        assert len(video.frames) == kept, name
        assert video.frames[0].shape == shape, name
        assert (video.source_num_frames, video.source_fps) == (
            source_frames,
            source_fps,
        )


def test_real_rotated_clip_is_turned_clockwise(real_videos):
    """The file asks for a quarter turn clockwise; then the keys can be read."""
    path = real_videos / "video_90.mov"
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
    upright = read_video(path, short_side=None).frames[0]
    error = np.abs(upright.astype(int) - np.rot90(stored, -1))
    assert error.mean() < 3


def test_real_corrupted_clip_is_refused(real_videos):
    assert reason(real_videos / "corrupted.mp4").startswith(
        "decoding failed after 28 of 50 frames: Invalid data"
    )
