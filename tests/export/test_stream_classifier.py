"""Windows of real files against the evaluation of the same pieces."""

import numpy as np
import pytest

from tests.data.making_videos import make_video
from tests.evaluation.tiny import moving_frames
from tests.evaluation.tiny import tiny_model
from tests.export.making_streams import ramp
from tests.export.making_streams import slope_model
from tests.export.making_streams import write_video
from tsi_keras.data.decoding import read_video
from tsi_keras.data.preprocessing import resize_and_center_crop
from tsi_keras.data.sampling import clip_indices
from tsi_keras.data.video_container import VideoError
from tsi_keras.evaluation.metrics import softmax
from tsi_keras.evaluation.predict import predict_videos
from tsi_keras.export import StreamingClassifier
from tsi_keras.export import classify_stream
from tsi_keras.export import stream_classifier
from tsi_keras.utils.errors import InputError

RATE = 24


@pytest.fixture(scope="module")
def model():
    return tiny_model("tim")


@pytest.fixture(scope="module")
def pictures():
    """Three seconds in which something happens, at 24 frames per second."""
    return np.concatenate([moving_frames(n, 12) for n in (0, 3, 5, 1, 6, 2)])


@pytest.fixture(scope="module")
def video(pictures, tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("stream") / "v.mp4", pictures)


def evaluated(model, path, start=None, end=None):
    """Logits of the evaluation for a piece of a file."""
    frames = read_video(path, short_side=48, fps=12, start=start, end=end).frames
    [chosen] = clip_indices(len(frames), 4)
    clip = resize_and_center_crop(
        np.stack([frames[i] for i in chosen]), short_side=48, crop_size=32
    )
    return model.predict_on_batch(clip[None])[0]


def classified(model, source, *args, **options):
    return list(classify_stream(source, StreamingClassifier(model, *args, **options)))


def test_windows_of_a_file_are_scored_as_the_evaluation_scores_pieces(model, video):
    predictions = classified(model, video, 1.0, 0.5)
    assert [p.start for p in predictions] == [0, 0.5, 1.0, 1.5, 2.0]
    for p in predictions:
        wanted = evaluated(model, video, p.start, p.end)
        np.testing.assert_allclose(p.logits, wanted, atol=1e-4)
        best = int(wanted.argmax())
        assert (p.index, p.label) == (best, model.class_names[best])
        assert p.probability == pytest.approx(softmax(wanted).max(), abs=1e-4)
    spread = np.ptp([p.logits for p in predictions], axis=0)
    assert spread.max() > 1  # the windows differ


def test_a_window_is_what_predict_says_of_the_cut_file(
    model, video, pictures, tmp_path
):
    cut = write_video(tmp_path / "cut.mp4", pictures[12:36])
    [wanted] = predict_videos(model, [cut])
    window = classified(model, video, 1.0, 0.5)[1]
    assert (window.start, window.end) == (0.5, 1.5)
    np.testing.assert_allclose(window.logits, wanted.logits, atol=1e-4)
    assert window.candidates[0].label == wanted.candidates[0].label


@pytest.mark.parametrize("window", [3.0, 8.0])
def test_a_file_of_one_window_and_a_shorter_one(model, video, window):
    [prediction] = classified(model, video, window)
    [wanted] = predict_videos(model, [video])
    np.testing.assert_allclose(prediction.logits, wanted.logits, atol=1e-4)
    assert (prediction.start, prediction.end) == (0, 3)
    assert prediction.num_stored == 36


@pytest.mark.parametrize("count, min_frames", [(3, 2), (5, 4), (1, 1)])
def test_short_files_are_padded_as_the_evaluation_pads(
    count, min_frames, pictures, tmp_path
):
    model = tiny_model(
        "tim",
        preprocessing={
            "short_side": 48,
            "crop_size": 32,
            "fps": 12.0,
            "min_frames": min_frames,
        },
    )
    short = write_video(tmp_path / "short.mp4", pictures[:count])
    [prediction] = classified(model, short)
    [wanted] = predict_videos(model, [short])
    np.testing.assert_allclose(prediction.logits, wanted.logits, atol=1e-4)


def test_too_short_a_file_is_an_error(model, pictures, tmp_path):
    short = write_video(tmp_path / "short.mp4", pictures[:1])
    with pytest.raises(VideoError, match="it has 1 frame; at least 2"):
        classified(model, short)


def test_variable_frame_rates_go_by_their_timestamps(model, pictures, tmp_path):
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.choice([1, 2, 3, 4], size=len(pictures)))
    times -= times[0]
    file = write_video(
        tmp_path / "vfr.mp4", pictures, rate=48, timestamps=times.tolist()
    )
    predictions = classified(model, file, 1.0, 1.0)
    # Without overlap, windows share out what a record of the file would hold.
    frames = read_video(file, short_side=48, fps=12).frames
    assert sum(p.num_stored for p in predictions) == len(frames)
    begin = 0
    for p in predictions:
        piece = frames[begin : begin + p.num_stored]
        [chosen] = clip_indices(len(piece), 4)
        clip = resize_and_center_crop(
            np.stack([piece[i] for i in chosen]), short_side=48, crop_size=32
        )
        wanted = model.predict_on_batch(clip[None])[0]
        np.testing.assert_allclose(p.logits, wanted, atol=1e-4)
        begin += p.num_stored


def test_rotated_videos_are_upright(model, tmp_path):
    for rotation in (0, 90):
        path = tmp_path / f"{rotation}.mp4"
        make_video(path, 24, size=(48, 64), rotation=rotation)
        [prediction] = classified(model, path, 2.0)
        [wanted] = predict_videos(model, [path])
        np.testing.assert_allclose(prediction.logits, wanted.logits, atol=1e-4)


