"""Synthetic videos: what they show, that they hide it well, and the files."""

import hashlib
import json
import subprocess
import sys

import av
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tsi_keras.data.synthetic import CLASSES
from tsi_keras.data.synthetic import SyntheticOptions
from tsi_keras.data.synthetic import render_clip
from tsi_keras.data.synthetic import video_seed
from tsi_keras.data.synthetic import write_dataset
from tsi_keras.data.synthetic.__main__ import main
from tsi_keras.data.synthetic.motions import MOTIONS
from tsi_keras.data.synthetic.motions import frame_times
from tsi_keras.data.synthetic.motions import resting_pose
from tsi_keras.utils.errors import InputError

SMALL = SyntheticOptions(width=64, height=48, num_frames=24)
TINY = SyntheticOptions(
    width=48, height=32, num_frames=8, fps=8, classes=("appear", "move_up")
)
REVERSED = [
    ("move_right", "move_left"),
    ("move_down", "move_up"),
    ("approach", "recede"),
    ("rotate_clockwise", "rotate_counterclockwise"),
    ("appear", "vanish"),
]


def _digest(frames: np.ndarray) -> str:
    return hashlib.sha256(frames.tobytes()).hexdigest()


def _decode(path) -> tuple[np.ndarray, float, str]:
    """Frames, frame rate and codec of a file."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate, codec = float(stream.average_rate), stream.codec_context.name
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(stream)]
    return np.stack(frames), rate, codec


def _clips(class_name: str, count: int, options=SMALL) -> list[np.ndarray]:
    seeds = (video_seed(3, class_name, i) for i in range(count))
    return [render_clip(class_name, seed, options) for seed in seeds]


# --- content ---------------------------------------------------------------------


def test_clips_have_the_promised_form_and_move():
    options = SyntheticOptions(width=50, height=40, num_frames=9, camera_motion=0)
    assert len(CLASSES) == len(set(CLASSES)) == 14
    for class_name in CLASSES:
        frames = render_clip(class_name, 1, options)
        assert frames.shape == (9, 40, 50, 3)
        assert frames.dtype == np.uint8
        assert frames.flags.c_contiguous
        assert len({_digest(frame) for frame in frames}) > 1, class_name


def test_same_seed_same_pixels_other_seed_other_pixels():
    clip = render_clip("shake_fast", 5, SMALL)
    assert (clip == render_clip("shake_fast", 5, SMALL)).all()
    assert (clip != render_clip("shake_fast", 6, SMALL)).mean() > 0.5


def test_pairs_are_each_other_in_reverse():
    for forwards, backwards in REVERSED:
        clip = render_clip(forwards, 11, SMALL)
        assert (clip[::-1] == render_clip(backwards, 11, SMALL)).all(), forwards
        assert (clip[0] != clip[-1]).any(), forwards


def test_scene_does_not_depend_on_the_class():
    corners = {_digest(render_clip(c, 2, SMALL)[[0, -1], :2, :2]) for c in CLASSES}
    # One scene, whose camera path runs either forwards or backwards.
    assert len(corners) == 2


def test_without_camera_motion_only_the_object_changes():
    still = SyntheticOptions(width=64, height=48, camera_motion=0)
    clip = render_clip("rotate_clockwise", 4, still).astype(int)
    changed = (np.ptp(clip, axis=0) > 0).any(-1).mean()
    assert 0.01 < changed < 0.5
    moving = render_clip("rotate_clockwise", 4, SMALL).astype(int)
    assert (np.ptp(moving, axis=0) > 0).any(-1).mean() > 0.9


# --- no single frame tells the class ---------------------------------------------


def _poses(class_name: str, count: int):
    """Poses of the actor in `count` clips of 24 frames."""
    rng, motion = np.random.default_rng(0), MOTIONS[class_name]
    for _ in range(count):
        pose = resting_pose(rng, 24)
        motion.animate(pose, rng, frame_times(24))
        yield pose


def _moments(pose) -> list[float]:
    """Means over frames that uniform draws would make 0, 1/12 and 0."""
    x, y, z = pose.across - 0.5, pose.down - 0.5, pose.zoom - 0.5
    turn = np.radians(pose.angle)
    values = [x, y, z, x * x, y * y, z * z, x * y, np.cos(turn)]
    return [value.mean() for value in np.broadcast_arrays(*values)]


@pytest.mark.parametrize("class_name", CLASSES)
def test_each_frame_has_the_same_distribution_in_every_class(class_name):
    poses = list(_poses(class_name, 2000))
    moments = np.array([_moments(pose) for pose in poses])
    expected = [0, 0, 0, 1 / 12, 1 / 12, 1 / 12, 0, 0]
    margin = 5 * moments.std(0) / np.sqrt(len(poses)) + 2e-4
    assert (np.abs(moments.mean(0) - expected) < margin).all()
    # One or two objects with equal chances: the companion's 1/2, or the actor's 1/2.
    seen = np.mean([pose.visible.mean() for pose in poses])
    companion = 1 if MOTIONS[class_name].companion else 0.5
    assert seen + companion == pytest.approx(1.5, abs=0.015)


def _frame_features(frames: np.ndarray) -> np.ndarray:
    """Per frame: thumbnail, channel statistics, edges and histograms; `(T, F)`."""
    pixels = frames.astype(np.float32) / 255
    thumbnail = pixels.reshape(len(pixels), 6, 8, 8, 8, 3).mean((2, 4))
    bins = (frames // 32).astype(int) + 8 * np.arange(3)
    histogram = [np.bincount(b.ravel(), minlength=24) for b in bins]
    edges = np.abs(np.diff(pixels, axis=2)).mean((1, 2))
    statistics = [pixels.mean((1, 2)), pixels.std((1, 2)), edges]
    size = frames.shape[1] * frames.shape[2]
    return np.concatenate(
        [thumbnail.reshape(len(pixels), -1), np.array(histogram) / size, *statistics],
        axis=1,
    )


def _accuracy(model, features: np.ndarray, labels: np.ndarray) -> float:
    return cross_val_score(model, features, labels, cv=5).mean()


@pytest.fixture(scope="module")
def averaged():
    """Frame features averaged over each clip, as a TSN sees it, and labels."""
    per_class, rng = 40, np.random.default_rng(0)
    short = SyntheticOptions(width=64, height=48, num_frames=12)
    clips = [clip for c in CLASSES for clip in _clips(c, per_class, short)]
    features = np.array([_frame_features(clip).mean(0) for clip in clips])
    order = rng.permutation(len(clips))
    return features[order], np.repeat(np.arange(len(CLASSES)), per_class)[order]


def _models():
    forest = RandomForestClassifier(50, min_samples_leaf=2, random_state=0)
    linear = make_pipeline(StandardScaler(), RidgeClassifier(alpha=300))
    return {"linear": linear, "forest": forest}


@pytest.mark.parametrize("model", ["linear", "forest"])
def test_averaged_frames_do_not_tell_the_class(averaged, model):
    features, labels = averaged
    chance = 1 / len(CLASSES)
    sampling = np.sqrt(chance * (1 - chance) / len(labels))
    accuracy = _accuracy(_models()[model], features, labels)
    assert accuracy < 1.3 * chance + 2 * sampling  # 0.115


def test_the_leak_test_finds_a_leak(averaged):
    """The same forest on the same clips, pairs of classes made brighter."""
    features, labels = averaged
    leaking = features.copy()
    leaking[:, :144] += 0.1 * (labels[:, None] % 7)  # the thumbnail
    assert _accuracy(_models()["forest"], leaking, labels) > 0.2


# --- the order of the frames does ------------------------------------------------


def _centroid_shift(frames: np.ndarray, axis: int) -> float:
    """How far the place of strong changes moves; axis 0 is x, 1 is y."""
    change = np.abs(np.diff(frames.astype(np.float32).mean(-1), axis=0))
    change = np.where(change > 40, change, 0)
    weight = change.sum(axis=(1 + axis,)) + 1e-6
    place = weight @ np.arange(weight.shape[1]) / weight.sum(1)
    strength, third = weight.sum(1), len(change) // 3
    late = np.average(place[-third:], weights=strength[-third:])
    return late - np.average(place[:third], weights=strength[:third])


def _detail_gain(frames: np.ndarray) -> float:
    """How much more edges the last frames have than the first."""
    edges = np.abs(np.diff(frames.astype(np.float32), axis=2)).mean((1, 2, 3))
    return edges[-6:].mean() - edges[:6].mean()


@pytest.mark.parametrize(
    "positive,negative,feature",
    [
        ("move_right", "move_left", lambda f: _centroid_shift(f, 0)),
        ("move_down", "move_up", lambda f: _centroid_shift(f, 1)),
        ("appear", "vanish", _detail_gain),
        ("approach", "recede", _detail_gain),
    ],
)
def test_a_simple_temporal_feature_tells_the_pair(positive, negative, feature):
    right = [feature(clip) > 0 for clip in _clips(positive, 20)]
    right += [feature(clip) < 0 for clip in _clips(negative, 20)]
    assert np.mean(right) > 0.85


# --- files -----------------------------------------------------------------------


def test_files_decode_to_the_rendered_frames(tmp_path):
    folder = write_dataset(tmp_path / "set", TINY, videos_per_class=2, workers=1)
    files = sorted(p.relative_to(folder).as_posix() for p in folder.glob("*/*"))
    assert files == [
        "appear/appear_00000.mp4",
        "appear/appear_00001.mp4",
        "move_up/move_up_00000.mp4",
        "move_up/move_up_00001.mp4",
    ]
    frames, rate, codec = _decode(folder / files[1])
    assert frames.shape == (8, 32, 48, 3)
    assert (rate, codec) == (8.0, "h264")
    rendered = render_clip("appear", video_seed(0, "appear", 1), TINY)
    assert np.abs(frames.astype(int) - rendered).mean() < 8
    info = json.loads((folder / "synthetic.json").read_text())
    assert (info["seed"], info["videos_per_class"]) == (0, 2)
    assert SyntheticOptions(**info["options"]) == TINY


def test_files_do_not_depend_on_workers_or_number_of_videos(tmp_path):
    one = write_dataset(tmp_path / "1", TINY, videos_per_class=2, workers=1)
    two = write_dataset(tmp_path / "2", TINY, videos_per_class=3, workers=2)
    for path in one.glob("*/*.mp4"):
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()
    assert len(list(two.glob("*/*.mp4"))) == 6


def test_another_seed_gives_other_videos(tmp_path):
    one = write_dataset(tmp_path / "1", TINY, videos_per_class=1, seed=1, workers=1)
    two = write_dataset(tmp_path / "2", TINY, videos_per_class=1, seed=2, workers=1)
    for path in one.glob("*/*.mp4"):
        assert path.read_bytes() != (two / path.relative_to(one)).read_bytes()


# --- bad input -------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"width": -8}, "`width` must be 32 to 4096"),
        ({"width": 65}, "use 66"),
        ({"height": 45}, "`height` must be even"),
        ({"height": 48.0}, "`height` must be an integer"),
        ({"num_frames": 2}, "`num_frames` must be 8"),
        ({"fps": 0}, "`fps` must be 1"),
        ({"fps": float("nan")}, "`fps` must be 1"),
        ({"camera_motion": 1.5}, "`camera_motion` must be 0 to 1"),
        ({"camera_motion": "big"}, "`camera_motion` must be a number"),
        ({"crf": 52}, "`crf` must be 0 to 51"),
        ({"classes": ()}, "`classes` is empty"),
        ({"classes": ("appear", "appear")}, "twice"),
        ({"classes": "appear"}, "`classes` must be a sequence"),
        ({"classes": ("jump",)}, "unknown class 'jump'.*move_left.*shake_slow"),
    ],
)
def test_bad_options_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        SyntheticOptions(**arguments)


@pytest.mark.parametrize(
    "argument,value", [("videos_per_class", 0), ("seed", -1), ("workers", 0)]
)
def test_bad_arguments_write_nothing(tmp_path, argument, value):
    with pytest.raises(InputError, match=f"`{argument}` must be .* {argument}={value}"):
        write_dataset(tmp_path / "set", TINY, **{argument: value})
    assert not (tmp_path / "set").exists()


def test_unknown_class_cannot_be_rendered():
    with pytest.raises(InputError, match="unknown class 'jump'"):
        render_clip("jump", 0, SMALL)


def test_filled_folder_is_kept_unless_overwrite_is_given(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    make = {"options": TINY, "videos_per_class": 1, "workers": 1}
    with pytest.raises(InputError, match="is not empty; nothing was written"):
        write_dataset(tmp_path, **make)
    with pytest.raises(InputError, match="nothing was removed"):
        write_dataset(tmp_path, overwrite=True, **make)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "move_up").mkdir()  # what an interrupted run leaves
    write_dataset(tmp_path, overwrite=True, **make)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"appear", "move_up", "synthetic.json"}


# --- command line ----------------------------------------------------------------


def test_command_writes_the_set_and_says_so(tmp_path, capsys):
    folder = tmp_path / "set"
    arguments = "--videos-per-class 1 --width 48 --height 32 --num-frames 8 --fps 5"
    arguments += f" --classes vanish --seed 3 --workers 1 --output {folder}"
    assert main(arguments.split()) == 0
    assert "1 videos of 1 classes in " in capsys.readouterr().out.replace("\n", "")
    frames, rate, _ = _decode(folder / "vanish" / "vanish_00000.mp4")
    assert frames.shape == (8, 32, 48, 3)
    assert rate == 5


def _command(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tsi_keras.data.synthetic", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_bad_input_is_one_line_and_status_2(tmp_path):
    result = _command("--output", str(tmp_path / "set"), "--width", "33")
    assert result.returncode == 2
    assert result.stderr.startswith("error: `width` must be even")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "set").exists()


def test_help_names_every_class():
    result = _command("--help")
    assert result.returncode == 0
    assert all(f"\n  {name} " in result.stdout for name in CLASSES)


def test_neither_tensorflow_nor_keras_is_imported():
    code = (
        "import sys, tsi_keras.data.synthetic as s; s.render_clip('appear', 0);"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
