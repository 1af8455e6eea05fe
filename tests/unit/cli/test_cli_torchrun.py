"""The command line under torchrun, which starts it several times."""

import json
import os
import subprocess
import sys

from tailorbird.cli.main import main


def test_one_of_several_processes_is_refused_before_it_writes_anything(monkeypatch, capsys) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", "folder", "--data", "data.npz", "--json"]) == 2
    assert "net.fit" in json.loads(capsys.readouterr().out)["error"]["fix"]


def test_python_m_is_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tailorbird", "--version"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "LOCAL_RANK": "0", "WORLD_SIZE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tailorbird")