def test_pushed_frames_are_scored_like_those_of_a_file(model, video):
    frames = read_video(video, short_side=48, fps=None).frames
    classifier = StreamingClassifier(model, 1.0, 0.5)
    pushed = []
    for number, frame in enumerate(frames):
        pushed += classifier.push(frame, number / RATE)
    assert len(pushed) == 5
    assert classifier.flush() == []
    for ours, theirs in zip(pushed, classified(model, video, 1.0, 0.5), strict=True):
        np.testing.assert_allclose(ours.logits, theirs.logits, atol=1e-4)
        assert ours.start == theirs.start
    # After `flush` another stream may begin, at any time.
    assert classifier.push(frames[0], 0.0) == []


def test_large_pushed_frames_are_scaled(model):
    large = moving_frames(2, 24).repeat(2, axis=1).repeat(2, axis=2)
    classifier = StreamingClassifier(model, 1.0)
    for number, frame in enumerate(large):
        classifier.push(frame, number / 12)
    [*_, held] = classifier.windows._frames
    assert held.crop.shape == (32, 32, 3)
    assert (
        np.abs(held.crop.astype(int) - moving_frames(2, 24)[22:24, 8:40, 16:48])
        .max(axis=(1, 2, 3))
        .min()
        < 60
    )


def test_no_reuse_gives_the_same(model, video):
    for ours, theirs in zip(
        classified(model, video, 1.0, 0.25),
        classified(model, video, 1.0, 0.25, reuse=False),
        strict=True,
    ):
        np.testing.assert_allclose(ours.logits, theirs.logits, atol=1e-4)


def test_smoothing_is_the_mean_of_the_last_windows(model, video):
    plain = classified(model, video, 1.0, 0.5)
    smooth = classified(model, video, 1.0, 0.5, 3)
    shares = [softmax(p.logits) for p in plain]
    for number, p in enumerate(smooth):
        wanted = np.mean(shares[max(0, number - 2) : number + 1], axis=0)
        assert p.probability == pytest.approx(wanted.max(), abs=1e-6)
        assert p.index == wanted.argmax()


def test_smoothing_begins_anew_after_a_gap():
    classifier = StreamingClassifier(slope_model(), 1.0, 1.0, smooth=5)
    results = []
    for begin, pictures in ((0, ramp(26, 0, 250)), (10, ramp(26, 250, 0))):
        for number, frame in enumerate(pictures):
            results += classifier.push(frame, begin + number / 12)
    assert [p.label for p in results][-1] == "darker"
    last = softmax(results[-1].logits)
    assert results[-1].probability == pytest.approx(last.max(), abs=1e-2)


def test_improbable_classes_are_no_label(model, video):
    for p in classified(model, video, 1.0, 0.5, min_probability=1.0, top_k=2):
        if p.probability < 1:
            assert (p.label, p.index) == (None, None)
        assert len(p.candidates) == 2


@pytest.mark.parametrize(
    "options, message",
    [
        ({"window": -1}, "--window"),
        ({"hop": 0}, "--hop"),
        ({"smooth": 0}, "`smooth`"),
        ({"top_k": 0}, "`top_k`"),
        ({"min_probability": 1.5}, "`min_probability` must be from 0 to 1"),
    ],
)
def test_bad_options_are_refused(model, options, message):
    with pytest.raises(InputError, match=message):
        StreamingClassifier(model, **options)


def test_models_without_usable_clip_options_are_refused(model, monkeypatch):
    """What `clip_options` refuses, sizes that do not fit among it, is not streamed."""
    refused = InputError("the model takes frames of another size")
    asked = []

    def refuse(given):
        asked.append(given)
        raise refused

    monkeypatch.setattr(stream_classifier, "clip_options", refuse)
    with pytest.raises(InputError) as caught:
        StreamingClassifier(model)
    assert caught.value is refused and asked == [model]


@pytest.mark.parametrize(
    "frame", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), "x", [[0]]]
)
def test_bad_frames_are_refused(model, frame):
    with pytest.raises(ValueError, match="`frame` must be a uint8 array"):
        StreamingClassifier(model).push(frame, 0)


def test_models_of_all_frames_need_the_rate_of_the_source(video):
    model = slope_model(fps=None)
    with pytest.raises(InputError, match="`rate` must tell"):
        StreamingClassifier(model)
    predictions = classified(model, video, 1.0, 1.0, rate=24)
    assert [p.num_stored for p in predictions] == [24, 24, 24]
    assert [p.start for p in predictions] == [0, 1, 2]


def test_scores_that_are_no_numbers_are_an_error(video):
    model = slope_model()
    model.get_layer("classifier").bias.assign([np.nan, 0])
    with pytest.raises(InputError, match="not finite"):
        classified(model, video)


def test_exports_are_found_without_importing_them():
    import tsi_keras.export

    assert "StreamingClassifier" in tsi_keras.export.__all__
    with pytest.raises(AttributeError, match="no attribute 'Streaming'"):
        _ = tsi_keras.export.Streaming


def test_a_real_clip_is_scored_as_its_pieces(model, real_videos):
    """28 frames per second: every third stored frame is a frame of the source's."""
    path = real_videos / "kinetics_arm_wrestling.mp4"
    predictions = classified(model, path, 4.0, 1.0)
    assert [p.start for p in predictions] == list(range(7))
    for p in predictions:
        wanted = evaluated(model, path, p.start, p.end)
        np.testing.assert_allclose(p.logits, wanted, atol=1e-4)
