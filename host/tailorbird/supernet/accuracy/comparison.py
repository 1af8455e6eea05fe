"""Comparison: how good predicted accuracies are, against measured ones the predictor has not seen."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import kendalltau, spearmanr  # type: ignore[import-untyped, unused-ignore]

_LIMITS = (0.25, 0.5, 0.75)  # quantiles of the costs


@dataclass(frozen=True, slots=True)
class Comparison:
    """A figure is None where it is not defined.

    kendall_tau: tau-b, and spearman: rank correlations, None with fewer than two subnets or where either side is
    constant. mae_points, bias_points: mean absolute and mean error (predicted minus measured) in points of accuracy;
    None for predictions that only rank, or that are not all finite. regret_points: by how many points the subnet with
    the best prediction is less accurate than the best subnet, 0 or more; of equal predictions the mean.
    limited_regret_points: mean regret among the subnets within a limit of cost, over limits at the quartiles of the
    costs; None without costs. All figures are None where a prediction is NaN.
    """

    subnets: int
    kendall_tau: float | None
    spearman: float | None
    mae_points: float | None
    bias_points: float | None
    regret_points: float | None
    limited_regret_points: float | None


def compare(
    predicted: Sequence[float],
    measured: Sequence[float],
    *,
    scores: Sequence[float] | None = None,
    calibrated: bool = True,
    costs: Sequence[float] | None = None,
) -> Comparison:
    """Compare predictions with measurements of the same subnets, both fractions.

    scores: what subnets are ranked by, larger is better, where that tells apart subnets of equal prediction (default:
    predicted). calibrated: whether predictions are accuracies. costs: such as MACs or latencies of the subnets.

    Raises: ValueError for no subnets, sequences of different lengths, or a measurement or cost that is not finite.
    """
    ranked = predicted if scores is None else scores
    lengths = {len(values) for values in (predicted, measured, ranked, costs) if values is not None}
    if lengths == {0} or len(lengths) != 1:
        raise ValueError(f"sequences of one length, not empty, are needed; they have {sorted(lengths)}")
    if not all(math.isfinite(value) for value in (*measured, *(costs or ()))):
        raise ValueError("a measured accuracy or a cost is not a finite number")
    if any(math.isnan(value) for value in (*predicted, *ranked)):
        return Comparison(len(measured), None, None, None, None, None, None)
    tau = rho = None
    if len(set(ranked)) > 1 and len(set(measured)) > 1:
        by_pairs: Any = kendalltau(ranked, measured)
        by_ranks: Any = spearmanr(ranked, measured)
        tau, rho = float(by_pairs.statistic), float(by_ranks.statistic)
    mae = bias = None
    if calibrated and all(map(math.isfinite, predicted)):
        errors = [100 * (guess - real) for guess, real in zip(predicted, measured, strict=True)]
        mae, bias = statistics.fmean(map(abs, errors)), statistics.fmean(errors)
    limited = None
    if costs is not None:
        limits = np.quantile(costs, _LIMITS, method="lower")
        within = [[place for place, cost in enumerate(costs) if cost <= limit] for limit in limits]
        limited = statistics.fmean(_regret(ranked, measured, places) for places in within)
    return Comparison(len(measured), tau, rho, mae, bias, _regret(ranked, measured, range(len(measured))), limited)


def _regret(ranked: Sequence[float], measured: Sequence[float], places: Sequence[int]) -> float:
    """Points lost among the subnets at some places by taking the one that is ranked first."""
    top = max(ranked[place] for place in places)
    best = max(measured[place] for place in places)
    return 100 * statistics.fmean(best - measured[place] for place in places if ranked[place] == top)
