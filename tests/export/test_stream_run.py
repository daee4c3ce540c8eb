"""Streams from source to predictions: files, http, dropping, stopping, overlays."""

import threading
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.export.making_streams import http_server
from tests.export.making_streams import ramp
from tests.export.making_streams import send_file
from tests.export.making_streams import slope_model
from tests.export.making_streams import transport_stream
from tests.export.making_streams import write_video
from tsi_keras.data.decoding import read_video
from tsi_keras.data.video_container import VideoError
from tsi_keras.data.video_stream import VideoStream
from tsi_keras.export import StreamingClassifier
from tsi_keras.export import StreamPrediction
from tsi_keras.export import classify_stream
from tsi_keras.export.stream_caption import draw_caption
from tsi_keras.export.stream_caption import letter_size
from tsi_keras.export.stream_segments import merge_segments
from tsi_keras.utils.errors import InputError


@pytest.fixture(scope="module")
def model():
    return slope_model()


@pytest.fixture(scope="module")
def two_clips(tmp_path_factory):
    """Brighter for 3 s, then darker for 3 s."""
    pictures = np.concatenate([ramp(72, 20, 230), ramp(72, 230, 20)])
    return write_video(tmp_path_factory.mktemp("two") / "two.mp4", pictures)


def test_two_clips_in_a_row_get_their_labels_at_their_times(model, two_clips):
    classifier = StreamingClassifier(model, 1.0, 0.5)
    run = classify_stream(two_clips, classifier)
    predictions = list(run)
    for p in predictions:
        if p.end <= 3:
            assert p.label == "brighter"
        if p.start >= 3:
            assert p.label == "darker"
    first, second = merge_segments(predictions)
    assert (first.label, first.start, second.label, second.end) == (
        "brighter",
        0,
        "darker",
        6,
    )
    assert first.end == second.start == pytest.approx(3, abs=0.51)
    assert first.windows + second.windows == len(predictions) == 11
    summary = run.summary
    assert (summary.frames, summary.windows, summary.dropped) == (144, 11, 0)
    assert "144 frames, 11 windows" in str(summary)
    with pytest.raises(ValueError, match="iterated once"):
        next(iter(run))
    assert summary.seconds == pytest.approx(143 / 24, abs=1e-3)


def test_a_file_behind_http_is_classified_like_the_file(model, two_clips):
    data = two_clips.read_bytes()
    classifier = StreamingClassifier(model, 1.0, 0.5)
    wanted = [p.logits for p in classify_stream(two_clips, classifier)]
    with http_server(lambda handler: send_file(handler, data)) as address:
        found = [p.logits for p in classify_stream(address, classifier)]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_what_came_before_damage_is_classified(model, tmp_path):
    path = write_video(tmp_path / "v.mkv", ramp(96, 0, 200))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    found = []
    with pytest.raises(VideoError, match="last frame at"):
        for prediction in classify_stream(path, StreamingClassifier(model, 1.0, 0.5)):
            found.append(prediction)
    assert len(found) >= 2 and found[0].label == "brighter"


class LateStream(VideoStream):
    """A live source whose frames come only when the test says so."""

    def __init__(self, pictures):
        super().__init__("rtsp://nowhere/x")
        self.pictures = pictures
        self.first_windows = threading.Event()
        self.go_on = threading.Event()

    def __enter__(self):
        self.live = True
        return self

    def __iter__(self):
        for number, picture in enumerate(self.pictures):
            if number == 26:  # one window is complete
                self.first_windows.set()
                assert self.go_on.wait(60)
            self.num_frames += 1
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            yield frame, Fraction(number, 24)
        self.all_read = True


def test_a_slow_model_drops_windows_and_says_so(model):
    stream = LateStream(ramp(24 * 5 + 2, 0, 250))
    classifier = StreamingClassifier(model, 1.0, 0.5)
    run = classify_stream(stream, classifier)
    predictions = iter(run)
    first = next(predictions)
    # While the model "works", the rest comes in: windows 2 to 8 while one can wait.
    stream.go_on.set()
    reader = next(t for t in threading.enumerate() if t.name == "frames")
    reader.join(60)
    rest = list(predictions)
    assert first.start == 0 and first.dropped == 0
    assert [p.start for p in rest][-1] >= 4.0
    assert rest[-1].dropped == run.summary.dropped == 9 - 1 - len(rest) + 1
    assert run.summary.frames == len(stream.pictures)
    assert f"{run.summary.dropped} dropped" in str(run.summary)


