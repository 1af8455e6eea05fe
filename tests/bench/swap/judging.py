"""Figures from the stages, the targets, and which of them are met."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.outcome import Outcome, quantile
from tests.bench.swap import settings
from tests.bench.swap.loadgen import SWING_S
from tests.bench.swap.rungs import PHASE

REQUESTS, DEPLOYMENTS, SWITCHES, KILLS = 1_000_000, 1_000, 10_000, 1_000
#: Within which a service has to be back.
_BACK_S = 5.0
#: Raw samples of one kind that the object carries at most, evenly spaced.
_SAMPLES = 5_000

LOST = "swap: no request lost"
WRONG = "swap: no answer wrong"
FLIGHT = "swap: requests in flight"
DURING = "swap: latency during deployments"
AROUND = "swap: latency around switches of rung"
ACTUATION = "switch between resident rungs"
FIRST = "first request after a switch"
COLD = "cold rung, first answer"
MEMORY = "memory of the current rung and its neighbours"
SINGLE_STREAM = "LoadGen SingleStream"
SERVER = "LoadGen Server"
KILLED = "random SIGKILLs"
_SCALE = f"{REQUESTS:,} requests of two other processes, {DEPLOYMENTS:,} deployments, {SWITCHES:,} switches of rung"
TARGETS = {
    LOST: f"0 lost in {_SCALE}",
    WRONG: f"0 wrong in {_SCALE}; rungs more than 100 tolerances apart on every input",
    FLIGHT: f"at least {settings.IN_FLIGHT} at every deployment and every switch",
    DURING: "p99 of requests on their way during a deployment at most 2x the p99 of all others",
    AROUND: "p99 of requests on their way at a switch of rung at most 2x the p99 of others, outside deployments",
    ACTUATION: "p99 at most 5 us, small and 10 MB rungs",
    FIRST: f"on-CPU time within 10 % of the {PHASE - 1} that follow it, median, small and 10 MB rungs",
    COLD: "p99 at most 50 ms, 10 MB module",
    MEMORY: "at most 1.6x the largest rung's, PSS beyond a worker's with next to no model, any rung held",
    SINGLE_STREAM: f"VALID, none lost, rungs change every {1e3 * SWING_S:.0f} ms while bundles follow each other",
    KILLED: f"{KILLS:,} of agent and worker: no blob damaged, what was committed serves within {_BACK_S:g} s each time",
    SERVER: f"VALID, none lost, rungs change every {1e3 * SWING_S:.0f} ms while bundles follow each other",
}


@dataclass(frozen=True, slots=True)
class Watched:
    """What one piece of the load showed; latencies in milliseconds, counts of requests in flight."""

    requests: int
    lost: tuple[str, ...]
    wrong: tuple[str, ...]
    answered_by: Mapping[str, int]
    distance: float
    deploy_s: tuple[float, ...]
    at_deployments: tuple[int, ...]
    at_switches: tuple[int, ...]
    actuation_us: tuple[float, ...]
    steady_ms: np.ndarray
    during_ms: np.ndarray
    calm_ms: np.ndarray
    around_ms: np.ndarray


def watched(path: Path) -> Watched:
    """Read a piece."""
    with np.load(path) as seen:
        began, ended, version = seen["rows"].T
        windows, moved, switched = seen["windows"], seen["moved"], seen["switched"]
        took_ms = 1e3 * (ended - began)
        during = np.zeros(len(began), dtype=bool)
        for begun, done in windows:
            during |= (began < done) & (ended > begun)
        moments = np.sort(switched[:, 0])
        around = np.searchsorted(moments, ended) > np.searchsorted(moments, began)
        names = [str(name).partition("/")[2] for name in seen["versions"]]
        answered = [names[int(number)] for number in version if number >= 0]
        return Watched(
            requests=int(seen["requests"]),
            lost=tuple(map(str, seen["lost"])),
            wrong=tuple(map(str, seen["wrong"])),
            answered_by={name: answered.count(name) for name in sorted(set(names))},
            distance=float(seen["distance"]),
            deploy_s=tuple(float(done - begun) for begun, done in windows),
            at_deployments=_in_flight(began, ended, moved),
            at_switches=_in_flight(began, ended, _while_asked(moments, began, ended)),
            actuation_us=tuple(float(us) for us in switched[:, 1]),
            steady_ms=took_ms[~during],
            during_ms=took_ms[during],
            calm_ms=took_ms[~during & ~around],
            around_ms=took_ms[~during & around],
        )


def _while_asked(moments: np.ndarray, began: np.ndarray, ended: np.ndarray) -> np.ndarray:
    """Those before the clients wind up: a lane that is done asks no more."""
    if not len(began):
        return moments
    last = np.partition(began, -settings.CLIENTS * settings.LANES)[-settings.CLIENTS * settings.LANES]
    return moments[(moments > began[0]) & (moments < last)]


def _in_flight(began: np.ndarray, ended: np.ndarray, moments: np.ndarray) -> tuple[int, ...]:
    """Requests that had begun and not ended at each moment."""
    before = np.searchsorted(np.sort(began), moments, side="right")
    over = np.searchsorted(np.sort(ended), moments, side="right")
    return tuple(int(count) for count in before - over)


def judge_traffic(outcome: Outcome, pieces: Sequence[Watched]) -> None:
    """Figures of all pieces together."""
    requests = sum(piece.requests for piece in pieces)
    lost = [words for piece in pieces for words in piece.lost]
    wrong = [words for piece in pieces for words in piece.wrong]
    deployments = [count for piece in pieces for count in piece.at_deployments]
    switches = [count for piece in pieces for count in piece.at_switches]
    deploy_s = [each for piece in pieces for each in piece.deploy_s]
    actuation = [us for piece in pieces for us in piece.actuation_us]
    far = min(piece.distance for piece in pieces)
    enough = requests >= REQUESTS and len(deployments) >= DEPLOYMENTS and len(actuation) >= SWITCHES
    steady, during, calm, around = (
        np.concatenate([getattr(piece, name) for piece in pieces])
        for name in ("steady_ms", "during_ms", "calm_ms", "around_ms")
    )
    outcome.figures["swap"] = {
        "requests": requests,
        "deployments": len(deployments),
        "switches": len(actuation),
        "lost": len(lost),
        "wrong": len(wrong),
        "first_failures": (lost + wrong)[:5],
        "answered_by": {
            name: sum(piece.answered_by.get(name, 0) for piece in pieces) for name in sorted(pieces[0].answered_by)
        },
        "smallest_distance_over_tolerance": round(far),
        "in_flight_at_deployments": _counted(deployments),
        "in_flight_at_switches": _counted(switches),
        "deploy_s": {"p50": quantile(deploy_s, 0.5), "max": max(deploy_s)},
        "latency_ms": {
            name: _latency(each)
            for name, each in (("steady", steady), ("during", during), ("calm", calm), ("around", around))
        },
    }
    outcome.samples |= {
        "swap_deploy_s": deploy_s,
        "swap_in_flight_at_deployments": [float(count) for count in deployments],
        "swap_steady_ms": _thinned(steady),
        "swap_during_ms": _thinned(during),
        "swap_calm_ms": _thinned(calm),
        "swap_around_ms": _thinned(around),
        "swap_actuation_us": _thinned(np.array(actuation)),
    }
    outcome.judge(LOST, met=enough and not lost)
    outcome.judge(WRONG, met=enough and not wrong and far > 100)
    least = min([*deployments, *switches], default=0)
    outcome.judge(FLIGHT, met=bool(deployments and switches) and least >= settings.IN_FLIGHT)
    outcome.judge(DURING, met=_p99_ratio(outcome, "during", during, steady) <= 2.0)
    outcome.judge(AROUND, met=_p99_ratio(outcome, "around", around, calm) <= 2.0)


def judge_switches(outcome: Outcome, found: Mapping[str, Any]) -> None:
    """The single caller whose deadlines swing; found: see rungs.switches."""
    figures = {}
    for name, seen in found.items():
        figures[name] = {
            "switches": len(seen["actuation_us"]),
            "actuation_us": {"p50": quantile(seen["actuation_us"], 0.5), "p99": quantile(seen["actuation_us"], 0.99)},
            "first_over_later": {"p50": quantile(seen["penalty"], 0.5), "p90": quantile(seen["penalty"], 0.9)},
            "later_cpu_us": [statistics.median(seen["later_us"][start::2]) for start in (0, 1)],
        }
        outcome.samples |= {
            f"switch_{name}_us": seen["actuation_us"],
            f"switch_{name}_first_over_later": seen["penalty"],
        }
    outcome.figures["switch"] = figures
    counted = all(each["switches"] >= 100 for each in figures.values())
    outcome.judge(ACTUATION, met=counted and all(each["actuation_us"]["p99"] <= 5.0 for each in figures.values()))
    outcome.judge(FIRST, met=counted and all(each["first_over_later"]["p50"] <= 1.1 for each in figures.values()))


def judge_cold(outcome: Outcome, found: Mapping[str, Any]) -> None:
    """First answers of rungs that were not in memory; found: see rungs.cold."""
    cold, warm = found["cold_ms"], found["warm_ms"]
    outcome.figures["cold"] = {
        "module_mb": round(found["module_bytes"] / 1e6, 2),
        "answers": len(cold),
        "cold_ms": {"p50": quantile(cold, 0.5), "p99": quantile(cold, 0.99)},
        "warm_ms": {"p50": quantile(warm, 0.5), "p99": quantile(warm, 0.99)},
    }
    outcome.samples |= {"cold_ms": cold, "warm_ms": warm}
    outcome.judge(COLD, met=len(cold) >= 20 and found["module_bytes"] >= 10e6 and quantile(cold, 0.99) <= 50.0)


def judge_memory(outcome: Outcome, found: Mapping[str, Any]) -> None:
    """PSS of the worker; found: see rungs.memory."""
    base, largest = found["base_mib"], found["largest_mib"]
    worst = max(found["held_mib"].values())
    outcome.figures["memory"] = dict(found) | {
        "ratio": (worst - base) / (largest - base),
        "ratio_with_the_interpreter": worst / largest,
    }
    outcome.judge(MEMORY, met=(worst - base) <= 1.6 * (largest - base))


def judge_load(outcome: Outcome, name: str, found: Mapping[str, Any]) -> None:
    """LoadGen's verdict; found: see loadgen.run."""
    outcome.figures[name] = dict(found)
    # A phase in which no query comes, or whose decision another process delays, has no switch of its own.
    often = found["switches"] >= 0.8 * found["seconds"] / SWING_S
    outcome.judge(name, met=found["valid"] and found["failed"] == 0 and often and found["deployments"] > 0)


