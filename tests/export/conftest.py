"""What the tests of exports share; a whole export takes seconds."""

import pytest

from pipelines import export as command
from pipelines._command import run
from tests.evaluation.tiny import tiny_model
from tests.evaluation.tiny import write_dataset


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("export") / "data", range(5))


@pytest.fixture(scope="session")
def model():
    """Both modules of TSI, with the alignment's own gradient and its loop."""
    options = {"sme": {"reduction": 4}}
    return tiny_model("tsi", stages=(2,), blocks="first", temporal_options=options)


@pytest.fixture(scope="session")
def run_folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "my_run"
    folder.mkdir()
    model.save(folder / "best.keras")
    return folder


@pytest.fixture(scope="session")
def exported(run_folder, data, tmp_path_factory):
    """The command's own export, version 3 under the name of the run."""
    output = tmp_path_factory.mktemp("exports")
    arguments = ["--model", str(run_folder), "--output", str(output)]
    arguments += ["--data", str(data), "--version", "3", "--clips", "4"]
    assert run(command.main, arguments) == 0
    return output / "my_run" / "3"


@pytest.fixture(scope="session")
def small_export(tmp_path_factory):
    """Frames of one size, kernels in float16, BN folded, no warm-up, no data."""
    model = tiny_model("none", input_shape=(32, 32, 3))
    folder = tmp_path_factory.mktemp("small")
    model.save(folder / "small.keras")
    given = ["--model", str(folder / "small.keras"), "--output", str(folder / "out")]
    options = ["--weights", "float16", "--fold-bn", "--no-warmup", "--clips", "2"]
    assert run(command.main, [*given, *options]) == 0
    return model, folder / "out" / "small" / "1"
