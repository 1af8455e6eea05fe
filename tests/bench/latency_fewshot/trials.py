"""One trial: a target, a draw of architectures, every number of samples and every predictor."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tailorbird.predict import proxy
from tailorbird.predict.adaproxy import AdaProxy
from tailorbird.predict.proxy_table import ProxyTable
from tailorbird.predict.ridge import RichRidge
from tailorbird.predict.transfer import Prediction, Samples
from tests.bench.latency_fewshot.scores import scores
from tests.bench.latency_fewshot.tables import Table, table
from tests.bench.latency_fewshot.tasks import Pair, Split, split

Row = dict[str, Any]

OURS, RIDGE, ADAPROXY, ADAPROXY_FIRST = "hgp", "rich_ridge", "adaproxy_best", "adaproxy_first"
PREDICTORS = (OURS, RIDGE, ADAPROXY, ADAPROXY_FIRST)
CHOSEN, RANDOM, NONE = "chosen", "random", "none"
_LEAST_FOR_RIDGE = 3
#: Ours costs the most: what choosing samples is worth is told at these numbers of them.
_OURS_AT_RANDOM = (10, 20)


@dataclass(frozen=True)
class _Case:
    """What predictors may see of one trial: proxies on the pool, with rich and with one-hot features."""

    known: Table
    pair: Pair
    parts: Split
    rich: ProxyTable
    plain: ProxyTable
    open_to: ProxyTable  # the same as rich, of the architectures that samples are chosen from

    @classmethod
    def of(cls, data: Path, pair: Pair, seed: int) -> _Case:
        known = table(data, pair.space)
        parts = split(pair, known, seed)

        def measured(features: np.ndarray, rows: np.ndarray) -> ProxyTable:
            return ProxyTable.of(features[rows], {name: known.of(name)[rows] for name in pair.proxies})

        return cls(
            known,
            pair,
            parts,
            measured(known.rich, parts.pool),
            measured(known.one_hot, parts.pool),
            measured(known.rich, parts.candidates),
        )

    def predict(self, predictor: str, rows: np.ndarray) -> Prediction | None:
        """Of the test architectures from samples of some rows; None where the predictor needs more of them."""
        latency_ms, test = self.known.of(self.pair.target)[rows], self.parts.test
        if predictor == OURS:
            features = self.known.rich
            return Prediction(
                *proxy.fit_predict(
                    self.rich.features, _by_device(self.rich), features[rows], latency_ms, features[test]
                )
            )
        if predictor == RIDGE:
            if len(rows) < _LEAST_FOR_RIDGE:
                return None
            samples = Samples.of(self.rich, self.known.rich[rows], latency_ms)
            return RichRidge().fit(self.rich, samples).predict(self.known.rich[test])
        method = AdaProxy() if predictor == ADAPROXY else AdaProxy(self.pair.proxies[0])
        features = self.known.one_hot
        if not len(rows):
            return Prediction.without_interval(method.score(self.plain, features[test]))
        return method.fit(self.plain, Samples.of(self.plain, features[rows], latency_ms)).predict(features[test])


def trial(data: Path, pair: Pair, seed: int, counts: tuple[int, ...]) -> list[Row]:
    """A row per number of samples, way of sampling, and predictor."""
    case = _Case.of(data, pair, seed)
    measured = case.known.of(pair.target)[case.parts.test]
    rows: list[Row] = []
    for count in counts:
        for sampling in (CHOSEN, RANDOM) if count else (NONE,):
            chosen = _chosen(case.open_to, count, seed) if sampling == CHOSEN else np.arange(count)
            for predictor in PREDICTORS:
                if predictor == OURS and sampling == RANDOM and count not in _OURS_AT_RANDOM:
                    continue
                begin = time.process_time()
                found = case.predict(predictor, case.parts.candidates[chosen])
                if found is not None:
                    cost = {"cpu_s": round(time.process_time() - begin, 3)}
                    where = {"samples": count, "sampling": sampling, "predictor": predictor}
                    rows.append({**where, **cost, **scores(measured, found, times=count > 0)})
    return rows


@lru_cache(maxsize=64)
def _chosen(open_to: ProxyTable, count: int, seed: int) -> np.ndarray:
    """The samples do not depend on the target, so targets of one task share them."""
    return proxy.choose_samples(open_to.features, _by_device(open_to), count, np.random.default_rng(seed))


def _by_device(measured: ProxyTable) -> dict[str, np.ndarray]:
    return dict(zip(measured.names, measured.latency_ms.T, strict=True))