def judge_kills(outcome: Outcome, parts: Sequence[Mapping[str, Any]]) -> None:
    """What SIGKILLs left behind; parts: see kills.run."""
    failures = [part["failure"] for part in parts if "failure" in part]
    back_s = {who: [each for part in parts for each in part.get(f"{who}_back_s", [])] for who in ("agent", "worker")}
    every = [each for times in back_s.values() for each in times]
    outcome.figures["kills"] = {"kills": len(every), "failures": failures} | {
        f"{who}_back_s": {"kills": len(times), "p50": quantile(times, 0.5), "max": max(times)}
        for who, times in back_s.items()
        if times
    }
    outcome.samples |= {f"kills_{who}_back_s": times for who, times in back_s.items()}
    outcome.judge(KILLED, met=not failures and len(every) >= KILLS and max(every) <= _BACK_S)


def _counted(counts: Sequence[int]) -> dict[str, float]:
    if not counts:
        return {"swaps": 0}
    return {"swaps": len(counts), "min": min(counts), "median": statistics.median(counts)}


def _latency(each: np.ndarray) -> dict[str, float]:
    if not len(each):
        return {"requests": 0}
    return {"requests": len(each)} | {
        words: float(np.quantile(each, q)) for words, q in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
    }


def _p99_ratio(outcome: Outcome, name: str, busy: np.ndarray, quiet: np.ndarray) -> float:
    """NaN, which is never small enough, where one of them has too few requests for a p99."""
    ratio = float("nan")
    if min(len(busy), len(quiet)) >= 100:
        ratio = float(np.quantile(busy, 0.99) / np.quantile(quiet, 0.99))
        outcome.figures["swap"][f"p99_{name}_over_quiet"] = ratio
    return ratio


def _thinned(each: np.ndarray) -> list[float]:
    step = -(-len(each) // _SAMPLES) or 1
    return [round(float(value), 4) for value in each[::step]]
