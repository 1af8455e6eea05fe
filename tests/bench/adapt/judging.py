"""Figures from passes: replays beside what could have been reached, live lanes, steps of speed, cost of deciding."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tailorbird_agent.adapt import POLICY_NAMES, Ladder, make_policy
from tailorbird_agent.adapt.simulate import Bars, Replay, Score, replay, score
from tailorbird_agent.adapt.trace import Trace
from tests.bench.adapt.settings import DEADLINES, LIVE_DEADLINE, LIVE_POLICIES, WEATHER
from tests.bench.outcome import Outcome, quantile

OURS, ALERT = "two-channel", "alert"
_LIVE_REQUESTS = 1000
_AGREE_POINTS = 3.0
_ALERT_MISSES = 0.01
_STEP_REQUESTS = 60
_COST_REPLAYS = 3


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure must be; floor: below it the change that caused it is not taken."""

    name: str
    wording: str


FLOOR_SEGMENT = Target("floor: percent of segment oracle", "two-channel, mean >= 97.5 and worst cell >= 95")
FLOOR_MISSES = Target("floor: SLO misses", "at most 0.5 x ALERT's over the cells in which ALERT misses at least 1 %")
FLOOR_SWITCHES = Target("floor: switches", "at most 40 per 1,000 requests, mean of the cells")
GOAL_SEGMENT = Target("goal: percent of segment oracle", "two-channel, mean >= 98.5 and worst cell >= 97")
GOAL_STATIC = Target("goal: percent of best static, stationary", "mean >= 100 in stationary weather")
GOAL_SLOW = Target("goal: percent of best static, slow changes", "mean >= 102 in weather that changes slowly")
GOAL_MISSES = Target("goal: SLO misses", "at most 0.25 x ALERT's over the cells in which ALERT misses at least 1 %")
GOAL_SWITCHES = Target("goal: switches", "at most 15 per 1,000 requests, mean of the cells")
STEP = Target("2x step detected", "within 4 requests, every ladder and deadline at which the step matters")
COST = Target(
    "decision", "two-channel, choose and observe together at most 30 us of CPU time in a replay, every ladder"
)
AGREE = Target("replay and live agree", "within 3 points of effective accuracy, every ladder, weather and live policy")
LIVE = Target("live requests", "at least 1,000 per policy, ladder and weather, all nine kinds available")
TARGETS = (
    *(FLOOR_SEGMENT, FLOOR_MISSES, FLOOR_SWITCHES),
    *(GOAL_SEGMENT, GOAL_STATIC, GOAL_SLOW, GOAL_MISSES, GOAL_SWITCHES, STEP, COST, AGREE, LIVE),
)


@dataclass(frozen=True, slots=True)
class Pass:
    """One kind of weather on one ladder: the matrix, and what the live lanes did (see lab.one_pass)."""

    ladder: str
    weather: str
    trace: Trace
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cell:
    """One policy or reference on one pass at one deadline."""

    ladder: str
    weather: str
    deadline: float
    score: Score


def trace_of(ladder: Ladder, record: dict[str, Any]) -> Trace:
    """The matrix of a pass."""
    rows = (tuple(map(tuple, record[name])) for name in ("wall_us", "cpu_us"))
    return Trace(ladder, record["slot_s"], tuple(record["at_s"]), *rows)


def cells(one: Pass, policies: Sequence[str] = POLICY_NAMES) -> list[Cell]:
    """Every policy and reference at every deadline."""
    found = []
    for multiple in DEADLINES:
        deadline_us = multiple * one.trace.ladder[-1].cpu_us
        bars = Bars.of(one.trace, deadline_us)
        runs = [*(replay(make_policy(name, one.trace.ladder), one.trace, deadline_us) for name in policies), *bars]
        found += [Cell(one.ladder, one.weather, multiple, score(run, one.trace, deadline_us, bars)) for run in runs]
    return found


