"""Windows over streams of all kinds of timing, without a model."""

from fractions import Fraction

import numpy as np
import pytest

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.frame_selection import KeepNearest
from tsi_keras.data.sampling import clip_indices
from tsi_keras.data.video_container import VideoError
from tsi_keras.export.stream_windows import WindowMaker
from tsi_keras.export.stream_windows import plan_windows
from tsi_keras.utils.errors import InputError

SEGMENTS = ClipOptions(num_frames=4, crop_size=8, short_side=8)
DENSE = ClipOptions(num_frames=8, crop_size=8, short_side=8, sampling="dense")


def picture(number: int):
    """Makes a frame that tells its number."""
    return lambda: np.full((1, 1, 3), number)


def run(times, *, fps=12.0, options=SEGMENTS, min_frames=2, window=1.0, hop=0.5):
    """All windows of a stream with frames at `times`, and the maker."""
    rate = Fraction(fps or 12).limit_denominator(1_000_000)
    maker = WindowMaker(plan_windows(options, rate, window, hop), fps, min_frames)
    windows = []
    for number, time in enumerate(times):
        windows += maker.push(picture(number), Fraction(time))
    return windows + maker.flush(), maker


def numbers(window):
    return [int(frame.crop.flat[0]) for frame in window.frames]


def every(rate, count):
    return [Fraction(i) / rate for i in range(count)]


@pytest.mark.parametrize(
    "options, window, hop, length, step",
    [
        (SEGMENTS, None, None, 48, 12),  # 4 s at 12 a second, in quarters
        (SEGMENTS, 1.9, 0.3, 24, 6),  # 22.8 -> 4 x 6 frames; 3.6 -> one unit of 6
        (SEGMENTS, 0.01, 9.0, 4, 108),
        (DENSE, None, None, 64, 16),
        (DENSE, 8.0, 1.0, 96, 16),
    ],
)
def test_lengths_are_rounded_to_shared_frames(options, window, hop, length, step):
    grid = plan_windows(options, Fraction(12), window, hop)
    assert (grid.length, grid.hop) == (length, step)
    [first] = clip_indices(grid.length, options.num_frames, options.sampling)
    ahead = set(first + grid.hop)
    shared = len(ahead & set(first))
    assert shared == options.num_frames - grid.new_frames or grid.hop > grid.length


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_lengths_that_are_none_are_refused(seconds):
    with pytest.raises(InputError, match="--window"):
        plan_windows(SEGMENTS, Fraction(12), seconds)
    with pytest.raises(InputError, match="--hop"):
        plan_windows(SEGMENTS, Fraction(12), 1, seconds)


@pytest.mark.parametrize("source", [12, 24, 48])
def test_windows_are_clips_of_their_frames(source):
    windows, maker = run(every(source, 3 * source))
    step = source // 12
    assert [(w.start, w.end) for w in windows] == [
        (0.5 * i, 0.5 * i + 1) for i in range(5)
    ]
    for number, window in enumerate(windows):
        [chosen] = clip_indices(12, 4)
        assert numbers(window) == [step * (6 * number + i) for i in chosen]
        assert window.joined and window.num_stored == 12
    assert maker.unusable == 0 and maker.num_stored == 36


def test_frames_are_the_same_objects_in_all_windows():
    windows, _ = run(every(24, 72))
    ahead = set(windows[0].frames) & set(windows[1].frames)
    assert len(ahead) == 2


@pytest.mark.parametrize("seed", range(8))
def test_any_timing_stores_what_a_preparation_stores(seed):
    rng = np.random.default_rng(seed)
    steps = rng.choice([1, 2, 3, 5, 40], p=[0.3, 0.3, 0.2, 0.18, 0.02], size=200)
    times = [Fraction(int(t), 60) for t in np.cumsum(steps)]
    selector, kept = KeepNearest(12.0), []
    for number, time in enumerate(times):
        kept += selector.push(number, time - times[0])
    kept += selector.finish()
    windows, maker = run(times, window=1.0, hop=1.0, min_frames=1)
    assert maker.num_stored == len(kept)
    # Windows that do not overlap share the stored frames out, in order.
    sizes = [window.num_stored for window in windows]
    assert sum(sizes) == len(kept)
    ends = np.cumsum(sizes)
    for window, size, end in zip(windows, sizes, ends, strict=True):
        held = kept[end - size : end]
        assert numbers(window) == [held[i] for i in clip_indices(size, 4)[0]]
    last = round(windows[-1].start - float(times[0]))
    assert maker.unusable == last + 1 - len(windows)


