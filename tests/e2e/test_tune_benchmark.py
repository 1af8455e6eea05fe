"""The tuning benchmark runs to its end on networks of a few layers, and goes on where it was killed."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the modules are compiled for x86_64"),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime", "xgboost")),
        reason="needs the peers: pip install -e '.[bench]'",
    ),
]


def start(folder: Path) -> subprocess.Popen[str]:
    arguments = ["--suite", "smoke", "--nets", "wide-16", "--work", str(folder / "work")]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.bench.tune", *arguments, "--json", str(folder / "out.json")],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_run_goes_on_and_reports_every_step(tmp_path: Path) -> None:
    first = start(tmp_path)
    assert first.stderr is not None
    assert any("wide-16 cold" in line for line in first.stderr)
    first.kill()
    first.communicate()
    known = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.json")}
    assert {"wide-16.untuned.json", "wide-16.cold.json"} <= {path.name for path in known}

    second = start(tmp_path)
    out, err = second.communicate()
    assert second.returncode == 0, err
    assert {path: path.stat().st_mtime_ns for path in known} == known  # nothing was done twice
    assert not (tmp_path / "work" / "agent.pid").exists()
    data = json.loads(out)
    assert data == json.loads((tmp_path / "out.json").read_text())
    assert set(data["met"]) == set(data["targets"])
    (row,) = data["rows"]
    runs = {"untuned", "cold", "transfer", "warm", "published", "stock", "litert", "onnxruntime"}
    assert set(row["median_us"]) == runs
    assert max(row["error"].values()) <= 1e-4
    assert data["met"]["numerics"]
    assert row["runs"]["stock"]["trials"] > 0
    assert row["runs"]["transfer"]["trials"] > 0