def live_rows(one: Pass) -> list[dict[str, Any]]:
    """Each live policy: its figures with intervals, and its replay on the matrix of the same slots."""
    deadline_us, ladder = one.record["deadline_us"], one.trace.ladder
    bars = Bars.of(one.trace, deadline_us)
    rows = []
    for name, lane in one.record["lanes"].items():
        earned = [
            0.0 if late else ladder[rung].accuracy for rung, late in zip(lane["rungs"], lane["late"], strict=True)
        ]
        walls = (0.0,) * len(earned)
        switches: tuple[Any, ...] = (None,) * len(lane["moves"])
        run = Replay(
            name, tuple(lane["rungs"]), walls, tuple(earned), tuple(lane["late"]), switches, tuple(lane["moves"])
        )
        live = score(run, one.trace, deadline_us, bars)
        replayed = score(replay(make_policy(name, ladder), one.trace, deadline_us), one.trace, deadline_us, bars)
        points = 100.0 * (live.effective_accuracy - replayed.effective_accuracy)
        rows.append(
            {
                "ladder": one.ladder,
                "weather": one.weather,
                "deadline": LIVE_DEADLINE,
                "policy": name,
                "requests": live.requests,
                "effective_accuracy": live.effective_accuracy,
                "interval": live.intervals.effective_accuracy,
                "miss_rate": live.miss_rate,
                "switches_per_1000": live.switches_per_1000,
                "replay_effective_accuracy": replayed.effective_accuracy,
                "live_minus_replay_points": points,
                "reproduced": abs(points) <= _AGREE_POINTS,
            }
        )
    ours = next(row for row in rows if row["policy"] == OURS)
    for row in rows:
        row["overlaps_ours"] = row["interval"][0] <= ours["interval"][1] and ours["interval"][0] <= row["interval"][1]
    return rows


def step_requests(ladder: Ladder, deadline_us: float, name: str = OURS) -> int | None:
    """Requests answered before a policy is where a doubled speed factor leaves it; None where it need not move."""
    policy = make_policy(name, ladder)
    rungs = []
    for request in range(2 * _STEP_REQUESTS):
        speed = 1.0 if request < _STEP_REQUESTS else 2.0
        rung = policy.choose(deadline_us, len(ladder) - 1, float(request)).rung
        cpu_us = speed * ladder[rung].cpu_us
        policy.observe(rung, cpu_us, cpu_us, deadline_us, float(request))
        rungs.append(rung)
    after = rungs[_STEP_REQUESTS:]
    if rungs[_STEP_REQUESTS - 1] == after[-1]:
        return None
    return next(index for index in range(len(after)) if set(after[index:]) == {after[-1]})


def table(found: Iterable[Cell]) -> dict[str, dict[str, float]]:
    """Each policy over all cells."""
    by_policy: dict[str, list[Score]] = {}
    for cell in found:
        by_policy.setdefault(cell.score.policy, []).append(cell.score)
    return {policy: _mean(scores) for policy, scores in by_policy.items()}


def _mean(scores: Sequence[Score]) -> dict[str, float]:
    return {
        "cells": len(scores),
        "percent_of_segment_oracle": statistics.fmean(each.percent_of_segment_oracle for each in scores),
        "worst_percent_of_segment_oracle": min(each.percent_of_segment_oracle for each in scores),
        "percent_of_best_static": statistics.fmean(each.percent_of_best_static for each in scores),
        "worst_percent_of_best_static": min(each.percent_of_best_static for each in scores),
        "miss_rate": statistics.fmean(each.miss_rate for each in scores),
        "switches_per_1000": statistics.fmean(each.switches_per_1000 for each in scores),
    }


def miss_ratio(found: Sequence[Cell]) -> float | None:
    """Our misses over ALERT's, summed over the cells in which ALERT misses at least 1 %; None if there is none."""
    rates = {(c.ladder, c.weather, c.deadline, c.score.policy): c.score.miss_rate for c in found}
    pairs = [(rates[*key, OURS], rate) for (*key, policy), rate in rates.items() if policy == ALERT]
    hard = [pair for pair in pairs if pair[1] >= _ALERT_MISSES]
    return sum(ours for ours, _ in hard) / sum(alert for _, alert in hard) if hard else None


