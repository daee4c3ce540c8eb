"""TF Serving's configuration files: valid, and a user's edits are kept."""

import re

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

import tsi_keras.export.comparison as comparison
import tsi_keras.export.saved_model as saved_model
from tests.evaluation.tiny import tiny_model
from tsi_keras.export.saved_model import export_saved_model
from tsi_keras.export.serving_files import write_serving_files


@pytest.fixture
def folder(tmp_path):
    write_serving_files(tmp_path, "jumps.v2")
    return tmp_path / "serving"


def test_models_config(folder):
    text = (folder / "models.config").read_text()
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (config,) = parsed.model_config_list.config
    assert (config.name, config.base_path) == ("jumps.v2", "/models/jumps.v2")
    assert config.model_platform == "tensorflow"
    assert config.model_version_policy.latest.num_versions == 1
    for advice in ("--enable_batching", "$PWD:/models/jumps.v2:ro", "specific {"):
        assert advice in text


def test_what_the_comments_offer_is_valid(folder):
    text = (folder / "models.config").read_text()
    text = text.replace("# version_labels", "version_labels")
    (specific,) = re.findall(r"specific \{.*\}", text)
    text = text.replace("latest { num_versions: 1 }", specific)
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (config,) = parsed.model_config_list.config
    assert config.model_version_policy.specific.versions == [1, 2]
    assert config.version_labels == {"stable": 1}


# The fields of `BatchingParameters` in TF Serving's session_bundle_config.proto, which
# is not part of tensorflow-serving-api; all but the last are wrapped numbers.
FIELDS = {
    "max_batch_size",
    "batch_timeout_micros",
    "num_batch_threads",
    "max_enqueued_batches",
    "allowed_batch_sizes",
}


def test_batching_parameters(folder):
    text = (folder / "batching_parameters.txt").read_text()
    lines = [line for line in text.splitlines() if line and line[0] != "#"]
    found = dict(
        re.fullmatch(r"(\w+) \{ value: (\d+) \}", line).groups() for line in lines
    )
    assert set(found) == FIELDS - {"allowed_batch_sizes"}
    assert found["max_batch_size"] == "8"
    offered = re.findall(r"^# (\w+): (\d+)$", text, re.MULTILINE)
    assert offered == [("allowed_batch_sizes", "1"), ("allowed_batch_sizes", "8")]


def test_edited_files_are_kept(folder):
    edited = folder / "models.config"
    edited.write_text("# mine\n")
    assert write_serving_files(folder.parent, "jumps.v2") == []
    assert edited.read_text() == "# mine\n"
    (folder / "batching_parameters.txt").unlink()
    written = write_serving_files(folder.parent, "jumps.v2")
    assert [path.name for path in written] == ["batching_parameters.txt"]
    assert edited.read_text() == "# mine\n"
    assert len(write_serving_files(folder.parent, "jumps.v2", overwrite=True)) == 2
    assert 'name: "jumps.v2"' in edited.read_text()


def test_exports_keep_them_unless_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr(saved_model, "write_saved_model", _write_nothing)
    monkeypatch.setattr(comparison, "measure_parity", lambda *_, **__: {"clips": []})
    model, edited = tiny_model("none"), tmp_path / "m/serving/models.config"
    export_saved_model(model, tmp_path, name="m", version=1)
    edited.write_text("# mine\n")
    export_saved_model(model, tmp_path, name="m", version=2)
    assert edited.read_text() == "# mine\n"
    export_saved_model(model, tmp_path, name="m", version=2, overwrite=True)
    assert 'name: "m"' in edited.read_text()


def _write_nothing(model, folder, options, weights):
    folder.mkdir()
