"""`python -m pipelines.data_service`."""

import signal
import subprocess
import sys

import pytest

from pipelines._command import run
from pipelines.data_service import main


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_dispatcher_runs_until_a_signal_comes(repository, end):
    command = [sys.executable, "-m", "pipelines.data_service", "dispatcher"]
    command += ["--port", "0", "--workers", "localhost:5001"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=repository
    ) as process:
        assert process.stdout.readline().startswith(b"dispatcher on grpc://localhost:")
        assert process.poll() is None
        process.send_signal(end)
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dispatcher"],
        ["dispatcher", "--workers", "here"],
        ["worker", "--dispatcher", "localhost:5000", "--address", "here"],
    ],
)
def test_wrong_commands(arguments, capsys):
    try:
        status = run(main, arguments)
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
