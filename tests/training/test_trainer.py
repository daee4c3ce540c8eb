"""Training runs from the command line and from Python, on a tiny data set."""

import csv
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines import train as command
from pipelines._command import run as run_command
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.export.saved_model import export_saved_model
from tsi_keras.models import load_classifier
from tsi_keras.training.building import build_classifier
from tsi_keras.training.building import clip_options
from tsi_keras.training.building import compile_classifier
from tsi_keras.training.config import Config
from tsi_keras.training.config_io import dump_config
from tsi_keras.training.config_io import load_config
from tsi_keras.training.optimizer import GroupedSGD
from tsi_keras.training.optimizer import ReplicaLossScale
from tsi_keras.training.trainer import load_summary
from tsi_keras.training.trainer import train
from tsi_keras.utils.errors import InputError

CONFIG = Config.model_validate(
    {
        "model": {"temporal": "none", "depth": 18, "base_width": 4, "num_frames": 2},
        "data": {"crop_size": 32, "short_side": 36},
        "train": {"epochs": 2, "batch_size": 4, "milestones": [1]},
    }
)


def changed(**train_section):
    """CONFIG with other values in its train section."""
    values = CONFIG.model_dump()
    values["train"] |= train_section
    return Config.model_validate(values)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(dump_config(CONFIG))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data_dir, recipe):
    """The folder of a run that was started from the command line."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    arguments = ["--config", recipe, "--data", data_dir, "--output", folder]
    arguments = [*map(str, arguments), "--train.seed=5"]
    assert run_command(command.main, arguments) == 0
    return folder


def test_writes_all_files(finished):
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "best.json",
        "best.keras",
        "config.yaml",
        "curves.png",
        "last.json",
        "last.keras",
        "log.csv",
        "samples.png",
        "summary.json",
        "tensorboard",
    }
    assert list(finished.glob("tensorboard/train/events.*"))
    assert load_config(finished / "config.yaml") == changed(seed=5)


def test_log_and_summary_agree(finished):
    with (finished / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    rates = [float(row["learning_rate"]) for row in rows]
    np.testing.assert_allclose(rates, [0.01, 0.001], rtol=1e-6)
    assert all(float(row["clips_per_second"]) > 0 for row in rows)
    # Three classes: a top-5 would always be 1.
    assert "top5" not in rows[0]

    content = json.loads((finished / "summary.json").read_text())
    assert content["status"] == "finished"
    assert content["versions"]["keras"] == keras.__version__
    assert content["dataset"]["videos"] == {"train": 12, "val": 7}
    summary = load_summary(finished)
    assert summary.replicas == 1
    assert summary.final["val_loss"] == float(rows[1]["val_loss"])
    best = max(float(row["val_top1"]) for row in rows)
    assert summary.best["val_top1"] == best
    facts = json.loads((finished / "best.json").read_text())
    assert (facts["epoch"], facts["metrics"]) == (summary.best_epoch, summary.best)
    assert facts["config"] == changed(seed=5).model_dump()
    assert facts["dataset"] == content["dataset"]
    assert facts["versions"] == content["versions"]
    assert float(rows[summary.best_epoch - 1]["val_top1"]) == best


def test_reloaded_model_gives_the_logged_metrics(finished, data_dir):
    model = load_classifier(finished / "last.keras")
    assert model.class_names == ["down", "left", "up"]
    assert model.preprocessing == {
        "short_side": 36,
        "crop_size": 32,
        "sampling": "segments",
    }
    compile_classifier(model, CONFIG, steps_per_epoch=3)
    options = clip_options(CONFIG)
    data = make_dataset(data_dir, "val", options, batch_size=4, training=False)
    found = model.evaluate(data, return_dict=True, verbose=0)
    logged = load_summary(finished).final
    assert found["top1"] == pytest.approx(logged["val_top1"], abs=1e-6)
    assert found["loss"] == pytest.approx(logged["val_loss"], rel=1e-5)


def test_export_gives_the_logged_metrics(finished, data_dir, tmp_path):
    """Every val video through the SavedModel; no preprocessing but the pipeline's."""
    folder = export_saved_model(finished / "last.keras", tmp_path / "exports")
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    options = clip_options(CONFIG)
    logits, labels = [], []
    for frames, label in make_dataset(
        data_dir, "val", options, batch_size=4, training=False
    ):
        logits.append(serve(frames=frames)["logits"].numpy())
        labels.append(label.numpy())
    logits, labels = np.concatenate(logits), np.concatenate(labels)
    logged = load_summary(finished).final
    assert len(labels) == 7
    right = float(np.mean(logits.argmax(axis=1) == labels))
    assert right == pytest.approx(logged["val_top1"], abs=1e-6)
    losses = keras.losses.sparse_categorical_crossentropy(
        labels, logits, from_logits=True
    )
    assert float(np.mean(losses)) == pytest.approx(logged["val_loss"], rel=1e-4)


