"""Logits of TSM, TEA and TCM from PyTorch checkpoints with the official names."""

import keras
import numpy as np
import pytest

from tsi_keras.models import video_resnet
from tsi_keras.models.weight_loading import load_weights_from

torch = pytest.importorskip("torch")

from tests.models.torch_tcm import TCMResNet  # noqa: E402
from tests.models.torch_tea import TEA  # noqa: E402
from tests.models.torch_tsm import TSM  # noqa: E402
from tests.models.torch_tsm import classifier  # noqa: E402

MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])

NETWORKS = {
    "tsm": TSM,
    "tsm_block": lambda *args: TSM(*args, place="block"),
    "tea": TEA,
    "tcm": TCMResNet,
}


def frames_of(count, frames, height, width):
    """Clips of coarse, independent frames: much to see, and much that moves."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, frames, height // 8, width // 8, 3))
    return np.kron(coarse, np.ones((1, 1, 8, 8, 1), int)).astype("uint8")


def for_torch(clips):
    x = ((clips / 255.0 - MEAN) / STD).transpose(0, 1, 4, 2, 3)
    return torch.tensor(x, dtype=torch.float32)


def official(temporal, clips, depth, width, classes):
    """The network of the paper in PyTorch, every weight random."""
    torch.manual_seed(1)
    base = NETWORKS[temporal](depth, width, clips.shape[1])
    return classifier(base, classes, for_torch(clips), temporal == "tcm")


def ours(temporal, clips, depth, width, classes, **options):
    return video_resnet(
        depth, temporal, classes, clips.shape[1], base_width=width, **options
    )


def differences(theirs, model, clips, x):
    """Largest deviation of features and of logits, relative to how these vary."""
    with torch.no_grad():
        features = theirs.base_model.features(x.flatten(0, 1)).numpy()
        logits = theirs(x).numpy()
    features = features.transpose(0, 2, 3, 1)
    found = np.asarray(model.backbone(clips)).reshape(features.shape)
    pairs = {
        "features": (found, features, (0, 1, 2)),
        "logits": (np.asarray(model(clips)), logits, 0),
    }
    return {
        name: np.abs(ours - other).max() / other.std(axes).mean()
        for name, (ours, other, axes) in pairs.items()
    }


def check(theirs, model, clips):
    found = differences(theirs, model, clips, for_torch(clips))
    assert max(found.values()) < 1e-3, found


@pytest.mark.parametrize("frames", [4, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("temporal", NETWORKS)
def test_logits(temporal, frames, tmp_path):
    clips = frames_of(3, frames, 64, 48)
    sizes = {"depth": 26, "width": 16, "classes": 5}
    theirs = official(temporal, clips, **sizes)
    torch.save(theirs.checkpoint(), tmp_path / "official.pth.tar")
    model = ours(temporal, clips, **sizes)
    report = load_weights_from(
        model, tmp_path / "official.pth.tar", head="keep", verbose=False
    )
    assert report.counts["loaded"] == len(model.weights)
    check(theirs, model, clips)


@pytest.fixture
def float64():
    """For deep networks: rounding moves some of TCM's windows to another match."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras' means are float32 on JAX")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy("float32")


def check_exactly(theirs, model, clips):
    """In float64, but for the normalisation of the frames and the classifier."""
    backbone = model.backbone
    normalized = backbone.get_layer("normalization").output
    x = keras.Model(backbone.input, normalized)(clips)
    x = torch.tensor(np.asarray(x, "float64").transpose(0, 3, 1, 2))
    found = differences(theirs.double(), model, clips, x.unflatten(0, clips.shape[:2]))
    assert found["features"] < 1e-9, found
    assert found["logits"] < 1e-4, found


@pytest.mark.slow
@pytest.mark.parametrize(
    "temporal, frames",
    [("tsm", 8), ("tsm_block", 8), ("tea", 8), ("tcm", 8), ("tcm", 16)],
)
def test_logits_of_resnet50(temporal, frames, float64):
    clips = frames_of(2, frames, 96, 96)
    sizes = {"depth": 50, "width": 64, "classes": 174}
    theirs = official(temporal, clips, **sizes)
    model = ours(temporal, clips, **sizes)
    load_weights_from(model, theirs.checkpoint()["state_dict"], "keep", verbose=False)
    check_exactly(theirs, model, clips)


@pytest.mark.slow
def test_every_second_block_of_resnet101_shifts(float64):
    clips = frames_of(2, 4, 64, 48)
    sizes = {"depth": 101, "width": 16, "classes": 5}
    theirs = official("tsm", clips, **sizes)
    model = ours("tsm", clips, blocks="alternate", **sizes)
    load_weights_from(model, theirs.checkpoint()["state_dict"], "keep", verbose=False)
    check_exactly(theirs, model, clips)


@pytest.mark.parametrize(
    "temporal, parameters",
    [("tsm", 23_864_558), ("tea", 24_456_280), ("tcm", 23_935_721)],
)
def test_official_networks_have_the_published_parameters(temporal, parameters):
    """So that the comparison is with the networks of the papers."""
    with torch.device("meta"):
        base = NETWORKS[temporal](50, 64, 8)
        base.fc = torch.nn.Linear(base.fc.in_features, 174)
    assert sum(p.numel() for p in base.parameters()) == parameters


def test_match_has_the_gradient_of_pytorch():
    """The hand-written gradient against PyTorch's of the whole module, float64."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("uses TensorFlow's tape")
    import tensorflow as tf

    from tests.models.torch_tcm import MTDM
    from tsi_keras.layers.temporal_correlation import TemporalCorrelation

    rng = np.random.default_rng(0)
    x, upstream = rng.normal(size=(8, 5, 6, 12)), rng.normal(size=(8, 5, 6, 6))
    layer = TemporalCorrelation(4, dtype="float64")
    layer.build(x.shape)
    theirs = MTDM(12, 4, 15).double().eval()
    kernel = np.asarray(layer.reduction.kernel).transpose(3, 2, 0, 1)
    theirs.chnl_reduction[0].weight.data = torch.tensor(kernel)

    nchw = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    (theirs(nchw) * torch.tensor(upstream.transpose(0, 3, 1, 2))).sum().backward()
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        loss = tf.reduce_sum(layer.motion(inputs, training=False) * upstream)
    found = tape.gradient(loss, inputs).numpy()
    expected = nchw.grad.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
