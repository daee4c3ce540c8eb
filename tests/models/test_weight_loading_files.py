"""PyTorch and safetensors files: read as PyTorch reads them, and never run."""

import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from tsi_keras.models.weight_loading.sources import read_source
from tsi_keras.models.weight_loading.torch_files import read_legacy
from tsi_keras.models.weight_loading.torch_files import read_zip
from tsi_keras.models.weight_loading.torch_pickle import Storage
from tsi_keras.models.weight_loading.torch_pickle import Tensor
from tsi_keras.utils.errors import InputError

torch = pytest.importorskip("torch")

FORMATS = {"zip": (True, read_zip), "legacy": (False, read_legacy)}


def everything(content):
    return content


def save(content, path, kind):
    torch.save(content, path, _use_new_zipfile_serialization=FORMATS[kind][0])
    return path


def tensors():
    """Every kind of storage and window that a checkpoint may hold."""
    torch.manual_seed(0)
    base = torch.randn(6, 5)
    return OrderedDict(
        float32=base,
        shared=base[1:4],
        transposed=base.t(),
        strided=base[::2, 1::3],
        offset=base[3, 2],
        expanded=torch.randn(3, 1).expand(3, 4),
        float64=torch.randn(3, dtype=torch.float64),
        float16=torch.randn(4).half(),
        bfloat16=torch.randn(4, 3).bfloat16().t(),
        int64=torch.tensor(7),
        int32=torch.arange(4, dtype=torch.int32),
        int16=torch.arange(4, dtype=torch.int16),
        int8=torch.arange(-2, 2, dtype=torch.int8),
        uint8=torch.arange(4, dtype=torch.uint8),
        bool=torch.tensor([True, False]),
        empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.randn(2, 2)),
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_tensors_are_those_that_pytorch_reads(kind, tmp_path):
    path = save(tensors(), tmp_path / "tensors.pth", kind)
    expected = torch.load(path, weights_only=True)
    found = FORMATS[kind][1](path, everything)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        wide = tensor.detach()
        wide = wide.float() if name == "bfloat16" else wide
        assert str(found[name].dtype) == name or name not in str(tensor.dtype)
        np.testing.assert_array_equal(
            found[name].astype(wide.numpy().dtype), wide.numpy(), err_msg=name
        )


@pytest.mark.parametrize("kind", FORMATS)
def test_other_content_of_a_checkpoint(kind, tmp_path):
    content = {
        "epoch": 3,
        "arch": "resnet",
        "best": 41.5,
        "none": None,
        "flags": [True, (1, 2)],
        "size": torch.Size([2, 3]),
        "nested": {"state": {0: {"momentum": torch.ones(2)}}},
    }
    path = save(content, tmp_path / "checkpoint.pth.tar", kind)
    found = FORMATS[kind][1](path, everything)
    momentum = found.pop("nested")["state"][0]["momentum"]
    np.testing.assert_array_equal(momentum, [1, 1])
    assert found == {
        "epoch": 3,
        "arch": "resnet",
        "best": 41.5,
        "none": None,
        "flags": [True, [1, 2]],
        "size": [2, 3],
    }


