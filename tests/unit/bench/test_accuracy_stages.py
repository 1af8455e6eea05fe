"""Stages of the accuracy benchmark: what is known stays known, subnets are drawn as said, targets are judged."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tailorbird as tb
from tailorbird.supernet import SuperNet
from tailorbird.types import Config
from tests.bench.accuracy import targets
from tests.bench.accuracy.clock import CpuClock
from tests.bench.accuracy.networks import ResNet
from tests.bench.accuracy.subnets import draw
from tests.bench.accuracy.work import Work
from tests.bench.outcome import Outcome


@pytest.fixture(scope="module")
def net() -> SuperNet:
    return tb.elastic(ResNet(14).eval(), (torch.zeros(2, 3, 32, 32),))


def test_a_stage_runs_once_for_each_settings(tmp_path: Path) -> None:
    runs: list[int] = []

    def stage(work: Work, number: int) -> dict[str, Any]:
        return work.once("count", {"number": number}, lambda: {"is": number, "runs": runs.append(number)}).found

    assert stage(Work(tmp_path), 1)["is"] == 1
    assert stage(Work(tmp_path), 2)["is"] == 2
    assert stage(Work(tmp_path), 1)["is"] == 1
    assert runs == [1, 2]
    assert Work(tmp_path).record("count", {"number": 3}) is None


def test_a_stage_that_fails_leaves_nothing(tmp_path: Path) -> None:
    work = Work(tmp_path)

    def fail() -> dict[str, Any]:
        work.once("inner", {}, lambda: {"kept": True})
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        work.once("outer", {}, fail)
    assert work.record("outer", {}) is None
    inner = work.record("inner", {})
    assert inner is not None
    assert inner.found == {"kept": True}
    assert not list(tmp_path.rglob(".*"))


def test_time_within_a_stage_is_told_apart_and_counted_once(tmp_path: Path) -> None:
    work = Work(tmp_path)

    def busy() -> dict[str, Any]:
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass
        return {}

    outer = work.once("outer", {}, lambda: work.once("inner", {}, busy).found)
    inner = work.record("inner", {})
    assert inner is not None
    assert inner.cpu_seconds >= 0.2 / inner.threads
    assert outer.cpu_seconds >= inner.cpu_seconds
    assert outer.own_seconds < 0.1
    assert set(work.used) == {work.path("outer", {}, ".json"), work.path("inner", {}, ".json")}
    fresh = Work(tmp_path)
    fresh.once("third", {}, lambda: fresh.once("inner", {}, busy).found)
    assert list(fresh.used) == [fresh.path("third", {}, ".json")]


def test_the_clock_counts_what_this_process_computes_and_not_what_it_waits_for() -> None:
    clock = CpuClock()
    begin, wall = clock(), time.monotonic()
    subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
    waited, passed = clock() - begin, time.monotonic() - wall
    assert waited < 0.5 * passed
    begin = clock()
    sum(range(10**7))
    assert clock() > begin
    assert clock.threads == torch.get_num_threads()


def test_subnets_are_distinct_and_a_longer_list_begins_with_a_shorter_one(net: SuperNet) -> None:
    configs = draw(net.space, 60)
    assert len(set(configs)) == 60
    assert Config() not in configs
    assert draw(net.space, 20) == configs[:20]
    assert all(net.space.canonical(config) == config for config in configs)


def test_mild_and_drastic_subnets_both_occur(net: SuperNet) -> None:
    shares = [net.macs(config) / net.macs() for config in draw(net.space, 60)]
    assert min(shares) < 0.35
    assert max(shares) > 0.85
    assert sum(share > 0.6 for share in shares) >= 10 <= sum(share < 0.6 for share in shares)


def test_a_space_that_is_too_small_is_refused() -> None:
    tiny = tb.elastic(nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 2)).eval(), (torch.zeros(2, 8),))
    with pytest.raises(ValueError, match="does not hold 60"):
        draw(tiny.space, 60)


def test_the_networks_have_the_published_sizes() -> None:
    sizes = {depth: sum(p.numel() for p in ResNet(depth).parameters()) for depth in (20, 56)}
    assert sizes == {20: 269_722, 56: 853_018}


def figures(tau: float, mae: float, full: float, best: float) -> dict[str, Any]:
    return {
        "predictors": {"table": {"mean": {"kendall_tau": tau, "mae_points": mae}, "evaluations": 50}},
        "full": {"after": full},
        "frontier": [{"best": [{"limit": 0.72, "accuracy": best}, {"limit": 0.5, "accuracy": best - 0.01}]}, None],
        "tuned": {"0.72": {"accuracy": best}, "0.5": {"accuracy": best - 0.01}},
    }


def judged(cases: dict[str, Any], seconds: float | None = None) -> dict[str, bool]:
    outcome = Outcome("test", "quick")
    targets.declare(outcome)
    targets.judge(outcome, cases, seconds)
    return outcome.met


def test_what_was_not_measured_is_not_met() -> None:
    assert not any(judged({}).values())
    nothing = {"predictors": {}, "full": None, "frontier": [None], "tuned": {}}
    assert not any(judged({"resnet20, 6 min": nothing, "resnet20, 60 min": nothing}).values())


def test_targets_are_judged_where_they_belong() -> None:
    six = judged({"resnet20, 6 min": figures(0.86, 2.4, 0.915, 0.885)}, seconds=2000)
    assert {name for name, met in six.items() if met} == {
        "tau",
        "mae",
        "full",
        "macs_72",
        "evaluations_resnet20",
        "quick_duration",
    }
    hour = judged({"resnet20, 60 min": figures(0.9, 1.4, 0.91, 0.912)})
    assert {name for name, met in hour.items() if met} == {"mae_60", "macs_72_60", "macs_50_60"}
    missed = judged({"resnet20, 6 min": figures(0.849, 2.51, 0.9139, 0.879)}, seconds=2701)
    assert {name for name, met in missed.items() if met} == {"evaluations_resnet20"}
