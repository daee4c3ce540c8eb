"""What people see of a parity report, of today and of earlier versions."""

import copy

import pytest

from tsi_keras.export.parity_report import export_rows
from tsi_keras.export.parity_report import print_parity
from tsi_keras.export.parity_report import print_report
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import write_json

# As version 0.3 wrote it.
OLD = {
    "source": "records",
    "data": {"folder": "data", "split": "val", "fingerprint": "0"},
    "clips": ["a", "b"],
    "tolerance": 1e-4,
    "process": "new interpreter that imports TensorFlow only, on the CPU",
    "signatures": {
        "serving_default": {
            "max_difference": 2e-6,
            "mean_difference": 1e-6,
            "top1_agreement": 1.0,
        }
    },
    "saved_model_bytes": 3_000_000,
}
MEMORY = {"after_import": 400e6, "peak": 450e6, "peak_in_batches": 500e6}
NEW = {
    **OLD,
    "cores": 2,
    "keras": {
        "runtime": "Keras 3",
        "bytes": 2_500_000,
        "memory": {**MEMORY, "peak": 650e6},
        "latency_ms": 12.34,
        "batch_ms_per_clip": None,
    },
    "saved_model": {"runtime": "TensorFlow", "bytes": 3_000_000, "memory": MEMORY},
    "signatures": {
        name: {
            **OLD["signatures"]["serving_default"],
            "kind": "float32",
            "disagreeing": [],
            "near_ties": 0,
            "latency_ms": 11.0,
            "batch_ms_per_clip": 9.0,
        }
        for name in ("serving_default", "serve_jpeg")
    },
    "tflite": {
        "dynamic": {
            "file": "model_dynamic.tflite",
            "kind": "dynamic",
            "bytes": 700_000,
            "memory": {"after_import": None, "peak": None, "peak_in_batches": None},
            "latency_ms": 4.0,
            "batch_ms_per_clip": 3.0,
            "max_difference": 0.7,
            "mean_difference": 0.1,
            "top1_agreement": 0.5,
            "disagreeing": ["b"],
            "near_ties": 1,
        }
    },
}


@pytest.fixture(autouse=True)
def usual_terminal(monkeypatch):
    monkeypatch.setattr("tsi_keras.utils.console.console.width", 80)


def line(text, name):
    """The cells of a row of a printed table."""
    [row] = [row for row in text.splitlines() if row.startswith(f"│ {name} ")]
    return [cell.strip() for cell in row.strip("│┃ ").split("│")]


def test_old_entries_are_read(tmp_path, capsys):
    write_json(tmp_path / "parity.json", {"versions": {"1": OLD, "2": NEW}})
    print_parity(tmp_path / "1")
    text = capsys.readouterr().out
    cells = line(text, "serving_default")
    assert cells[1:] == ["2.0e-06", "1.0e-06", "100.0 %", "-", "-", "-"]
    assert "on 2 clips (records)" in text and "top-1:" not in text
    assert f"exported: {tmp_path / '1'} (3.0 MB)" in text.replace("\n", "")


def test_table_of_today(capsys):
    print_report(NEW)
    text = capsys.readouterr().out
    assert line(text, "Keras") == ["Keras", "-", "-", "-", "12.3", "2.50", "250"]
    assert line(text, "serving_default")[4:] == ["11.0", "3.00", "50"]
    assert line(text, "serve_jpeg")[4:] == ["11.0", "-", "-"]
    cells = line(text, "model_dynamic.tflite")
    assert cells[1:] == ["7.0e-01", "1.0e-01", "50.0 %", "4.0", "0.70", "-"]
    assert "model_dynamic.tflite: another best class in 1 clips, of which" in text
    assert "decides 1 by less than is usually changed" in text
    assert "noise" not in text and "2 cores" in text
    assert max(len(row) for row in text.splitlines() if "│" in row) <= 80


def test_noise_is_told(capsys):
    report = copy.deepcopy(NEW)
    report["source"] = "random"
    print_report(report)
    assert "The clips are noise" in capsys.readouterr().out


def test_rows():
    rows = export_rows(NEW, model="m", task="t")
    assert [row["export"] for row in rows] == [
        "Keras",
        "serving_default",
        "serve_jpeg",
        "model_dynamic.tflite",
    ]
    assert list(rows[0])[:3] == ["model", "task", "export"]
    assert rows[0]["memory_megabytes"] == 250 and rows[0]["top1_agreement"] is None
    assert rows[1]["memory_megabytes"] == 50 and rows[2]["memory_megabytes"] is None
    assert rows[3]["megabytes"] == 0.7 and rows[3]["near_ties"] == 1
    assert {row["clips"] for row in rows} == {2}


def test_a_missing_report_is_named(tmp_path):
    with pytest.raises(InputError, match=r"parity.json does not exist"):
        print_parity(tmp_path / "1")
