"""Labels that are shares of classes: loss and metrics against NumPy."""

import keras
import numpy as np
import pytest

from tsi_keras.evaluation.evaluate import evaluate
from tsi_keras.models import load_classifier
from tsi_keras.training.building import SmoothedCrossEntropy
from tsi_keras.training.config import Config
from tsi_keras.training.soft_labels import MeanTop1
from tsi_keras.training.soft_labels import Top1
from tsi_keras.training.soft_labels import Top5
from tsi_keras.training.soft_labels import class_targets
from tsi_keras.training.soft_labels import hard_labels
from tsi_keras.training.trainer import train

CLASSES = 7
METRICS = (Top1, Top5, lambda: MeanTop1(CLASSES))


@pytest.fixture
def batch():
    """Labels (6,), other labels (6,), own shares (6,) and logits (6, 7)."""
    rng = np.random.default_rng(0)
    labels, others = rng.integers(CLASSES, size=(2, 6))
    shares = np.float32([1.0, 0.75, 0.6, 0.4, 0.2, 0.9])
    return labels, others, shares, rng.normal(size=(6, CLASSES)).astype(np.float32)


def mixed(labels, others, shares):
    """float32 (N, CLASSES)."""
    one_hot = np.eye(CLASSES, dtype=np.float32)
    return shares[:, None] * one_hot[labels] + (1 - shares)[:, None] * one_hot[others]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_the_mixture_of_the_losses(batch, smoothing):
    labels, others, shares, logits = batch
    loss = SmoothedCrossEntropy(smoothing)
    log = logits - np.log(np.exp(logits).sum(1, keepdims=True))

    def cross_entropy(targets):
        targets = (1 - smoothing) * targets + smoothing / CLASSES
        return -(targets * log).sum(1).mean()

    soft = mixed(labels, others, shares)
    assert float(loss(soft, logits)) == pytest.approx(cross_entropy(soft), rel=1e-5)
    hard = np.eye(CLASSES)[labels]
    for form in (labels, labels[:, None], hard.astype(np.float32)):
        assert float(loss(form, logits)) == pytest.approx(cross_entropy(hard), rel=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_count_a_mixed_clip_as_its_largest_part(batch, metric):
    labels, others, shares, logits = batch
    weights = np.float32([1, 1, 0, 1, 1, 1])
    soft, hard = metric(), metric()
    soft.update_state(mixed(labels, others, shares), logits, weights)
    hard.update_state(np.where(shares > 0.5, labels, others), logits, weights)
    assert float(soft.result()) == float(hard.result())
    # And one metric takes both, as training and validation give them in turn.
    hard.reset_state()
    hard.update_state(np.eye(CLASSES, dtype=np.float32)[labels], logits)
    of_shares = float(hard.result())
    hard.reset_state()
    hard.update_state(labels, logits)
    assert float(hard.result()) == of_shares


def test_labels_in_every_form():
    logits = np.zeros((3, CLASSES), np.float32)
    labels = np.array([4, 0, 6])
    one_hot = np.eye(CLASSES, dtype=np.float32)[labels]
    for form in (labels, labels[:, None], one_hot):
        form = keras.ops.convert_to_tensor(form)
        targets = keras.ops.convert_to_numpy(class_targets(form, logits))
        assert targets.tolist() == one_hot.tolist()
        assert np.array(hard_labels(form, logits)).tolist() == labels.tolist()


def test_metrics_keep_the_names_of_the_logs():
    assert [metric().name for metric in METRICS] == [
        "top1",
        "top5",
        "mean_class_accuracy",
    ]


def test_fit_with_shares_and_evaluate_with_integers(batch):
    labels, others, shares, _ = batch
    shares = np.maximum(shares, 0.75)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(CLASSES)])
    metrics = [metric() for metric in METRICS]
    loss = SmoothedCrossEntropy(0.1)
    optimizer = keras.optimizers.SGD(1.0)
    model.compile(optimizer, loss, weighted_metrics=metrics, jit_compile=False)
    inputs = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    before = model.evaluate(inputs, labels, verbose=0, return_dict=True)
    assert set(before) == {"loss", "top1", "top5", "mean_class_accuracy"}
    logs = model.fit(
        inputs,
        mixed(labels, others, shares),
        validation_data=(inputs, labels),
        epochs=20,
        verbose=0,
    ).history
    assert logs["loss"][-1] < logs["loss"][0]
    assert logs["val_top1"][-1] > before["top1"]


@pytest.mark.slow
def test_training_with_mixed_clips_validates_with_integers(data_dir, tmp_path):
    config = Config.model_validate(
        {
            "model": {
                "temporal": "none",
                "depth": 14,
                "base_width": 4,
                "num_frames": 2,
            },
            "data": {
                "crop_size": 32,
                "short_side": 36,
                "sampling": "dense",
                "mixup": 0.8,
                "cutmix": 1.0,
                "erasing": 0.5,
                "hue": 0.2,
            },
            "train": {
                "epochs": 1,
                "milestones": [],
                "batch_size": 4,
                "accumulation_steps": 2,
                "label_smoothing": 0.1,
            },
        }
    )
    summary = train(config, data_dir, tmp_path / "run")
    assert {"top1", "val_top1", "val_mean_class_accuracy"} <= set(summary.final)
    assert np.isfinite([summary.final["loss"], summary.final["val_loss"]]).all()
    # Class names of mixed clips are drawn too.
    assert (tmp_path / "run" / "samples.png").is_file()
    # The run is scored as it was trained and validated.
    report = evaluate(tmp_path / "run", data_dir, "val", batch_size=4)
    assert report.top1 == pytest.approx(summary.final["val_top1"], abs=1e-6)
    assert load_classifier(tmp_path / "run").preprocessing["sampling"] == "dense"
