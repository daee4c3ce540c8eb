"""`python -m pipelines.doctor`: the environment and the model cards."""

import csv
import importlib
from types import SimpleNamespace

import pytest

from pipelines._command import run
from pipelines.doctor import main
from tsi_keras.models.model_cards import model_cards
from tsi_keras.models.model_cards import network_names
from tsi_keras.utils import environment


def test_environment_lists_packages_and_devices(capsys):
    assert run(main, []) == 0
    text = capsys.readouterr().out
    for name in ("tensorflow", "keras", "numpy", "tensorflow-io", "CPU devices"):
        assert name in text


def test_a_missing_optional_package_is_off_and_a_needed_one_broken(monkeypatch):
    packages = (
        ("no-such-thing", "no_such_thing", False),
        ("nor-this", "nor_this", True),
    )
    monkeypatch.setattr(environment, "PACKAGES", packages)
    found = {f.name: f for f in environment.describe_environment()}
    assert found["no-such-thing"].status == "off"
    assert found["nor-this"].status == "broken"
    assert "pip install nor-this" in found["nor-this"].detail


def test_a_native_library_that_does_not_load_says_why(monkeypatch):
    def refuse(name):
        raise NotImplementedError("undefined symbol: _ZN10tensorflow")

    monkeypatch.setattr(environment.importlib, "import_module", refuse)
    found = environment._tensorflow_io()
    assert found.status == "off" and "undefined symbol" in found.detail


def test_native_libraries_that_registered_nothing_are_off(monkeypatch):
    real = importlib.import_module

    def without_schemes(name):
        if name != "tensorflow":
            return real(name)
        gfile = SimpleNamespace(get_registered_schemes=lambda: [b"gs"])
        return SimpleNamespace(io=SimpleNamespace(gfile=gfile))

    monkeypatch.setattr(environment.importlib, "import_module", without_schemes)
    found = environment._tensorflow_io()
    assert found.status == "off" and "no s3://" in found.detail


def test_cards_of_some_networks(tmp_path, capsys):
    file = tmp_path / "models.csv"
    command = ["models", "tsn_resnet50", "tim+sme", "--csv", str(file)]
    assert run(main, command) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "23,864,558 parameters 32.70 GMACs (33.06 by thop)" in text
    assert "Something-Something V1 8f 1x1: 19.7/46.6" in text
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["name"] for row in rows] == ["tsn_resnet50", "tim+sme"]
    assert rows[1]["parameters"] == "24051714"
    assert run(main, command) == 2  # the file exists
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command, message",
    [
        (["models", "tsi_resnet5"], "tsi_resnet50"),
        (["models", "--frame-size", "0"], "frame-size"),
        (["models", "--num-classes", "1"], "num-classes"),
        (["models", "--csv", "no/such/folder/x.csv"], "folder does not exist"),
    ],
)
def test_mistakes_take_one_line(command, message, capsys):
    assert run(main, command) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_every_network_is_known_by_name():
    names = network_names()
    assert {"tsi_resnet50", "table4_sme", "table7_concat", "tsm_block"} <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.slow
def test_the_committed_cards_are_current(repository):
    with (repository / "results" / "models.csv").open(encoding="utf-8") as lines:
        committed = {row["name"]: row for row in csv.DictReader(lines)}
    cards = {card.name: card for card in model_cards()}
    assert committed.keys() == cards.keys()
    for name, card in cards.items():
        row = committed[name]
        assert int(row["parameters"]) == card.parameters
        assert float(row["gmacs"]) == round(card.macs / 1e9, 3)
