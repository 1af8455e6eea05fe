"""From replays to figures: how many trials, how long, how fast the result; each mode paired with plain fine-tuning."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.bench.cost.replay import Replay

#: Seconds that a candidate cost to build and run when the records were made and the machine was quiet.
TRIAL_S = 0.21

SHARES = (0.90, 0.95)
POINTS = (8, 16, 24, 40)

#: Student's t for 95 % and the degrees of freedom at hand.
_T95 = {2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 8: 2.31, 10: 2.23, 14: 2.14, 20: 2.09, 34: 2.03}


def summarised(found: Replay, budget: int) -> dict[str, Any]:
    """A replay as what is kept of it: one entry for each kernel, JSON."""
    share = found.model_s / max(1, sum(len(run.order) for run in found.runs))
    return {
        "model_s_per_trial": share,
        "kernels": {
            run.task.workload: {
                "trials": len(run.order),
                "pool": len(run.task.times_us),
                "best_us": float(np.nanmin(run.task.times_us)),
                "reached": [run.trials_to(part) for part in SHARES],
                "at": [run.best_us(point) for point in POINTS if point <= budget],
                "end": run.best_us(),
            }
            for run in found.runs
        },
    }


#: context -> mode -> (network, seed) -> what `summarised` gave
Results = Mapping[str, Mapping[str, Mapping[tuple[str, int], dict[str, Any]]]]


def table(results: Results, baseline: str) -> dict[str, dict[str, dict[str, float]]]:
    """context -> mode -> figures. Ratios are geometric means over paired tuning runs, with 95 % intervals."""
    return {
        context: {
            mode: _figures(runs, modes.get(baseline, {})) | _absolute(list(runs.values()))
            for mode, runs in modes.items()
        }
        for context, modes in results.items()
    }


def _absolute(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    kernels = [kernel for run in runs for kernel in run["kernels"].values()]
    figures = {
        f"trials to {share:.0%}": statistics.fmean(kernel["reached"][index] for kernel in kernels)
        for index, share in enumerate(SHARES)
    }
    figures |= {
        f"speed after {POINTS[index]}": statistics.fmean(kernel["best_us"] / kernel["at"][index] for kernel in kernels)
        for index in range(len(kernels[0]["at"]))
    }
    return figures | {
        "speed at the end": statistics.fmean(kernel["best_us"] / kernel["end"] for kernel in kernels),
        "trials": statistics.fmean(kernel["trials"] for kernel in kernels),
        "model seconds per trial": statistics.fmean(run["model_s_per_trial"] for run in runs),
        "tuning runs": float(len(runs)),
    }


def _figures(
    runs: Mapping[tuple[str, int], dict[str, Any]], baseline: Mapping[tuple[str, int], dict[str, Any]]
) -> dict[str, float]:
    """Against the baseline: search efficiency as Moses defines it (time of the same number of trials, of which a
    controller may leave some out), latency gain, and both together: CMAT = (efficiency * gain - 1) * 100."""
    ratios: dict[str, list[float]] = defaultdict(list)
    for pair in sorted(set(runs) & set(baseline)):
        mine, theirs = runs[pair], baseline[pair]
        ratios["search efficiency"].append(math.log(_seconds(theirs) / _seconds(mine)))
        ratios["latency gain"].append(_log_gain(mine, theirs))
        for index, share in enumerate(SHARES):
            trials = [sum(k["reached"][index] for k in run["kernels"].values()) for run in (theirs, mine)]
            ratios[f"fewer trials to {share:.0%}"].append(math.log(trials[0] / trials[1]))
    figures: dict[str, float] = {}
    for name, logs in ratios.items():
        middle, half = statistics.fmean(logs), _half_width(logs)
        figures |= {name: math.exp(middle), f"{name}, low": math.exp(middle - half)}
        figures[f"{name}, high"] = math.exp(middle + half)
    if figures:
        figures["CMAT, %"] = 100.0 * (figures["search efficiency"] * figures["latency gain"] - 1.0)
    return figures


def _seconds(run: dict[str, Any]) -> float:
    trials = sum(kernel["trials"] for kernel in run["kernels"].values())
    return trials * (TRIAL_S + run["model_s_per_trial"])


def _log_gain(mine: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Mean over kernels of the logarithm of how much faster the chosen schedule is."""
    pairs = [(mine["kernels"][key]["end"], other["end"]) for key, other in theirs["kernels"].items()]
    return statistics.fmean(math.log(other / own) for own, other in pairs)


def _half_width(logs: Sequence[float]) -> float:
    if len(logs) < 2:
        return math.inf
    freedom = max((known for known in _T95 if known <= len(logs) - 1), default=2)
    return _T95[freedom] * statistics.stdev(logs) / math.sqrt(len(logs))
