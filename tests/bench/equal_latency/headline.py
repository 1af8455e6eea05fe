"""The headline comparison: accuracy at equal measured latency, and latency at equal accuracy, on one training budget.

Ours is one trained SuperNet; each baseline is a family of networks made from the same pretrained one, and all of a
family together train for as long as our SuperNet did (or each of them does, with `sharing="variant"`). All are compiled
by the same compiler and timed on one device in the same rounds, one image at a time on one thread.

Choices (rungs, deadlines, which subnet answers at a latency) look at validation images; evaluation images are for the
reported figures alone. No baseline is tuned on either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from tailorbird.db import Store
from tailorbird.device import Device, LocalAgent
from tailorbird.flow.workspace import Note, silent
from tailorbird.supernet import SuperNet
from tests.bench.equal_latency import ours
from tests.bench.equal_latency.compare import Standing, compare, front
from tests.bench.equal_latency.contest import ORIGINAL, STANDARD, STRONGER, Contest, Data, Options, Stage
from tests.bench.equal_latency.entrant import Entrant
from tests.bench.equal_latency.finetune import Clock
from tests.bench.outcome import Outcome

__all__ = ["STANDARD", "STRONGER", "Data", "Options", "Stage", "declare", "judge", "private_device", "run", "table"]

#: What AutoTailor claims of its best case over its baselines, none of which had our networks or devices.
CLAIMED_GAIN_POINTS = 15.60
CLAIMED_LATENCY_PERCENT = -60.03
_GAIN = "headline: at least +15.60 points at equal latency at one point of a baseline"
_LATENCY = "headline: at least -60.03 % latency at equal accuracy at one point of a baseline"


def direct(_name: str, _settings: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A Stage that remembers nothing."""
    return make()


@contextmanager
def private_device(folder: Path) -> Iterator[tuple[Device, Store]]:
    """A fresh agent of this machine on a Unix socket, and a store of measurements, both of this folder alone."""
    agent = LocalAgent.start(folder / "agent", name="local")
    try:
        with Store(folder / "host.db") as store, Device.connect(agent.control) as device:
            yield device, store
    finally:
        agent.stop()


def run(
    pretrained: nn.Module,
    net: SuperNet,
    data: Data,
    device: Device,
    store: Store,
    options: Options,
    *,
    fitted: Mapping[str, Any] | None = None,
    predict: ours.Predict | None = None,
    identity: Mapping[str, Any] | None = None,
    clock: Clock = time.monotonic,
    seed: int = 0,
    stage: Stage = direct,
    note: Note = silent,
) -> dict[str, Any]:
    """The whole comparison, as JSON.

    pretrained: in eval mode, on the CPU; net: the SuperNet made of it, its training budget spent; fitted: how it was
    trained, for the record; predict: accuracy of a subnet (default: a table made here); identity: what of the data and
    the loaders a stage's settings must name; clock: what budgets are counted on. Networks that cannot be compiled or
    timed are reported with the reason and do not stop the rest.

    Raises: ValueError for a network in train mode; DeviceError, LeaseError.
    """
    if pretrained.training:
        raise ValueError("the pretrained network is in train mode: call eval() first")
    contest = Contest(
        pretrained,
        net,
        data,
        device,
        store,
        options,
        identity=identity or {},
        clock=clock,
        seed=seed,
        stage=stage,
        note=note,
    )
    others = [contest.original(), *(e for method in options.methods for e in contest.family(method))]
    scouted = contest.timings("headline-scout", others, options.scouting)
    rungs, search = contest.rungs([t.cpu_us for t in scouted.values()], predict)
    everyone = [*rungs, *others]
    timings = contest.timings("headline-race", everyone, options.rounds)
    return {
        "budget": {
            "seconds_for_each_method": options.budget_s,
            "shared_by": options.sharing,
            "fitted": dict(fitted or {}),
            "trained_seconds": trained_seconds(others),
            "tuning_of_baselines": asdict(options.tuning) | {"lr": list(options.rates)},
        },
        "device": {"name": device.name, "cpu": device.card.cpu_model, "runtime": options.runtime, "threads": 1},
        "search": search,
        "entrants": [
            e.figures() | {"timing": timings[e.label].to_json() if e.label in timings else None} for e in everyone
        ],
        "failures": contest.failures,
        "claims": {"gain_points": CLAIMED_GAIN_POINTS, "latency_change_percent": CLAIMED_LATENCY_PERCENT},
        "at_cpu_time": comparisons(everyone, {label: t.cpu_us for label, t in timings.items()}),
        "at_wall_time": comparisons(everyone, {label: t.wall_us for label, t in timings.items()}),
    }