def test_stop_ends_an_endless_source(model):
    stream = LateStream(ramp(60, 0, 250))
    run = classify_stream(stream, StreamingClassifier(model, 1.0, 0.5))
    for _ in run:
        run.stop()  # the source would wait for ever
    assert run.stopped and run.summary.windows == 1
    stream.go_on.set()


def test_memory_is_bounded_while_reading(model, two_clips):
    classifier = StreamingClassifier(model, 1.0, 0.5)
    for _ in classify_stream(two_clips, classifier):
        assert classifier.windows.num_held <= 2 * classifier.grid.length


def test_the_overlay_is_the_video_with_labels(model, two_clips, tmp_path):
    target = tmp_path / "out.mp4"
    classifier = StreamingClassifier(model, 1.0, 0.5)
    for _ in classify_stream(two_clips, classifier, overlay=target):
        assert not target.exists()
    before = read_video(two_clips, short_side=None, fps=None)
    after = read_video(target, short_side=None, fps=None)
    assert len(after.frames) == len(before.frames) == 144
    assert after.source_fps == pytest.approx(before.source_fps, rel=0.01)
    assert after.frames[0].shape == before.frames[0].shape
    # The labels differ, so the band does; the picture above it does not.
    one, other = after.frames[30].astype(int), after.frames[144 - 31].astype(int)
    assert np.abs(one[20:27] - other[20:27]).mean() < 6
    assert np.abs(one[30:] - other[30:]).max() > 60
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_the_overlay_keeps_uneven_times_and_odd_sizes(model, tmp_path):
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.choice([1, 2, 5], size=48)).tolist()
    pictures = ramp(48, 0, 250, size=(50, 66))
    source = write_video(tmp_path / "in.mp4", pictures, timestamps=times)
    target = tmp_path / "out.mp4"
    list(classify_stream(source, StreamingClassifier(model, 1.0), overlay=target))
    with VideoStream(source) as one, VideoStream(target) as other:
        wanted = [float(frame.seconds) for frame in one]
        found = [float(frame.seconds) for frame in other]
    assert len(found) == 48
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_the_overlay_of_a_live_source_ends_well(model, tmp_path):
    stream = LateStream(ramp(60, 0, 250))
    stream.go_on.set()
    target = tmp_path / "out.mp4"
    list(classify_stream(stream, StreamingClassifier(model, 1.0), overlay=target))
    assert len(read_video(target, short_side=None, fps=None).frames) == 60


@pytest.fixture
def earlier(tmp_path):
    """An overlay of an earlier run, and a file that another program left beside it."""
    (tmp_path / "out.mp4.part").write_bytes(b"not ours")
    (tmp_path / "out.mp4").write_bytes(b"earlier")
    yield tmp_path / "out.mp4"
    assert (tmp_path / "out.mp4.part").read_bytes() == b"not ours"
    assert len(list(tmp_path.iterdir())) == 2


def overlaid(model, source, target):
    classifier = StreamingClassifier(model, 1.0, 0.5)
    return classify_stream(source, classifier, overlay=target, overwrite=True)


def fail(window, dropped):
    raise InputError("scores are not finite")


def test_a_run_that_fails_leaves_the_earlier_overlay(model, two_clips, earlier):
    run = overlaid(model, two_clips, earlier)
    with pytest.raises(InputError, match="not finite"):
        for _ in run:
            run._classifier.classify = fail
    assert run._overlay._writer is not None  # something had been written
    assert earlier.read_bytes() == b"earlier"


def test_a_live_run_that_fails_leaves_the_earlier_overlay(model, earlier):
    stream = LateStream(ramp(60, 0, 250))
    run = overlaid(model, stream, earlier)
    with pytest.raises(InputError, match="not finite"):
        for _ in run:
            run._classifier.classify = fail
            stream.go_on.set()
    assert run._overlay._writer is not None
    assert earlier.read_bytes() == b"earlier"


def test_an_overlay_that_cannot_be_completed_leaves_the_earlier(
    model, two_clips, earlier
):
    run = overlaid(model, two_clips, earlier)
    predictions = iter(run)
    next(predictions)

    def full():
        raise OSError("No space left on device")

    run._overlay._writer.close = full
    with pytest.raises(OSError, match="No space"):
        list(predictions)
    assert earlier.read_bytes() == b"earlier"


