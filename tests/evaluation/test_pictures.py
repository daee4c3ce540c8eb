"""The pictures are written, have the right size and react to their content."""

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.tiny import moving_frames
from tsi_keras.evaluation.contact_sheet import ClipCaption
from tsi_keras.evaluation.contact_sheet import draw_predictions
from tsi_keras.evaluation.plots import draw_confusion


def _pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def _clips(count=2, num_frames=8):
    return np.stack([moving_frames(n, num_frames) for n in range(count)])


@pytest.mark.parametrize("num_classes", [2, 12, 400])
def test_confusion_of_any_size(num_classes, tmp_path):
    confusion = np.eye(num_classes, dtype=int) * 5
    names = [f"a rather long class name ${i}_ that goes on" for i in range(num_classes)]
    path = draw_confusion(confusion, names, tmp_path / "a.png", title="title")
    pixels = _pixels(path)
    assert 400 < min(pixels.shape[:2]) and max(pixels.shape[:2]) < 4000
    # Dark blue cells; they vanish when no video has its class right.
    dark = (pixels[..., 2] - pixels[..., 0]).max()
    assert dark > 80
    shifted = draw_confusion(np.roll(confusion, 1, 1), names, tmp_path / "b.png")
    assert shifted.read_bytes() != path.read_bytes()


def test_class_without_videos_is_grey(tmp_path):
    confusion = np.diag([3, 0])
    pixels = _pixels(draw_confusion(confusion, ["a", "b"], tmp_path / "a.png"))
    grey = np.all(pixels == round(0.88 * 255), axis=-1)
    assert grey.mean() > 0.05
    full = _pixels(draw_confusion(np.diag([3, 1]), ["a", "b"], tmp_path / "b.png"))
    assert np.all(full == round(0.88 * 255), axis=-1).mean() < 0.01


def test_sheet_shows_the_frames_in_order(tmp_path):
    clips = np.zeros((1, 4, 20, 20, 3), np.uint8)
    clips[0] += np.array([10, 90, 170, 250], np.uint8)[:, None, None, None]
    caption = ClipCaption("up", 0.9, truth="up")
    pixels = _pixels(draw_predictions(clips, [caption], tmp_path / "a.png"))
    row = pixels[pixels.shape[0] // 2, :, 0]
    positions = [np.flatnonzero(row == value).mean() for value in (10, 90, 170, 250)]
    assert positions == sorted(positions)
    assert (row == 90).sum() == 224


def test_sheet_marks_right_and_wrong(tmp_path):
    right = ClipCaption("up", 0.9, truth="up")
    wrong = ClipCaption("up", 0.9, truth="down")
    unknown = ClipCaption("up", 0.9)
    colours = []
    for caption in (right, wrong, unknown):
        path = draw_predictions(_clips(1), [caption], tmp_path / "a.png")
        left = _pixels(path)[:, :400].reshape(-1, 3)
        saturated = left[np.ptp(left, axis=1) > 80]
        colours.append(saturated.mean(axis=0).argmax() if len(saturated) else None)
    assert colours == [1, 0, None]


def test_long_clips_and_names_fit(tmp_path):
    name = "Pretending to put something that is not there into something " * 3
    captions = [ClipCaption(name, 0.5, truth=name), ClipCaption("x", 1.0, truth=name)]
    path = draw_predictions(_clips(2, 24), captions, tmp_path / "a.png")
    assert _pixels(path).shape[1] < 3000
    # Text stops before the frames.
    gap = _pixels(path)[:, 28 + 470 - 20 : 28 + 470]
    assert (gap == 255).all()


@pytest.mark.parametrize(
    "clips, captions",
    [
        (_clips(2).astype("float32"), 2),
        (_clips(2)[0], 2),
        (_clips(2), 1),
        (_clips(2)[:0], 0),
    ],
)
def test_unusable_clips_are_refused(clips, captions, tmp_path):
    with pytest.raises(ValueError, match="must be"):
        captions = [ClipCaption("a", 0.5)] * captions
        draw_predictions(clips, captions, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