def trained_seconds(entrants: Sequence[Entrant]) -> dict[str, float]:
    """What each baseline really trained for, by method."""
    found: dict[str, float] = {}
    for e in entrants:
        if "tuned" in e.details:
            found[e.method] = found.get(e.method, 0.0) + e.details["tuned"]["seconds"]
    return found


def comparisons(entrants: Sequence[Entrant], latency_us: Mapping[str, float]) -> dict[str, Any]:
    """Ours against every baseline, and against the front of all of them together, by method.

    latency_us: by label; entrants without one were not measured and are left out.
    """
    standing = {
        e.label: Standing(e.name, e.validation, e.evaluation, latency_us[e.label])
        for e in entrants
        if e.label in latency_us
    }
    by_method: dict[str, list[Standing]] = {}
    for e in entrants:
        if e.label in standing:
            by_method.setdefault(e.method, []).append(standing[e.label])
    mine = by_method.pop(ours.METHOD, [])
    original = next(iter(by_method.pop(ORIGINAL, [])), None)
    if not mine:
        return {}
    found = {method: compare(mine, points, original) for method, points in by_method.items()}
    together = [replace(p, name=f"{method}/{p.name}") for method, points in by_method.items() for p in points]
    if len(by_method) > 1:
        found["front of all baselines"] = compare(mine, front(together), original)
    if original is not None:
        found[ORIGINAL] = compare(mine, [original])
    return found


def declare(outcome: Outcome) -> None:
    """The targets of the comparison."""
    wording = (
        "AutoTailor's claim for its best case, over baselines and networks of its own; CPU time on the local agent"
    )
    outcome.target(_GAIN, wording)
    outcome.target(_LATENCY, wording)


def judge(outcome: Outcome, found: Mapping[str, Any]) -> None:
    """Judge them by what `run` found, over the points of the baselines."""
    own = {method: row for method, row in found.get("at_cpu_time", {}).items() if method in {*STANDARD, *STRONGER}}
    gains = [row["gain_points"]["max"] for row in own.values() if row["gain_points"]]
    changes = [row["latency_change_percent"]["min"] for row in own.values() if row["latency_change_percent"]]
    outcome.judge(_GAIN, met=bool(gains) and max(gains) >= CLAIMED_GAIN_POINTS)
    outcome.judge(_LATENCY, met=bool(changes) and min(changes) <= CLAIMED_LATENCY_PERCENT)


def table(found: Mapping[str, Any]) -> str:
    """Both figures of every point, and what they come to for each baseline, for people."""
    lines = [f"{'baseline':<24} {'point':<18} {'us':>8} {'top-1':>7} {'at equal latency':>16} {'latency':>9}"]
    for method, row in found["at_cpu_time"].items():
        lines += [
            f"{method:<24} {p['point']:<18} {p['latency_us']:>8.1f} {p['evaluation']:>7.2%} "
            f"{_words(p['gain_points'], 'points'):>16} {_words(p['latency_change_percent'], '%'):>9}"
            for p in row["points"]
        ]
    for method, row in found["at_cpu_time"].items():
        gain, change = (_range(row["gain_points"], -1, "points"), _range(row["latency_change_percent"], 1, "%"))
        lines.append(f"{method}, best to worst (median): {gain} at equal latency, latency {change} at equal accuracy")
    return "\n".join(lines) + "\n"


def _words(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:+.1f} {unit}"


def _range(extremes: Mapping[str, float] | None, better: int, unit: str) -> str:
    """better: -1 where large is good."""
    if extremes is None:
        return "-"
    best, worst = sorted((extremes["max"], extremes["min"]), key=lambda value: better * value)
    return f"{best:+.1f} to {worst:+.1f} ({extremes['median']:+.1f}) {unit}"
