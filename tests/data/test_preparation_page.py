"""The report for readers: pictures, bars, and a size that does not grow with the data."""

import base64
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.data.making_videos import make_class_folder
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import ShardInfo
from tsi_keras.data.dataset_info import SplitInfo
from tsi_keras.data.preparation import prepare
from tsi_keras.data.preparation_page import render_html
from tsi_keras.data.preparation_page import show_verification
from tsi_keras.data.preparation_report import Failure
from tsi_keras.data.preparation_report import PreparationReport
from tsi_keras.data.preparation_report import write_report
from tsi_keras.data.thumbnails import sample_thumbnails
from tsi_keras.data.verification import ERROR
from tsi_keras.data.verification import Finding
from tsi_keras.data.verification import Verification
from tsi_keras.utils.files import read_json


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> PreparationReport:
    """Twelve videos in six shards."""
    folder = tmp_path_factory.mktemp("page")
    make_class_folder(folder / "videos", {"jump": 6, "wave": 6}, size=(96, 400))
    options = {"short_side": None, "workers": 1, "videos_per_shard": 2}
    return prepare(folder / "videos", folder / "data", **options)


def test_page_shows_stored_videos(prepared):
    page = prepared.html_path.read_text(encoding="utf-8")
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(pictures) == 12
    for data in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert image.size == (3 * 144, 72)  # three frames, each at most twice as wide
    for row in prepared.videos:
        assert row["id"] in page
    assert "http" not in page


def test_the_number_of_pictures_is_bounded(prepared):
    shown = list(sample_thumbnails(prepared.info, most=4))
    assert len(shown) == 4
    assert len({item.id for item in shown}) == 4
    assert list(sample_thumbnails(prepared.info, most=4)) == shown
    assert {item.split for item in shown} == {"train", "val", "test"} - {
        split for split in ("val", "test") if split not in {i.split for i in shown}
    }


def test_a_verification_replaces_the_one_before(prepared):
    finding = Finding(ERROR, "wrong <label>", "train: a", "no & no")
    outcome = Verification(
        folder=prepared.info.folder,
        num_shards=1,
        num_videos=2,
        counts={},
        frame_histogram={},
        findings=[finding],
        found={(ERROR, "wrong <label>"): 7},
    )
    for number in (3, 4):
        outcome.num_videos = number
        show_verification(outcome)
    page = prepared.html_path.read_text(encoding="utf-8")
    assert "4 videos in 1 shards read and decoded: 7 errors" in page
    assert "3 videos in" not in page
    assert "wrong &lt;label&gt;" in page
    assert page.count("<h2>Verification</h2>") == 1
    assert page.rstrip().endswith("</html>")


def many(number: int, folder: Path) -> PreparationReport:
    """A report on `number` stored and as many failed videos of 400 classes."""
    names = [f"class {i}" for i in range(400)]
    row = {"path": "/videos/x.mp4", "label": "class 0", "split": "train"}
    numbers = {"fps": 12.0, "height": 256, "width": 340, "bytes": 2_000_000}
    videos = [
        {"id": f"{i}.mp4", **row, **numbers, "num_frames": i % 300}
        for i in range(number)
    ]
    reason = "decoding failed after 28 of 50 frames: Invalid data found"
    failures = [Failure(f"bad {i}.mp4", reason=reason, **row) for i in range(number)]
    shards = [ShardInfo(f"{i}.tfrecord", 128, "0" * 64) for i in range(number // 128)]
    split = SplitInfo(number, dict.fromkeys(names, 1), shards)
    info = DatasetInfo(names, {"train": split}, {}, "0.1.0", folder=folder)
    return PreparationReport(info, videos, failures, [], [])


def test_the_page_of_many_videos_stays_small(tmp_path):
    small, large = (render_html(many(n, tmp_path)) for n in (2_000, 20_000))
    assert len(large) < 1.6 * len(small)
    assert len(large) < 500_000
    assert "19,500 more rows in report.json" in large


def test_report_json_keeps_every_row(tmp_path):
    report = many(1_000, tmp_path)
    report.notes.append('a "quoted" note')
    report.skipped.append(("notes.txt", "not a video name"))
    write_report(report)
    stored = read_json(report.json_path)
    assert stored["videos"] == report.videos
    assert [Failure(**row) for row in stored["failures"]] == report.failures
    assert stored["skipped"] == [{"path": "notes.txt", "reason": "not a video name"}]
    assert stored["notes"] == report.notes
    assert stored["totals"]["videos"] == 2_000
    lines = report.json_path.read_text(encoding="utf-8").count("\n")
    assert lines < 2_000 + 500  # a row a line
