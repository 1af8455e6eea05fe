"""Rich ridge against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from tailorbird.errors import UsageError
from tailorbird.predict.proxy_table import ProxyTable
from tailorbird.predict.ridge import RichRidge
from tailorbird.predict.transfer import Samples
from tests.unit.predict.fleet import fleet


def fitted(rows: np.ndarray):
    boards = fleet()
    table = ProxyTable.of(boards.features, {"d1": boards.latency_ms["d1"]})
    return RichRidge().fit(table, Samples.of(table, boards.features[rows], boards.latency_ms["d0"][rows])), boards


def test_leaving_out_in_closed_form_is_leaving_out():
    rows = np.arange(40)
    model, boards = fitted(rows)
    penalty = model.penalty
    scaled = model.scale(boards.features[rows])
    latency = boards.latency_ms["d0"][rows] / model.mean_ms
    for out in (0, 17, 39):
        kept = np.delete(rows, out)
        centred = scaled[kept] - scaled[kept].mean(axis=0)
        gram = centred.T @ centred + penalty * np.eye(scaled.shape[1])
        slope = np.linalg.solve(gram, centred.T @ (latency[kept] - latency[kept].mean()))
        alone = latency[kept].mean() + (scaled[out] - scaled[kept].mean(axis=0)) @ slope
        assert model.left_out_ms[out] == pytest.approx(model.mean_ms * alone, rel=1e-6)


def test_two_samples_are_too_few():
    with pytest.raises(UsageError, match="2 of at least 3"):
        fitted(np.arange(2))


def test_no_prediction_is_zero_or_less():
    model, boards = fitted(np.arange(4))
    assert (model.predict(-50 * boards.features).ms > 0).all()
