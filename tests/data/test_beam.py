"""The preparation as an Apache Beam pipeline on the DirectRunner."""

from pathlib import Path

import pytest

from pipelines._command import run
from pipelines.prepare import main
from tests.data.making_videos import make_class_folder
from tests.data.s3_storage import BUCKET
from tests.data.s3_storage import in_child
from tests.data.s3_storage import storage
from tsi_keras.data.preparation import prepare
from tsi_keras.data.shards import PreparationError
from tsi_keras.utils.errors import InputError

OPTIONS = {"short_side": 24, "videos_per_shard": 2}
DIRECT = {"runner": "DirectRunner"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Two classes of four clips; one file is empty."""
    folder = make_class_folder(tmp_path_factory.mktemp("v"), {"jump": 4, "wave": 4})
    (folder / "wave" / "empty.mp4").touch()
    return folder


def shards(folder: Path) -> dict[str, bytes]:
    """The TFRecord files of a data set."""
    return {path.name: path.read_bytes() for path in folder.glob("*.tfrecord")}


def test_beam_writes_the_same_shards_and_report(videos, tmp_path):
    local = prepare(videos, tmp_path / "local", workers=1, **OPTIONS)
    piped = prepare(videos, tmp_path / "beam", **DIRECT, **OPTIONS)
    assert len(shards(tmp_path / "local")) > 3
    assert shards(tmp_path / "beam") == shards(tmp_path / "local")
    assert piped.info == local.info
    assert piped.failures == local.failures != []
    assert piped.videos == local.videos


def test_beam_resumes_by_the_shards_that_are_there(videos, tmp_path):
    folder = tmp_path / "data"
    prepare(videos, folder, workers=1, **OPTIONS)
    before = shards(folder)
    stamps = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tfrecord")}
    lost = sorted(before)[0]
    (folder / lost).unlink()
    prepare(videos, folder, resume=True, **DIRECT, **OPTIONS)
    assert shards(folder) == before
    for path in folder.glob("*.tfrecord"):
        assert (path.stat().st_mtime_ns == stamps[path.name]) == (path.name != lost)


def test_a_shard_that_cannot_be_written_is_told(videos, tmp_path):
    from tsi_keras.data.beam_preparation import write_shards_on
    from tsi_keras.data.preparation_job import read_job
    from tsi_keras.data.preparation_options import PreparationOptions
    from tsi_keras.data.remote_output import Place

    job = read_job(videos, tmp_path / "x", PreparationOptions(**OPTIONS))
    missing = tmp_path / "no" / "folder"
    with pytest.raises(PreparationError, match="cannot be written") as caught:
        write_shards_on(
            job.tasks(),
            missing,
            job.record,
            place=Place(missing, {}),
            runner_options=(),
            on_progress=lambda done: None,
            **DIRECT,
        )
    assert "\n" not in str(caught.value)


def test_options_go_to_beam_and_nonsense_is_refused(videos, tmp_path, capsys):
    from tsi_keras.data.beam_preparation import pipeline_options

    options = pipeline_options("DirectRunner", ["--direct_num_workers=2"])
    assert options.get_all_options()["direct_num_workers"] == 2
    arguments = ["--input", str(videos), "--output", str(tmp_path / "data")]
    beam = ["--runner", "DirectRunner", "--direct_num_wokers", "2"]
    assert run(main, [*arguments, *beam]) == 2
    assert "unknown argument --direct_num_wokers" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
    assert run(main, [*arguments, "--runner", "NoSuchRunner"]) == 2
    assert "NoSuchRunner" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--direct_num_workers", "2"])
    assert stop.value.code == 2


def test_options_of_beam_need_a_runner(videos, tmp_path):
    with pytest.raises(InputError, match="need --runner"):
        prepare(videos, tmp_path / "data", runner_options=["--region=x"])


def pipe_to(source: str, output: str) -> int:
    """Prepare to remote storage with Beam."""
    return prepare(source, output, **DIRECT, **OPTIONS).num_prepared


@pytest.mark.slow
def test_beam_publishes_from_its_workers(videos, tmp_path):
    prepare(videos, tmp_path / "local", workers=1, **OPTIONS)
    with storage() as s3:
        output = f"s3://{BUCKET}/beam"
        found, _ = in_child(pipe_to, s3.settings(), str(videos), output)
        content = s3.content("beam")
    assert found == 8
    assert "dataset.json" in content
    there = {n: data for n, data in content.items() if n.endswith(".tfrecord")}
    assert there == shards(tmp_path / "local")