@pytest.mark.parametrize("kind", FORMATS)
def test_an_optimizer_is_not_read(kind, tmp_path):
    network = torch.nn.Linear(2, 3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    content = {
        "optimizer": optimizer.state_dict(),
        "best_prec1": torch.tensor(50.0),
        "state_dict": network.state_dict(),
    }
    source = read_source(save(content, tmp_path / "run.pth.tar", kind))
    assert sorted(source.arrays) == ["bias", "weight"]
    np.testing.assert_array_equal(source.arrays["weight"], network.weight.detach())


def test_a_view_of_a_storage():
    """PyTorch before 1.0 saved views as storages of their own."""
    buffer = np.arange(10.0, dtype="float32")
    view = Tensor(Storage("0", buffer.dtype, 4, start=3), 1, (3,), (1,))
    np.testing.assert_array_equal(view.read(buffer), [4, 5, 6])
    with pytest.raises(InputError, match="outside its storage '0'"):
        Tensor(Storage("0", buffer.dtype, 4, start=3), 2, (3,), (1,)).read(buffer)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
def test_wrappers_around_a_state_dict(wrapper, tmp_path):
    content = {"epoch": 1, wrapper: {"fc.bias": torch.ones(2)}}
    source = read_source(save(content, tmp_path / "x.pt", "zip"))
    assert list(source.arrays) == ["fc.bias"]
    with pytest.raises(InputError, match="holds no state dict.*Received: .'epoch'"):
        read_source(save({"epoch": 1}, tmp_path / "y.pt", "zip"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_safetensors(dtype, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    weight = torch.randn(3, 2).to(getattr(torch, dtype))
    path = tmp_path / "model.safetensors"
    safetensors.save_file({"fc.weight": weight}, path)
    array = read_source(path).arrays["fc.weight"]
    assert str(array.dtype) == dtype
    np.testing.assert_array_equal(array.astype("float64"), weight.double().numpy())


# === Files that want more than to be read ===


class Evil:
    """Runs a command when an ordinary unpickler reads it."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_runs_code_is_refused(kind, tmp_path):
    marker = tmp_path / "marker"
    content = {"state_dict": {"w": torch.ones(1), "x": Evil(marker)}}
    path = save(content, tmp_path / "evil.pth", kind)
    with pytest.raises(InputError, match=r"evil.pth cannot be read. .*posix.system"):
        read_source(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # the file is as bad as it should be


@pytest.mark.parametrize(
    "pickled, name",
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"ctorch.storage\n_load_from_bytes\n(S'1'\ntR.", "_load_from_bytes"),
        (b"ccollections\ndefaultdict\n(tR.", "collections.defaultdict"),
        (b"ctorch\nload\n(S'x'\ntR.", "torch.load"),
        (b"ccollections\nOrderedDict.fromkeys\n(tR.", "OrderedDict.fromkeys"),
    ],
)
def test_other_names_are_refused(pickled, name, tmp_path):
    path = write_zip(tmp_path / "file.pth", b"\x80\x02" + pickled)
    with pytest.raises(InputError, match=name):
        read_source(path)


def test_a_whole_pickled_network_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "network.pth")
    with pytest.raises(InputError, match=r"torch.save\(model.state_dict\(\), NEW\)"):
        read_source(tmp_path / "network.pth")


def test_torchscript_is_named(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "script.pt")
    with pytest.raises(InputError, match="TorchScript"):
        read_source(tmp_path / "script.pt")


class Rebuild:
    """Pickled as a tensor of any offset, shape and strides on a storage of 4 floats."""

    class Storage:
        pass

    def __init__(self, *arguments, state=None):
        self.arguments = arguments
        self.state = state

    def __reduce__(self):
        arguments = (self.Storage(), *self.arguments, False, OrderedDict())
        function = torch._utils._rebuild_tensor_v2
        return (
            (function, arguments, self.state) if self.state else (function, arguments)
        )


def pickle_tensor(tensor) -> bytes:
    import io

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, Rebuild.Storage):
                return ("storage", torch.FloatStorage, "0", "cpu", 4)
            return None

    file = io.BytesIO()
    Pickler(file, protocol=2).dump({"w": tensor})
    return file.getvalue()


def write_zip(path, pickled, data=bytes(16), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", data)
    return path


def test_the_forged_files_are_good_where_they_should_be(tmp_path):
    path = write_zip(tmp_path / "good.pth", pickle_tensor(Rebuild(1, (3,), (1,))))
    np.testing.assert_array_equal(read_source(path).arrays["w"], [0, 0, 0])


@pytest.mark.parametrize(
    "window",
    [
        (2, (3,), (1,)),
        (0, (2, 2), (3, 2)),
        (-1, (2,), (1,)),
        (1, (2,), (-1,)),
        (0, (-2,), (1,)),
        (0, (2,), (1, 1)),
        (0, (2.0,), (1,)),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(window, tmp_path):
    path = write_zip(tmp_path / "bad.pth", pickle_tensor(Rebuild(*window)))
    with pytest.raises(InputError, match="damaged"):
        read_source(path)


@pytest.mark.parametrize(
    "state, message",
    [
        ({"offset": 9}, "no attribute '__dict__'"),
        ((None, {"offset": 9}), "can't set attribute"),
    ],
)
def test_a_tensor_cannot_be_changed_after_its_check(state, message, tmp_path):
    tensor = Rebuild(0, (4,), (1,), state=state)
    path = write_zip(tmp_path / "bad.pth", pickle_tensor(tensor))
    with pytest.raises(InputError, match=message):
        read_source(path)


def test_the_reader_cannot_be_changed(tmp_path):
    """BUILD on the function that makes tensors."""
    states = {
        b"}S'x'\nI1\ns": "no attribute '__dict__'",
        b"N}S'_build'\nI1\ns\x86": "tries to change its reader",
    }
    for state, message in states.items():
        pickled = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + state + b"b."
        with pytest.raises(InputError, match=message):
            read_source(write_zip(tmp_path / "bad.pth", pickled))


def test_damaged_files(tmp_path):
    pickled = pickle_tensor(Rebuild(0, (4,), (1,)))
    short = write_zip(tmp_path / "short.pth", pickled, data=bytes(12))
    with pytest.raises(InputError, match="'0' is cut short"):
        read_source(short)
    packed = write_zip(
        tmp_path / "packed.pth", pickled, compression=zipfile.ZIP_DEFLATED
    )
    with pytest.raises(InputError, match="compressed"):
        read_source(packed)
    cut = write_zip(tmp_path / "cut.pth", pickled[:-5])
    with pytest.raises(InputError, match="pickle is damaged"):
        read_source(cut)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_files_cut_short(kind, share, tmp_path):
    path = save({"w": torch.ones(1000)}, tmp_path / "cut.pth", kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match="cut.pth cannot be read"):
        read_source(path)


def test_files_of_no_known_kind(tmp_path):
    with pytest.raises(InputError, match="gone.pth is not a file"):
        read_source(tmp_path / "gone.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(InputError, match="none of the known kinds"):
        read_source(tmp_path / "text.pth")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(InputError, match="without the data.pkl"):
        read_source(tmp_path / "other.zip")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(InputError, match="not one of torch.save"):
        read_source(tmp_path / "plain.pkl")
    (tmp_path / "bad.safetensors").write_bytes(bytes(100))
    with pytest.raises(InputError, match="bad.safetensors cannot be read"):
        read_source(tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match="`source` must be a path.*Received: int"):
        read_source(3)
