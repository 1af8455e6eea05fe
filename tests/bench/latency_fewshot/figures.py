"""Means over pairs: each pair counts once, the mean over its draws."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.latency_fewshot.tasks import Pair
from tests.bench.latency_fewshot.trials import Row

METRICS = ("srcc", "kendall", "mape", "within10", "covered", "width")
_WORST = 0.1


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of one trial."""

    pair: Pair
    seed: int
    rows: Sequence[Row]


Which = Callable[[Pair], bool]


def per_pair(found: Iterable[Found], which: Which, **where: Any) -> dict[tuple[str, str], dict[str, float]]:
    """Of the rows that match (samples=, sampling=, predictor=): each metric, mean over draws, by task and target."""
    gathered: dict[tuple[str, str], dict[str, list[float]]] = {}
    for one in found:
        if not which(one.pair):
            continue
        for row in one.rows:
            if all(row[name] == value for name, value in where.items()):
                of_pair = gathered.setdefault((one.pair.task, one.pair.target), {})
                for metric in METRICS:
                    if metric in row:
                        of_pair.setdefault(metric, []).append(row[metric])
    return {
        pair: {metric: statistics.fmean(values) for metric, values in metrics.items()}
        for pair, metrics in gathered.items()
    }


def mean(found: Iterable[Found], which: Which, **where: Any) -> dict[str, float]:
    """Means over pairs, the number of pairs, and the least decile of the pairs' SRCC; empty where nothing matches."""
    pairs = list(per_pair(found, which, **where).values())
    if not pairs:
        return {}
    means: dict[str, float] = {
        metric: round(statistics.fmean(pair[metric] for pair in pairs if metric in pair), 4)
        for metric in METRICS
        if any(metric in pair for pair in pairs)
    }
    ranked = sorted(pair["srcc"] for pair in pairs)
    worst = ranked[max(0, math.ceil(_WORST * len(ranked)) - 1)]
    return {**means, "srcc_worst_decile": round(worst, 4), "pairs": len(pairs)}


def table(found: Sequence[Found]) -> dict[str, Any]:
    """suite -> measured | synthetic | all -> sampling -> predictor -> samples -> means."""
    keys = sorted({(row["sampling"], row["predictor"], row["samples"]) for one in found for row in one.rows})
    result: dict[str, Any] = {}
    for suite in sorted({one.pair.suite for one in found}):
        for kind, which in _kinds(suite).items():
            for sampling, predictor, samples in keys:
                means = mean(found, which, sampling=sampling, predictor=predictor, samples=samples)
                if means:
                    place = result.setdefault(suite, {}).setdefault(kind, {}).setdefault(sampling, {})
                    place.setdefault(predictor, {})[str(samples)] = means
    return result


def by_task(found: Sequence[Found]) -> dict[str, Any]:
    """suite -> task -> predictor with its chosen samples -> samples -> SRCC and MAPE."""
    result: dict[str, Any] = {}
    for suite, task in sorted({(one.pair.suite, one.pair.task) for one in found}):
        rows = [one for one in found if (one.pair.suite, one.pair.task) == (suite, task)]
        for predictor, samples in sorted({(row["predictor"], row["samples"]) for one in rows for row in one.rows}):
            means = mean(rows, lambda _: True, sampling="chosen", predictor=predictor, samples=samples)
            if means:
                place = result.setdefault(suite, {}).setdefault(task, {}).setdefault(predictor, {})
                place[str(samples)] = {metric: means[metric] for metric in ("srcc", "mape")}
    return result


def _kinds(suite: str) -> dict[str, Which]:
    return {
        "all": lambda pair: pair.suite == suite,
        "measured": lambda pair: pair.suite == suite and not pair.synthetic,
        "synthetic": lambda pair: pair.suite == suite and pair.synthetic,
    }