def test_a_gap_leaves_windows_with_fewer_frames_or_none():
    times = [*every(24, 30), *(Fraction(20) + t for t in every(24, 60))]
    windows, maker = run(times)
    assert maker.unusable == 36
    ends = [window.end for window in windows]
    assert ends == [1.0, 1.5, 2.0, 20.5, 21.0, 21.5, 22.0, 22.5]
    assert [w.num_stored for w in windows] == [12, 10, 4, 6, 12, 12, 12, 12]
    assert [w.joined for w in windows] == [True] * 3 + [False] + [True] * 4
    assert min(numbers(windows[3])) == 30


def test_a_wrong_clock_costs_no_time():
    times = [*every(24, 30), *(Fraction(10**9) + t for t in every(24, 60))]
    windows, maker = run(times)
    assert maker.unusable > 10**9
    assert len(windows) == 8


def test_a_slow_source_gives_all_its_frames():
    windows, _ = run(every(5, 11))
    assert [w.num_stored for w in windows] == [5, 5, 5, 3]
    for window in windows:
        assert len(numbers(window)) == 4
        assert all(window.start - 0.05 < f.seconds < window.end for f in window.frames)


def test_every_frame_is_stored_where_records_hold_every_frame():
    windows, _ = run(every(10, 31), fps=None, window=1.0, hop=1.0)
    assert windows[0].num_stored == 12  # counted by the stated rate
    assert numbers(windows[1]) == list(12 + clip_indices(12, 4)[0])
    assert windows[1].start == 1.2


@pytest.mark.parametrize("count", [2, 3, 5, 10, 20])
def test_a_short_stream_is_one_window(count):
    windows, _ = run(every(12, count), window=4.0)
    [window] = windows
    assert numbers(window) == list(clip_indices(count, 4)[0])
    assert window.start == 0 and window.end == pytest.approx(count / 12)


def test_a_very_short_stream_is_not_thinned():
    windows, _ = run(every(48, 5), min_frames=4)
    assert numbers(windows[0]) == list(clip_indices(5, 4)[0])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_frames_are_an_error(count):
    with pytest.raises(VideoError, match=f"it has {count} frames?; at least 4"):
        run(every(12, count), min_frames=4)


def test_nothing_at_all_is_nothing():
    assert run([])[0] == []


def test_the_end_is_covered_once():
    windows, _ = run(every(12, 27))
    assert [(w.start, w.end) for w in windows][-1] == (1.5, 2.25)
    assert [w.end for w in run(every(12, 24))[0]] == [1.0, 1.5, 2.0]


def test_windows_may_leave_holes():
    windows, _ = run(every(12, 60), window=1.0, hop=2.0)
    assert [w.start for w in windows] == [0, 2, 4]


def test_a_window_is_there_with_the_frame_after_its_last():
    grid = plan_windows(SEGMENTS, Fraction(12), 1.0, 0.5)
    maker = WindowMaker(grid, 12.0, 2)
    came = [len(maker.push(picture(i), Fraction(i, 24))) for i in range(36)]
    assert [i for i, count in enumerate(came) if count] == [23, 35]


def test_memory_is_bounded():
    grid = plan_windows(SEGMENTS, Fraction(12), 2.0, 0.5)
    maker = WindowMaker(grid, 12.0, 2)
    most = 0
    for number in range(5000):
        maker.push(picture(number), Fraction(number, 30))
        most = max(most, maker.num_held)
    assert most <= grid.length + 1


def test_time_must_grow():
    grid = plan_windows(SEGMENTS, Fraction(12))
    maker = WindowMaker(grid, 12.0, 2)
    maker.push(picture(0), Fraction(1))
    with pytest.raises(ValueError, match="must grow.*1.0 after 1.0"):
        maker.push(picture(1), Fraction(1))
