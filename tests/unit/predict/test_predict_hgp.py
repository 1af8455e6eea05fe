"""The hierarchical Gaussian process: what it takes from proxies, from samples, and how sure it is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from tailorbird.errors import UsageError
from tailorbird.predict import design, hgp, proxy
from tailorbird.predict.hgp import FittedHierarchicalGP, HierarchicalGP, Variances, prior_covariance
from tailorbird.predict.proxy_table import ProxyTable
from tailorbird.predict.transfer import Samples
from tests.unit.predict.fleet import fleet

BOARDS = fleet()
POOL, TEST = slice(0, 200), slice(200, 300)
TABLE = ProxyTable.of(BOARDS.features[POOL], BOARDS.proxies(POOL, "d0"))
TRUE = BOARDS.latency_ms["d0"]


def fitted(rows: np.ndarray, latency: np.ndarray = TRUE) -> FittedHierarchicalGP:
    return HierarchicalGP().fit(TABLE, Samples.of(TABLE, BOARDS.features[rows], latency[rows]))


def error(model: FittedHierarchicalGP) -> float:
    return float(np.mean(np.abs(model.predict(BOARDS.features[TEST]).ms / TRUE[TEST] - 1)))


def test_milliseconds_need_a_sample():
    with pytest.raises(UsageError, match="never measured"):
        fitted(np.empty(0, dtype=int))


def test_one_outlier_among_twenty_samples_does_half_the_harm(monkeypatch: pytest.MonkeyPatch):
    rows = design.variance_reduction(TABLE, 20, np.random.default_rng(0))
    spoilt = TRUE.copy()
    spoilt[rows[4]] *= 3
    robust = fitted(rows, spoilt)
    assert robust.excess[4] == robust.excess.max() > 3
    monkeypatch.setattr(hgp, "_REWEIGHTINGS", 0)
    assert error(robust) < 0.6 * error(fitted(rows, spoilt))


def test_more_samples_make_narrower_intervals():
    order = np.random.default_rng(0).permutation(200)
    widths = [fitted(order[:count]).predict(BOARDS.features[TEST]).width.mean() for count in (5, 15, 60)]
    assert widths[0] > widths[1] > widths[2]


def test_intervals_widen_away_from_what_was_measured():
    rows = np.argsort(BOARDS.features[POOL, -3])[:15]
    far = np.argsort(BOARDS.features[TEST, -3])
    width = fitted(rows).predict(BOARDS.features[TEST]).width
    assert width[far[-20:]].mean() > 1.5 * width[far[:20]].mean()


def test_a_twin_of_a_proxy_is_recognised():
    twin = 2.5 * BOARDS.latency_ms["d3"]
    rows = design.variance_reduction(TABLE, 8, np.random.default_rng(0))
    found = fitted(rows, twin).predict(BOARDS.features[TEST]).ms
    assert spearmanr(found, twin[TEST])[0] > 0.98


def test_the_domain_is_that_in_which_latencies_add_up():
    def logarithmic(latency: np.ndarray) -> set[bool]:
        mixture = fitted(np.arange(20), latency).mixture
        assert mixture.weights.sum() == pytest.approx(1)
        return {member.domain.logarithmic for member in mixture.members}

    assert logarithmic(TRUE) == {False}
    assert logarithmic(TRUE**3) == {True}


def test_left_out_residuals_are_those_of_models_without_the_sample():
    """In closed form and by conditioning on all but one, for one cell of the grid."""
    one = HierarchicalGP((Variances(1.0, 0.5, 0.1, 0.3, 0.1, 0.05),))
    rows = np.arange(7)  # too few for reweighting

    def member(kept: np.ndarray):
        model = one.fit(TABLE, Samples.of(TABLE, BOARDS.features[kept], TRUE[kept]))
        return model, next(m for m in model.mixture.members if m.domain.logarithmic)

    model, whole = member(rows)
    alone = whole.domain.target - whole.coefficients / whole.precisions()
    for out in rows:
        kept = np.delete(rows, out)
        covariance = prior_covariance(TABLE, BOARDS.features[rows], one.grid[0])
        gram = covariance[np.ix_(kept, kept)] + 0.05 * np.eye(len(kept))
        expected = covariance[out, kept] @ np.linalg.solve(gram, whole.domain.target[kept])
        assert alone[out] == pytest.approx(expected, abs=1e-9)
    assert model.excess.max() == 1


def test_architectures_all_alike_predict_their_mean():
    same = np.ones((6, 4))
    ms, lo, hi = proxy.fit_predict(same, {"p": np.arange(1.0, 7.0)}, same[:3], np.array([4.0, 5.0, 6.0]), same[:2])
    assert ((ms > 4) & (ms < 6) & (lo < ms) & (ms < hi)).all()


def test_one_architecture_on_one_proxy_is_enough_to_scale():
    one = np.array([[1.0, 2.0]])
    ms, _, _ = proxy.fit_predict(one, {"p": np.array([3.0])}, one, np.array([7.0]), one)
    assert ms == pytest.approx([7.0], rel=0.05)


def test_the_design_lowers_what_the_model_does_not_know():
    variances = Variances(1.0, 0.5, 0.2, 0.05, 0.0, 0.02)
    covariance = prior_covariance(TABLE, TABLE.features, variances)

    def unknown(rows: np.ndarray) -> float:
        gram = covariance[np.ix_(rows, rows)] + 0.02 * np.eye(len(rows))
        return float(np.trace(covariance) - np.trace(covariance[:, rows] @ np.linalg.solve(gram, covariance[rows])))

    chosen = unknown(design.variance_reduction(TABLE, 10, np.random.default_rng(0)))
    drawn = [unknown(np.random.default_rng(seed).permutation(200)[:10]) for seed in range(20)]
    assert chosen < min(drawn)
