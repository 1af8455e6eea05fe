"""What the swap benchmark makes of what it saw: a lost request is told, and what was not measured is not met."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench.outcome import Outcome
from tests.bench.swap import judging

SECONDS, IN_FLIGHT = 60, 10


def piece(path: Path, **changed: Any) -> Path:
    """Ten requests at any moment of a minute, 10 ms each and 15 ms during the deployments of every tenth second."""
    rows, windows = [], [(second + 0.2, second + 0.8) for second in range(5, SECONDS, 10)]
    for lane in range(IN_FLIGHT):
        now = 0.001 * lane
        while now < SECONDS:
            took = 0.015 if any(begun <= now < done for begun, done in windows) else 0.010
            rows.append((now, now + took, lane % 2))
            now += took
    seen: dict[str, Any] = {
        "rows": np.array(sorted(rows)),
        "requests": len(rows),
        "lost": [],
        "wrong": [],
        "versions": ["a/r0", "a/r1"],
        "distance": 400.0,
        "windows": windows,
        "moved": [begun + 0.3 for begun, _ in windows],
        "switched": np.array([(second + 0.5, 0.6) for second in range(SECONDS)]),
    }
    np.savez(path, **(seen | changed))
    return path


def judged(*paths: Path, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    monkeypatch.setattr(judging, "REQUESTS", 10_000)
    monkeypatch.setattr(judging, "DEPLOYMENTS", 6)
    monkeypatch.setattr(judging, "SWITCHES", 50)
    outcome = Outcome("test/1", "full")
    for name, wording in judging.TARGETS.items():
        outcome.target(name, wording)
    judging.judge_traffic(outcome, [judging.watched(path) for path in paths])
    return outcome


def test_a_clean_run_meets_what_was_measured_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = judged(piece(tmp_path / "a.npz"), monkeypatch=monkeypatch)
    measured = {judging.LOST, judging.WRONG, judging.FLIGHT, judging.DURING, judging.AROUND}
    assert {name for name, met in outcome.met.items() if met} == measured
    figures = outcome.figures["swap"]
    assert figures["in_flight_at_deployments"] == {"swaps": 6, "min": IN_FLIGHT, "median": IN_FLIGHT}
    assert figures["latency_ms"]["during"]["p99"] == pytest.approx(15.0, rel=1e-6)
    assert figures["p99_during_over_quiet"] == pytest.approx(1.5, rel=1e-6)


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({"lost": ["it timed out"]}, judging.LOST),
        ({"wrong": ["a/r0 image 3"]}, judging.WRONG),
        ({"distance": 90.0}, judging.WRONG),
        ({"moved": [float(SECONDS + 1)] * 6}, judging.FLIGHT),
    ],
)
def test_one_bad_piece_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], missed: str
) -> None:
    good, bad = piece(tmp_path / "a.npz"), piece(tmp_path / "b.npz", **changed)
    assert not judged(good, bad, monkeypatch=monkeypatch).met[missed]


def test_too_few_requests_prove_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = piece(tmp_path / "a.npz", requests=9_999)
    outcome = judged(path, monkeypatch=monkeypatch)
    assert not outcome.met[judging.LOST]
    assert not outcome.met[judging.WRONG]


def test_slow_answers_during_deployments_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = piece(tmp_path / "a.npz")
    with np.load(path) as seen:
        rows = seen["rows"].copy()
    late = rows[:, 1] - rows[:, 0] > 0.012
    rows[late, 1] += 0.010
    np.savez(path, **({name: np.load(path)[name] for name in np.load(path).files} | {"rows": rows}))
    assert not judged(path, monkeypatch=monkeypatch).met[judging.DURING]


@pytest.mark.parametrize(
    ("parts", "met"),
    [
        ([{"agent_back_s": [0.8] * 600, "worker_back_s": [0.3] * 400}], True),
        ([{"agent_back_s": [0.8] * 600, "worker_back_s": [0.3] * 399}], False),
        ([{"agent_back_s": [0.8] * 999, "worker_back_s": [5.1]}], False),
        ([{"agent_back_s": [0.8] * 600, "worker_back_s": [0.3] * 400}, {"failure": "AssertionError"}], False),
    ],
)
def test_kills_count_only_together_and_in_time(parts: list[dict[str, Any]], met: bool) -> None:
    outcome = Outcome("test/1", "full")
    for name, wording in judging.TARGETS.items():
        outcome.target(name, wording)
    judging.judge_kills(outcome, parts)
    assert outcome.met[judging.KILLED] is met


def test_a_load_with_too_few_switches_is_not_the_one_that_was_asked_for() -> None:
    outcome = Outcome("test/1", "full")
    outcome.target(judging.SERVER, "")
    found = {"valid": True, "failed": 0, "seconds": 10.0, "switches": 500, "deployments": 3}
    judging.judge_load(outcome, judging.SERVER, found)
    assert outcome.met[judging.SERVER]
    judging.judge_load(outcome, judging.SERVER, found | {"switches": 300})
    assert not outcome.met[judging.SERVER]