def judge_replay(outcome: Outcome, found: Sequence[Cell]) -> None:
    """Everything that needs the matrices alone."""
    ours = [cell for cell in found if cell.score.policy == OURS]
    mean = _mean([cell.score for cell in ours])
    kinds = {kind.name: kind for kind in WEATHER}

    def beside_static(attribute: str) -> float:
        chosen = [c.score.percent_of_best_static for c in ours if getattr(kinds[c.weather], attribute)]
        return statistics.fmean(chosen) if chosen else float("nan")

    stationary, slow, ratio = beside_static("stationary"), beside_static("slow"), miss_ratio(found)
    outcome.figures["misses_over_alert"] = ratio
    outcome.figures["percent_of_best_static"] = {"stationary": stationary, "slow": slow}
    segment, worst = mean["percent_of_segment_oracle"], mean["worst_percent_of_segment_oracle"]
    outcome.judge(FLOOR_SEGMENT.name, met=segment >= 97.5 and worst >= 95.0)
    outcome.judge(GOAL_SEGMENT.name, met=segment >= 98.5 and worst >= 97.0)
    outcome.judge(FLOOR_MISSES.name, met=ratio is not None and ratio <= 0.5)
    outcome.judge(GOAL_MISSES.name, met=ratio is not None and ratio <= 0.25)
    outcome.judge(FLOOR_SWITCHES.name, met=mean["switches_per_1000"] <= 40.0)
    outcome.judge(GOAL_SWITCHES.name, met=mean["switches_per_1000"] <= 15.0)
    outcome.judge(GOAL_STATIC.name, met=stationary >= 100.0)
    outcome.judge(GOAL_SLOW.name, met=slow >= 102.0)


def judge_passes(outcome: Outcome, passes: Sequence[Pass], *, asked: int) -> None:
    """Live lanes, steps and costs."""
    rows = [row for one in passes for row in live_rows(one)]
    outcome.figures["live"] = rows
    outcome.figures["not_reproduced"] = [
        f"{row['ladder']} {row['weather']} {row['policy']}" for row in rows if not row["reproduced"]
    ]
    outcome.judge(AGREE.name, met=bool(rows) and all(row["reproduced"] for row in rows))
    missing = {f"{one.ladder} {one.weather}": one.record["unavailable"] for one in passes if one.record["unavailable"]}
    outcome.figures["unavailable"] = missing
    enough = all(row["requests"] >= _LIVE_REQUESTS for row in rows)
    outcome.judge(LIVE.name, met=enough and len(passes) == asked and not missing)
    ladders = {one.ladder: one.trace.ladder for one in passes}
    steps = {
        f"{name} {multiple}x": step_requests(ladder, multiple * ladder[-1].cpu_us)
        for name, ladder in ladders.items()
        for multiple in DEADLINES
    }
    outcome.figures["step_requests"] = steps
    told = [count for count in steps.values() if count is not None]
    outcome.judge(STEP.name, met=bool(told) and max(told) <= 4)
    costs: dict[str, list[float]] = {}
    for one in passes:
        for policy, lane in one.record["lanes"].items():
            costs.setdefault(policy, []).extend(lane["decision_us"])
    # Between requests others use the caches: what a decision costs then is told beside.
    outcome.figures["decision_us_live"] = {
        policy: {"p50": quantile(each, 0.5), "p99": quantile(each, 0.99)} for policy, each in costs.items()
    }
    replayed = {one.ladder: {name: decision_us(one, name) for name in LIVE_POLICIES} for one in passes}
    outcome.figures["decision_us"] = replayed
    outcome.judge(COST.name, met=bool(replayed) and all(each[OURS] <= 30.0 for each in replayed.values()))


def decision_us(one: Pass, name: str) -> float:
    """CPU time of choose and observe on a pass, microseconds for each request; the best of a few replays."""
    deadline_us, top = one.record["deadline_us"], len(one.trace.ladder) - 1
    times_us = []
    for _ in range(_COST_REPLAYS):
        policy = make_policy(name, one.trace.ladder)
        began_ns = time.thread_time_ns()
        for wall_us, cpu_us in zip(one.trace.wall_us, one.trace.cpu_us, strict=True):
            rung = policy.choose(deadline_us, top, 0.0).rung
            policy.observe(rung, wall_us[rung], cpu_us[rung], deadline_us, 0.0)
        times_us.append((time.thread_time_ns() - began_ns) / 1e3 / len(one.trace))
    return min(times_us)
