"""Predictors against held-out subnets, and what each cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.stats import spearmanr

from tailorbird.predict import AutoTailor, FeatureMap, KernelSum, Sample, interpolation_error
from tailorbird.predict.proxy import choose_samples, fit_predict
from tailorbird.predict.proxy_table import ProxyTable
from tailorbird.predict.ridge import RichRidge
from tailorbird.predict.transfer import Samples
from tailorbird.profile import KernelTemplate, ProfileCost
from tailorbird.profile.fusion import unfused
from tailorbird.types import Kernel
from tests.bench.latency_local.measuring import Measured
from tests.bench.latency_local.settings import END_TO_END, SAMPLES
from tests.bench.latency_local.subjects import Subjects

_RIDGE_SAMPLES = (5, 10, 20, 30, 40, 60, 80, 100)
_SEEDS = 5


def errors(predicted: Sequence[float], measured: Sequence[float]) -> dict[str, float]:
    """MAPE and share within 10 %, percent; Spearman's rank correlation."""
    ours, true = np.array(predicted), np.array(measured)
    relative = np.abs(ours / true - 1)
    return {
        "mape": round(100 * float(relative.mean()), 3),
        "within10": round(100 * float((relative <= 0.1).mean()), 2),
        "srcc": round(float(spearmanr(ours, true).statistic), 4),
        "bias": round(100 * float((ours / true - 1).mean()), 2),
    }