def test_finished_run_is_never_touched_by_accident(finished, data_dir, recipe, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    arguments = ["--config", recipe, "--data", data_dir, "--output", finished]
    arguments = [*map(str, arguments), "--train.seed=5"]
    assert run_command(command.main, arguments) == 2
    assert run_command(command.main, [*arguments, "--resume", "--train.seed=3"]) == 2
    assert run_command(command.main, [*arguments, "--resume"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    assert "best epoch" in capsys.readouterr().out


def test_mixed_precision_stays_inside(data_dir):
    before = keras.config.dtype_policy().name
    config = changed(mixed_precision="mixed_float16")
    model = build_classifier(config, ["a", "b", "c"])
    assert keras.config.dtype_policy().name == before
    assert model.backbone.get_layer("conv1").compute_dtype == "float16"
    assert model.compute_dtype == "float32" or model.output.dtype == "float32"
    compile_classifier(model, config, steps_per_epoch=3)
    assert isinstance(model.optimizer, ReplicaLossScale)
    options = clip_options(config)
    data = make_dataset(data_dir, "train", options, batch_size=4, training=True)
    history = model.fit(data, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    # A step whose float16 gradients overflow is skipped and halves the scale.
    skipped = np.log2(2.0**15 / model.optimizer.dynamic_scale.numpy())
    assert model.optimizer.iterations.numpy() == 3 - skipped > 0


def test_groups_of_the_real_network():
    values = CONFIG.model_dump()
    values["model"] |= {"temporal": "tsi", "base_width": 16}
    model = build_classifier(Config.model_validate(values), ["a", "b", "c"])
    optimizer = GroupedSGD()
    optimizer.build(model.trainable_variables)
    groups = optimizer.variables_by_group()
    assert [name.split("/")[-2:] for name in groups["head weights"]] == [
        ["classifier", "kernel"]
    ]
    assert [name.split("/")[-2:] for name in groups["head biases"]] == [
        ["classifier", "bias"]
    ]
    # Three Dense layers in each of the eight CTIs are the body's biases.
    assert len(groups["biases"]) == 24
    kinds = {name.split("/")[-1] for name in groups["normalisation"]}
    assert kinds == {"gamma", "beta"}
    assert not [name for name in groups["weights"] if name.endswith(("bias", "beta"))]


BAD_RUNS = {
    "batch_size": ({"batch_size": 13}, {}, "not exceed the 12 videos .* Received: 13"),
    "replicas": (
        {"batch_size": 3, "distribution": "mirrored"},
        {},
        "multiple of the 2 devices in use. Received: 3; 4 would do",
    ),
    "temporal": ({}, {"temporal": "tsii"}, "`model`: .*tsii"),
    "blocks": ({}, {"blocks": [[0], [0], [0], [9]]}, "`model`: .*9"),
    "option": ({}, {"temporal_options": {"sme": {"levles": 3}}}, "`model`: .*"),
}


@pytest.mark.parametrize("name", BAD_RUNS)
def test_bad_runs_leave_an_old_one_alone(tmp_path, data_dir, name):
    train_section, model_section, message = BAD_RUNS[name]
    values = CONFIG.model_dump()
    values["train"] |= train_section
    values["model"] |= model_section
    (tmp_path / "old.txt").write_text("precious")
    with pytest.raises(InputError, match=message) as error:
        train(Config.model_validate(values), data_dir, tmp_path, overwrite=True)
    assert "\n" not in str(error.value)
    assert (tmp_path / "old.txt").read_text() == "precious"


def test_data_without_val_split(tmp_path, make_data):
    folder = make_data("no_val", val=0)
    with pytest.raises(InputError, match="no videos in a val split"):
        train(CONFIG, folder, tmp_path / "run")
    summary = train(changed(validation=False), folder, tmp_path / "run")
    assert summary.best is None
    assert not (tmp_path / "run" / "best.keras").exists()
    assert load_classifier(tmp_path / "run").num_classes == 3


def test_one_class_in_the_records_is_refused(tmp_path, make_data):
    folder = make_data("one_class")
    info = json.loads((folder / "dataset.json").read_text())
    counts = info["splits"]["train"]["counts"]
    total = sum(counts.values())
    info["splits"]["train"]["counts"] = dict.fromkeys(counts, 0) | {"a": total}
    (folder / "dataset.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match="one class only"):
        train(CONFIG, folder, tmp_path / "run")


def test_bad_data_costs_no_earlier_run(tmp_path, make_data):
    """With --overwrite the old run goes only when the new one can start."""
    folder = make_data("lost_shard")
    next(folder.glob("val-*.tfrecord")).unlink()
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("an earlier run")
    with pytest.raises(InputError, match="val-"):
        train(CONFIG, folder, run, overwrite=True)
    assert (run / "config.yaml").read_text() == "an earlier run"


def test_the_data_may_not_lie_in_the_output(tmp_path, make_data):
    folder = make_data("inside")
    (folder.parent / "config.yaml").write_text("looks like a run")
    with pytest.raises(InputError, match="contains the input"):
        train(CONFIG, folder, folder.parent, overwrite=True)
    assert (folder / "dataset.json").exists()
    (folder.parent / "config.yaml").unlink()


def test_damaged_records_are_one_line(tmp_path, make_data):
    folder = make_data("damaged")
    shard = next(folder.glob("train-*.tfrecord"))
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(InputError, match="truncated record.*prepare") as error:
        train(CONFIG, folder, tmp_path / "run")
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_run_on_two_replicas(tmp_path, data_dir):
    config = changed(distribution="mirrored", mixed_precision="mixed_float16")
    summary = train(config, data_dir, tmp_path / "run")
    assert summary.replicas == 2
    model = load_classifier(tmp_path / "run" / "last.keras")
    compile_classifier(model, CONFIG, steps_per_epoch=3)
    options = clip_options(CONFIG)
    data = make_dataset(data_dir, "val", options, batch_size=4, training=False)
    found = model.evaluate(data, return_dict=True, verbose=0)
    # The file computes in float32, the run did in float16.
    assert found["loss"] == pytest.approx(summary.final["val_loss"], rel=1e-2)


def test_help_lists_every_key(capsys):
    with pytest.raises(SystemExit) as exit_:
        command.main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert "--train.clip_norm=<float|null>  [20.0]" in text
    assert "largest global gradient norm of a step" in text


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--lr=3"], "unknown argument --lr=3"),
        (["--train.lr=3"], "--train.lr=3: unknown key `train.lr`"),
        (["--train.epochs=few"], "`train.epochs` should be a valid integer"),
    ],
)
def test_bad_usage(recipe, capsys, arguments, message):
    basics = ["--config", str(recipe), "--data", "nowhere", "--output", "nowhere"]
    assert run_command(command.main, [*basics, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_missing_data(recipe, tmp_path, capsys):
    basics = ["--config", str(recipe), "--data", "nowhere", "--output", str(tmp_path)]
    assert run_command(command.main, basics) == 2
    assert "nowhere is not a folder" in capsys.readouterr().err
