"""Whoever reads the output: one that goes away, one that knows ASCII only."""

import io
import os
import subprocess
import sys

import pytest
from processes import ROOT

from ltgate import __main__
from ltgate.runner import execute


@pytest.mark.parametrize("words", [["list"], ["--help"]], ids=str)
def test_a_reader_that_goes_away_ends_a_command_quietly(words: list[str]) -> None:
    command = [sys.executable, "-m", "ltgate", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONUNBUFFERED", None)  # argparse's own writing would hide it
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    run.stdout.close()
    assert run.communicate()[1] == b""
    assert run.returncode == 141


def test_a_run_whose_reader_goes_away_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(execute, "run", lambda *_: print("[1/2] 01_data  done", flush=True))
    with open(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert __main__.main(["run", "smoke"]) == 141


@pytest.mark.parametrize("words", [["list"], ["parameters"], ["--help"]], ids=str)
def test_an_output_that_knows_ascii_only(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    told = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(told, "ascii"))
    try:
        assert __main__.main(words) == 0
    except SystemExit as ended:  # argparse's help
        assert ended.code == 0
    assert len(told.getvalue()) > 500
