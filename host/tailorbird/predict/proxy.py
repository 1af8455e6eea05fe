"""Latency on a new device from proxy devices and a handful of samples: the three functions to call.

Arrays are numpy. Features are any real numbers, unscaled, one row per architecture, the same columns everywhere.
Latencies are milliseconds; NaN means not measured. Which predictor stands behind fit_predict was decided on devices and
draws that the published benchmark does not score (tests/bench/latency_fewshot).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tailorbird.errors import UsageError
from tailorbird.predict import design
from tailorbird.predict.adaproxy import AdaProxy
from tailorbird.predict.hgp import HierarchicalGP, proxy_ranking
from tailorbird.predict.proxy_table import Array, ProxyTable, feature_matrix
from tailorbird.predict.transfer import Samples


def fit_predict(
    proxy_X: Array,  # noqa: N803  (X: features, as everywhere in statistics)
    proxy_y_by_device: Mapping[str, Array],
    target_X_samples: Array,  # noqa: N803
    target_y_samples: Array,
    target_X_test: Array,  # noqa: N803
) -> tuple[Array, Array, Array]:
    """Latency of architectures on a target, with 90 % intervals.

    proxy_X: (N, P); proxy_y_by_device: name to (N,) milliseconds; target_X_samples: (K, P) with target_y_samples: (K,);
    target_X_test: (M, P). Returns (ms, lo, hi), each (M,). Without samples ms is a score that orders architectures from
    fast to slow and is no time at all; lo and hi are then NaN. So they are for samples of one or two architectures when
    the proxies take the same time for all: nothing then tells how far others differ.

    Raises UsageError for input that cannot be used.
    """
    table = ProxyTable.of(proxy_X, proxy_y_by_device)
    samples = Samples.of(table, target_X_samples, target_y_samples)
    test = feature_matrix(target_X_test, "the architectures to predict", table.features.shape[1])
    if not len(samples):
        unknown = np.full(len(test), np.nan)
        return proxy_ranking(table, test), unknown, unknown.copy()
    found = HierarchicalGP().fit(table, samples).predict(test)
    return found.ms, found.lo, found.hi


def adaproxy(
    proxy_X: Array,  # noqa: N803
    proxy_y_by_device: Mapping[str, Array],
    target_X_samples: Array,  # noqa: N803
    target_y_samples: Array,
    target_X_test: Array,  # noqa: N803
) -> Array:
    """The same by AdaProxy on one-hot features, from the proxy that orders the samples best: milliseconds (M,).

    Without samples: a score for ranking. Raises UsageError as fit_predict does.
    """
    table = ProxyTable.of(proxy_X, proxy_y_by_device)
    samples = Samples.of(table, target_X_samples, target_y_samples)
    test = feature_matrix(target_X_test, "the architectures to predict", table.features.shape[1])
    if not len(samples):
        return AdaProxy().score(table, test)
    return AdaProxy().fit(table, samples).predict(test).ms


def choose_samples(
    proxy_X: Array,  # noqa: N803
    proxy_y_by_device: Mapping[str, Array],
    k: int,
    rng: np.random.Generator,
) -> Array:
    """Which k architectures of proxy_X (N, P) to measure on any new device; distinct indices (k,).

    Raises UsageError for more samples than architectures.
    """
    table = ProxyTable.of(proxy_X, proxy_y_by_device)
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 0 <= k <= len(table.features):
        raise UsageError(
            f"{k!r} samples cannot be chosen from {len(table.features)} architectures.",
            why="each is measured once, and a whole number of them",
            fix="Ask for fewer, or list more architectures of the search space.",
            reason="BAD_SAMPLE_COUNT",
        )
    if k == 0:
        return np.empty(0, dtype=int)
    method = design.cosine_clusters if k <= design.MOST_CLUSTERS else design.variance_reduction
    return method(table, k, rng)
