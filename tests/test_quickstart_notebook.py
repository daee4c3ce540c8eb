"""The quickstart notebook runs from top to bottom and learns."""

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from tsi_keras.data.preparation import prepare
from tsi_keras.data.synthetic import SyntheticOptions
from tsi_keras.data.synthetic import write_dataset

TIMEOUT = 600  # seconds for a cell; the slowest takes about a minute on two cores
CLIPS_CELL = "make_dataset(data"
# What makes the notebook run in seconds, without learning.
SHORT = {
    "videos_per_class=190": "videos_per_class=20",
    "stages=(3, 4, 5)": "stages=(3,)",
    "epochs = 12 if prepared else 5": "epochs = 1",
    "steps - 10, ": "steps, ",
    "accuracy > 2 * chance": "accuracy >= 0",
}


@pytest.fixture
def notebook(repository: Path) -> NotebookNode:
    """The committed notebook."""
    return nbformat.read(repository / "notebooks" / "quickstart.ipynb", as_version=4)


def _run(
    notebook: NotebookNode, folder: Path, repository: Path, **variables: str
) -> None:
    """Execute all cells with `folder` as working directory."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MPLBACKEND", "TSI_DEMO_DATA")
    }
    paths = [str(repository), os.environ.get("PYTHONPATH")]
    environment = inherited | {
        "KERAS_BACKEND": "tensorflow",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        **variables,
    }
    client = NotebookClient(
        notebook, timeout=TIMEOUT, resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=environment)


def _outputs(notebook: NotebookNode) -> list[NotebookNode]:
    """What all cells put out, in order."""
    return [output for cell in _code_cells(notebook) for output in cell.outputs]


def _code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _printed(notebook: NotebookNode) -> str:
    """What all cells printed."""
    return "".join(
        output.text
        for output in _outputs(notebook)
        if output.output_type == "stream" and output.name == "stdout"
    )


def test_committed_without_outputs(notebook):
    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    assert notebook.metadata.kernelspec.name == "python3"
    assert not _outputs(notebook)
    assert all(cell.execution_count is None for cell in _code_cells(notebook))


def _accuracy(notebook: NotebookNode, folder: Path, repository: Path) -> float:
    """Run the notebook; the accuracy it prints at the end."""
    _run(notebook, folder, repository)
    outputs = _outputs(notebook)
    assert not [o for o in outputs if o.output_type == "error"]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 2  # the clips, and the contact sheet
    assert not list(folder.iterdir())  # it writes into its own temporary folder
    found = re.search(r"validation accuracy: ([\d.]+)", _printed(notebook))
    assert found, _printed(notebook)
    return float(found[1])


@pytest.mark.slow
def test_runs_and_learns(notebook, repository, tmp_path):
    assert 0.5 < _accuracy(notebook, tmp_path, repository) <= 1


def test_every_cell_runs(notebook, repository, tmp_path):
    """With few videos, one epoch and nothing learnt."""
    for old, new in SHORT.items():
        cells = [cell for cell in notebook.cells if old in cell.source]
        assert len(cells) == 1, f"the notebook has changed: {old}"
        cells[0].source = cells[0].source.replace(old, new)
    assert 0 <= _accuracy(notebook, tmp_path, repository) <= 1


def test_uses_the_data_set_it_is_given(notebook, repository, tmp_path):
    """With TSI_DEMO_DATA; up to the clips, as the rest is the same."""
    classes = ("approach", "rotate_clockwise", "shake_fast")
    options = SyntheticOptions(width=72, height=54, num_frames=8, classes=classes)
    videos = write_dataset(tmp_path / "videos", options, videos_per_class=10, workers=1)
    data = tmp_path / "data"
    prepare(videos, data, split="0.8/0.2/0", short_side=54, workers=1)
    last = next(i for i, c in enumerate(notebook.cells) if CLIPS_CELL in c.source)
    notebook.cells = notebook.cells[: last + 1]
    _run(notebook, tmp_path, repository, TSI_DEMO_DATA=str(data))
    assert str(list(classes)) in _printed(notebook)
    assert "videos prepared" not in _printed(notebook)
    assert "1 training batches, 1 validation batches" in _printed(notebook)
