"""How good predictions are."""

from __future__ import annotations

import numpy as np
from scipy.stats import kendalltau

from tailorbird.predict.adaproxy import srcc
from tailorbird.predict.transfer import Prediction


def scores(measured: np.ndarray, predicted: Prediction, *, times: bool) -> dict[str, float]:
    """Rank correlations; of times also the mean absolute percentage error, the share within 10 %, the interval's
    coverage and mean width (percent)."""
    constant = np.ptp(predicted.ms) == 0
    found = {
        "srcc": srcc(predicted.ms, measured),
        "kendall": 0.0 if constant else float(kendalltau(predicted.ms, measured).statistic),
    }
    if times:
        error = np.abs(predicted.ms - measured) / measured
        found |= {"mape": 100 * float(error.mean()), "within10": 100 * float((error <= 0.10).mean())}
    if np.isfinite(predicted.lo).all():
        inside = (measured >= predicted.lo) & (measured <= predicted.hi)
        width = (predicted.hi - predicted.lo) / measured
        found |= {"covered": 100 * float(inside.mean()), "width": 100 * float(width.mean())}
    return {name: round(value, 4) for name, value in found.items()}
