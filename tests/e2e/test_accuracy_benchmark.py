"""The accuracy benchmark runs to its end on the bundled digits, and goes on where it was killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
_ARGUMENTS = ("--nets", "digits", "--threads", "1")


@pytest.mark.timeout(600)
def test_a_killed_run_goes_on_and_reports_every_figure(tmp_path: Path) -> None:
    first = _start(tmp_path)
    assert first.stderr is not None
    lines = iter(first.stderr)
    assert any("evaluate 4 of 12" in line for line in lines)
    first.kill()
    first.communicate()
    known = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.json")}
    assert {path.parent.name for path in known} >= {"original", "train", "evaluate"}
    assert not (tmp_path / "out.json").exists()

    second = _start(tmp_path)
    out, err = second.communicate()
    assert second.returncode == 0, err
    assert {path: path.stat().st_mtime_ns for path in known} == known  # nothing was done twice
    data = json.loads((tmp_path / "out.json").read_text())
    assert json.loads(out) == data
    _check(data)
    assert "best subnets" in err


def _start(folder: Path) -> subprocess.Popen[str]:
    arguments = [*_ARGUMENTS, "--work", str(folder / "work"), "--json", str(folder / "out.json"), "--summary"]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.bench.accuracy", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _check(data: dict[str, Any]) -> None:
    assert data["schema"] == "tailorbird.bench.accuracy/1"
    assert set(data["met"]) == set(data["targets"])
    assert not any(data["met"].values())  # none of them is about digits
    (found,) = data["figures"]["cases"].values()
    assert found["training"]["steps"] > 0
    assert found["full"]["after"] >= found["full"]["before"] - 0.03
    assert found["full"]["images"] == 400
    assert found["subnets"]["evaluated"] == len(data["rows"]) == 12
    assert found["subnets"]["before"]["min"] < found["subnets"]["after"]["max"]
    names = {"table", "additive", "mlp", "macs", "params", "synflow", "zico", "naswot", "direct"}
    assert names <= set(found["predictors"])
    for name in names:
        predictor = found["predictors"][name]
        assert -1 <= predictor["mean"]["kendall_tau"] <= 1
        assert predictor["evaluations"] <= 40
        assert predictor["seconds"] > 0
    assert found["predictors"]["direct"]["mean"]["kendall_tau"] > 0.4  # the same subnets on other images
    for row in data["rows"]:
        assert names <= set(row["predictions"])
        assert all(0 <= value <= 1 for value in row["accuracy"])
    (frontier,) = found["frontier"]
    assert len({entry["limit"] for entry in frontier["best"]}) >= 5
    assert all(entry["macs_share"] <= entry["limit"] for entry in frontier["best"])
    assert all(entry["images"] == 400 for entry in frontier["best"])
