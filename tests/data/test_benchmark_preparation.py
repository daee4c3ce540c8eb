"""The benchmark of the preparation measures what it says."""

import pytest

from pipelines._command import run
from pipelines.benchmark import main
from tests.data.making_videos import make_video
from tsi_keras.data import benchmark_preparation as benchmark
from tsi_keras.utils.errors import InputError


@pytest.fixture
def inline(monkeypatch):
    """Do the work in this process: no server of processes has to start."""

    class Pool:
        def __init__(self, workers, mp_context=None):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        map = staticmethod(map)

    monkeypatch.setattr(benchmark, "ProcessPoolExecutor", Pool)


def test_rows_have_the_columns_and_add_up(inline, tmp_path):
    video = make_video(tmp_path / "a.mp4", 24)
    rows = benchmark.benchmark_preparation(
        [video], workers=2, copies=2, repeats=3, short_side=24
    )
    assert [tuple(row) for row in rows] == [benchmark.COLUMNS] * 4
    assert [row["bare_loop_converts"] for row in rows] == [
        "every frame",
        "the stored frames",
        "no frame",
        "every frame",
    ]
    for row in rows:
        assert (row["processes"], row["videos"], row["repeats"]) == (2, 4, 3)
        assert row["ratio"] > 0
        assert row["cpu_ratio"] > 0


def test_the_bare_loop_converts_what_it_says(tmp_path, monkeypatch):
    video = make_video(tmp_path / "a.mp4", 24)
    sizes, real = [], benchmark.VideoReformatter()

    class Reformatter:
        def reformat(self, frame, **options):
            sizes.append((options["height"], options["width"]))
            return real.reformat(frame, **options)

    monkeypatch.setattr(benchmark, "VideoReformatter", Reformatter)
    for fps, number in ((None, 24), (0.0, 0), (6.0, 12), (12.0, 24), (99.0, 24)):
        sizes.clear()
        benchmark._bare([video], fps, 16, 0)
        assert sizes == [(16, 24)] * number


def test_a_video_that_fails_is_no_measurement(inline, tmp_path):
    (tmp_path / "bad.mp4").touch()
    with pytest.raises(InputError, match="bad.mp4 cannot be used: the file is empty"):
        benchmark._prepare(
            [tmp_path / "bad.mp4"],
            _state(tmp_path),
            benchmark.RecordOptions(12, 16, 90, 1),
            0,
        )


def test_a_video_that_breaks_on_the_way_is_no_measurement(inline, tmp_path):
    broken = make_video(tmp_path / "b.mp4", 48)
    with broken.open("r+b") as file:
        file.seek(broken.stat().st_size // 2)
        file.write(bytes(400))
    benchmark.check_measurable([broken])  # its header is as it should be
    with pytest.raises(InputError, match="b.mp4 cannot be used: damaged frame"):
        benchmark.benchmark_preparation(
            [broken], workers=1, copies=1, repeats=1, short_side=16
        )


@pytest.mark.parametrize(
    "words, message",
    [
        (["missing.mp4"], "missing.mp4 cannot be used: the file does not exist"),
        (["text.mp4"], "text.mp4 cannot be used: it is not a readable video"),
        (["a.mp4", "."], "cannot be used: it is a folder"),
        (["a.mp4", "--workers", "0"], "`workers` must be an integer of at least 1"),
        (["a.mp4", "--repeats", "0"], "`repeats` must be an integer of at least 1"),
    ],
)
def test_bad_input_is_2_in_one_line_and_removes_nothing(
    tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "a.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    earlier = tmp_path / "figures" / "preparation.json"
    earlier.parent.mkdir()
    earlier.write_text("precious")
    options = ["--output", "figures", "--overwrite"]
    assert run(main, ["prepare", *words, *options]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert earlier.read_text() == "precious"


def _state(folder):
    (folder / benchmark.STATE_FOLDER).mkdir()
    return folder