@pytest.mark.parametrize(
    "error, frames", [(None, 18), (KeyboardInterrupt(), 18), (VideoError("bad"), 144)]
)
def test_what_ends_in_order_replaces_the_earlier_overlay(
    error, frames, model, two_clips, earlier
):
    run = overlaid(model, two_clips, earlier)
    predictions = iter(run)
    next(predictions)
    if error is None:
        run.stop()
        predictions.close()
    else:
        with pytest.raises(type(error)):
            predictions.throw(error)
    # Those nearer to the first window than to the next, or up to the damage.
    assert len(read_video(earlier, short_side=None, fps=None).frames) == frames


def test_leaving_the_loop_without_stop_leaves_the_earlier_overlay(
    model, two_clips, earlier
):
    predictions = iter(overlaid(model, two_clips, earlier))
    next(predictions)
    predictions.close()
    assert earlier.read_bytes() == b"earlier"


def test_the_overlay_of_a_file_in_the_home_folder_is_not_that_file(
    model, two_clips, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    video = tmp_path / "h.mp4"
    video.write_bytes(two_clips.read_bytes())
    for source, target in (("~/h.mp4",) * 2, (video, "~/h.mp4"), ("~/h.mp4", video)):
        with pytest.raises(InputError, match="is the video itself"):
            overlaid(model, source, target)
    assert video.read_bytes() == two_clips.read_bytes()


def test_overlays_that_cannot_be_written_are_refused(model, two_clips, tmp_path):
    classifier = StreamingClassifier(model)
    taken = tmp_path / "taken.mp4"
    taken.write_bytes(b"mine")
    for target, message in (
        (tmp_path / "x.avi", "must be a .mp4 file"),
        (tmp_path / "nowhere" / "x.mp4", "existing folder"),
        (taken, "exists; nothing was written"),
        (two_clips, "is the video itself"),
    ):
        with pytest.raises(InputError, match=message):
            classify_stream(two_clips, classifier, overlay=target)
    assert taken.read_bytes() == b"mine"


def prediction(label, start, end, probability=0.5):
    index = None if label is None else ord(label)
    return StreamPrediction(start, end, label, index, probability, [], 12)


def test_segments_share_the_time_out():
    windows = [
        prediction("a", 0, 4),
        prediction("a", 1, 5, 0.7),
        prediction("b", 2, 6),
        prediction(None, 3, 7),
        prediction("b", 12, 16),
        prediction("b", 13, 17),
    ]
    found = [(s.start, s.end, s.label, s.windows) for s in merge_segments(windows)]
    assert found == [
        (0, 3.5, "a", 2),
        (3.5, 4.5, "b", 1),
        (4.5, 7, None, 1),
        (12, 17, "b", 2),
    ]
    assert next(merge_segments(windows)).probability == pytest.approx(0.6)
    assert list(merge_segments([])) == []


@pytest.mark.parametrize("height, width", [(48, 64), (256, 340), (1080, 1920)])
def test_captions_fit_into_frames_of_any_size(height, width):
    frame = np.full((height, width, 3), 128, np.uint8)
    long = prediction("a", 0, 4)
    object.__setattr__(long, "label", "Übermäßig langer Name, очень длинное имя " * 9)
    drawn = draw_caption(frame, 3725.27, long)
    assert drawn.shape == frame.shape and (frame == 128).all()
    size = letter_size(width, height)
    assert 9 <= size <= 0.2 * height
    band = drawn[-round(2.1 * size) :]
    assert band.max() > 200 and band.min() < 60
    assert (drawn[height // 2, width // 2 :] == 128).all()
    waiting, unsure = draw_caption(frame, 0, None), draw_caption(frame, 0, None)
    np.testing.assert_array_equal(waiting, unsure)
    assert (draw_caption(frame, 0, prediction(None, 0, 1)) != waiting).any()


def test_transport_streams_are_read(model):
    data = transport_stream(ramp(48, 20, 230))
    with http_server(lambda handler: send_file(handler, data)) as address:
        stream = VideoStream(address, notify=lambda line: None)
        found = list(classify_stream(stream, StreamingClassifier(model, 1.0, 1.0)))
    assert {p.label for p in found} == {"brighter"}