def mean(all_: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each figure averaged over draws."""
    return {name: round(float(np.mean([one[name] for one in all_])), 4) for name in all_[0]}


def judge(subjects: Subjects, target: Measured, others: Mapping[str, Measured]) -> dict[str, object]:
    """Every predictor in one context. others: the contexts of the same network that serve as proxies."""
    true = [target.subnets_us[config] for config in target.held_out]
    plain = KernelSum(target.table, target.kernels_of, fusions=target.fusions)
    found: dict[str, dict[str, float]] = {"kernel sum": errors([plain(c) for c in target.held_out], true)}
    uncorrected = KernelSum(target.table, target.kernels_of)
    if target.fusions is not None:
        found["kernel sum, calls not taken off"] = errors([uncorrected(c) for c in target.held_out], true)
    structure = FeatureMap(subjects.net, subjects.kernels)
    proxy_sums = {name: KernelSum(o.table, o.kernels_of, fusions=o.fusions) for name, o in others.items()}
    without = FeatureMap(subjects.net, subjects.kernels, proxy_sums)
    with_own = FeatureMap(subjects.net, subjects.kernels, {**proxy_sums, "own": plain})
    pool_x = without(target.pool)
    matrices = {
        "transfer": (pool_x, without(target.held_out)),
        "transfer + own kernels": (with_own(target.pool), with_own(target.held_out)),
    }
    proxies = {n: np.array([o.subnets_us.get(c, np.nan) / 1e3 for c in target.pool]) for n, o in others.items()}
    pool_us = np.array([target.subnets_us[c] for c in target.pool])
    for count in SAMPLES:
        by_seed: dict[str, list[dict[str, float]]] = {}
        for seed in range(_SEEDS):
            rng = np.random.default_rng(seed)
            chosen = _chosen(pool_x, proxies, count, rng)
            if count:
                samples = [Sample(target.pool[i], float(pool_us[i])) for i in chosen]
                ours = plain.calibrated(samples)
                by_seed.setdefault(f"kernel sum + {count}", []).append(errors([ours(c) for c in target.held_out], true))
            for name, (all_x, x) in matrices.items() if others else ():
                ms, low, high = fit_predict(all_x, proxies, all_x[chosen], pool_us[chosen] / 1e3, x)
                scores = errors(1e3 * ms, true)
                if count == 0:
                    scores = {"srcc": scores["srcc"]}  # a score for ranking is no time
                else:
                    inside = (np.array(true) >= 1e3 * low) & (np.array(true) <= 1e3 * high)
                    scores["coverage90"] = round(100 * float(inside.mean()), 1)
                by_seed.setdefault(f"{name}, {count}", []).append(scores)
        found |= {name: mean(all_) for name, all_ in by_seed.items()}
    found |= _ridge(target, structure(target.pool), structure(target.held_out), true)
    if target.operations is not None:
        published = AutoTailor(target.operations, target.pairs_us, target.kernels_of)
        found["autotailor"] = errors([published(c) for c in target.held_out], true)
    return {
        "predictors": found,
        "cost": _cost(subjects, target, found),
        "kernels": {
            "distinct": target.plan.reachable,
            "exact": target.plan.exact,
            "measured": len(target.table.times),
            "failed": len(target.table.failures),
            "interpolation": _interpolation(target),
        },
        "fusions": _fusions(target),
        "verdicts": target.verdicts,
        "held_out": len(target.held_out),
        "median_us": float(np.median(true)),
        "range_us": [float(min(true)), float(max(true))],
    }


def _chosen(pool_x: np.ndarray, proxies: Mapping[str, np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    """Which subnets of the pool to measure: by what proxies know, at random where there are none."""
    if count and proxies:
        return choose_samples(pool_x, proxies, count, rng)
    return rng.choice(len(pool_x), count, replace=False)


def _ridge(
    target: Measured, pool_x: np.ndarray, test_x: np.ndarray, true: Sequence[float]
) -> dict[str, dict[str, float]]:
    """Rich ridge on the target alone, from random samples; no column of its features was measured anywhere."""
    pool_ms = np.array([target.subnets_us[c] / 1e3 for c in target.pool])
    table = ProxyTable.of(pool_x, {"none": pool_ms})  # it takes the scale of the features from here, and no time
    found = {}
    for count in _RIDGE_SAMPLES:
        if count > len(target.pool):
            break
        draws = []
        for seed in range(_SEEDS):
            chosen = np.random.default_rng(seed).choice(len(pool_ms), count, replace=False)
            fitted = RichRidge().fit(table, Samples.of(table, pool_x[chosen], pool_ms[chosen]))
            draws.append(errors(1e3 * fitted.predict(test_x).ms, true))
        found[f"rich ridge, {count}"] = mean(draws)
    return found


def _cost(subjects: Subjects, target: Measured, found: Mapping[str, Mapping[str, float]]) -> dict[str, object]:
    """Seconds of profiling for `kernel sum + 10`, and those of other ways; everything else extrapolated from means."""
    entry_s = float(np.mean(target.entry_seconds))
    subnet_s = float(np.mean(target.subnet_seconds))
    operations = _operations(target)
    cost = ProfileCost(
        len(target.table.times),
        target.plan.reachable,
        target.table.seconds,
        target.probing_seconds,
        target.listing_seconds,
        10,
        subnet_s,
        float(np.mean([len(operations(target.kernels_of(config))) for config in target.held_out])),
        target.plan.entries,
    )
    tables = {
        "operations of 2000 subnets": END_TO_END * cost.operations,
        **_choices(subjects, target, operations),
        "kernels at every place": float(target.plan.entries),
    }
    enough = [(int(name.split(", ")[1]), one["mape"]) for name, one in found.items() if name.startswith("rich ridge")]
    equal = next((count for count, mape in enough if mape <= found["kernel sum + 10"]["mape"]), None)
    most = max((count for count, _ in enough), default=0)
    return {
        "ours_s": round(cost.seconds, 2),
        "kernels_s": round(cost.kernels_s, 2),
        "listing_and_compiling_s": round(cost.listing_s, 2),
        "probing_s": round(cost.probes_s, 2),
        "kernel_s": round(cost.kernel_s, 4),
        "entry_s": round(entry_s, 4),
        "subnet_s": round(subnet_s, 4),
        "subnets_measured": len(target.subnet_seconds),
        "entries_measured": len(target.entry_seconds),
        "operations_per_subnet": round(cost.operations, 1),
        "saving, 2000 subnets end to end": round(cost.saving_end_to_end(END_TO_END), 1),
        "entries without deduplication": {name: round(count) for name, count in tables.items()},
        **{f"saving, {name}": round(count * entry_s / cost.seconds, 2) for name, count in tables.items()},
        "kernels at every place over distinct ones": round(target.plan.entries / target.plan.reachable, 2),
        "rich ridge samples for equal error": equal or f"more than {most}",
        "rich ridge cost over ours": round((equal or most) * subnet_s / cost.seconds, 2),
    }


def _operations(target: Measured) -> Callable[[Sequence[Kernel]], Sequence[Kernel]]:
    """What a table that knows no fusion has entries for; TVM has no operations but those it fused."""
    return unfused if target.operations is not None else tuple


def _choices(
    subjects: Subjects, target: Measured, operations: Callable[[Sequence[Kernel]], Sequence[Kernel]]
) -> dict[str, float]:
    """Entries of tables by place: one for each operation and choice of all that is elastic at its place, or its block.

    A block is what can be skipped together; what cannot is one by itself.
    """
    template = target.kernels_of
    if not isinstance(template, KernelTemplate):
        return {}
    choices = {dimension.name: len(dimension.choices) for dimension in subjects.net.space.dimensions}
    at = {name: frozenset(template.places_of(name)) for name in choices}
    blocks = {place: frozenset(run) for run in template.runs.values() for place in run}
    by_place = by_block = 0.0
    for place, kernel in enumerate(template.full):
        count = len(operations([kernel]))
        by_place += count * math.prod(choices[name] for name, places in at.items() if place in places)
        block = blocks.get(place, frozenset({place}))
        by_block += count * math.prod(choices[name] for name, places in at.items() if block & places)
    return {"operations at every place and block choice": by_block, "operations at every place": by_place}


def _interpolation(target: Measured) -> dict[str, float] | None:
    error = interpolation_error(target.table.times_us)
    return None if error is None else {"held_out": error.samples, "mape": round(error.mape, 2)}


def _fusions(target: Measured) -> dict[str, object] | None:
    if target.fusions is None:
        return None
    return {
        "call_us": round(target.fusions.call_us, 3),
        "copy_us_per_mib": round(target.fusions.copy_us_per_byte * 2**20, 2),
        "fused": {" ".join(k): round(rule.share, 2) for k, rule in target.fusions.rules.items() if rule.fused},
        "apart": {" ".join(k): round(rule.share, 2) for k, rule in target.fusions.rules.items() if not rule.fused},
    }
