"""Latency monotonicity: does one device order subnets as another does?

Where it does, a search on the first finds the second's Pareto-optimal subnets (OneProxy: "One Proxy Device Is Enough
for Hardware-Aware Neural Architecture Search", arXiv 2111.01203). Its measure is Spearman's rank correlation
coefficient (SRCC) over the subnets measured on both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata  # type: ignore[import-untyped, unused-ignore]

from tailorbird.types import Config

#: From here on a proxy's Pareto set serves the target as it is (OneProxy).
SERVES = 0.9
#: With fewer common subnets a rank correlation says little: of 5, one in 24 random orders reaches 0.9.
MIN_COMMON = 10
_NORMAL_90 = 1.6449


@dataclass(frozen=True, slots=True)
class RankAgreement:
    """How far a proxy orders subnets as a target does.

    srcc: None when it is not known, and `unknown` says why; low, high: its 90 % interval (Bonett and Wright, 2000);
    common: subnets measured on both.
    """

    proxy: str
    target: str
    common: int
    srcc: float | None
    low: float | None = None
    high: float | None = None
    unknown: str = ""

    @property
    def serves(self) -> bool:
        """Whether the proxy's Pareto set can be used on the target."""
        return self.srcc is not None and self.srcc >= SERVES


@dataclass(frozen=True, slots=True)
class Monotonicity:
    """The agreement of every ordered pair of different names."""

    names: tuple[str, ...]
    pairs: Mapping[tuple[str, str], RankAgreement]

    def __getitem__(self, pair: tuple[str, str]) -> RankAgreement:
        return self.pairs[pair]

    def of(self, target: str) -> Iterator[RankAgreement]:
        """All proxies of a target, the one that orders most alike first, unknown ones last."""
        found = [self.pairs[name, target] for name in self.names if name != target]
        yield from sorted(found, key=lambda pair: (pair.srcc is None, -(pair.srcc or 0.0), pair.proxy))

    def best(self, target: str) -> RankAgreement | None:
        """The proxy that orders most as the target does; None when none is known."""
        first = next(self.of(target), None)
        return None if first is None or first.srcc is None else first


def monotonicity(times: Mapping[str, Mapping[Config, float]], *, min_common: int = MIN_COMMON) -> Monotonicity:
    """Agreement between all devices (or contexts), from the times of subnets by name, in any unit.

    Times that are NaN or infinite were not measured.
    """
    names = tuple(times)
    pairs: dict[tuple[str, str], RankAgreement] = {}
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            common, srcc, why = _compare(times[first], times[second], min_common)
            low, high = (None, None) if srcc is None else _interval(srcc, common)
            pairs[first, second] = RankAgreement(first, second, common, srcc, low, high, why)
            pairs[second, first] = RankAgreement(second, first, common, srcc, low, high, why)
    return Monotonicity(names, pairs)


def agreement(
    proxy: str, proxy_times: Mapping[Config, float], target: str, target_times: Mapping[Config, float]
) -> RankAgreement:
    """Of one pair."""
    return monotonicity({proxy: proxy_times, target: target_times})[proxy, target]


def _compare(
    first: Mapping[Config, float], second: Mapping[Config, float], min_common: int
) -> tuple[int, float | None, str]:
    known = (config for config in first if config in second)
    both = [pair for pair in ((first[c], second[c]) for c in known) if all(map(math.isfinite, pair))]
    if len(both) < min_common:
        return len(both), None, f"{len(both)} common subnets of at least {min_common}"
    columns = np.array(both).T
    if (np.ptp(columns, axis=1) == 0).any():
        return len(both), None, "all common subnets take the same time"
    ranks = [rankdata(column) for column in columns]
    return len(both), float(np.corrcoef(*ranks)[0, 1]), ""


def _interval(srcc: float, count: int) -> tuple[float | None, float | None]:
    """Fisher's z with the variance (1 + r^2 / 2) / (n - 3)."""
    if count <= 3:
        return None, None
    centre = math.atanh(min(max(srcc, -1 + 1e-9), 1 - 1e-9))
    reach = _NORMAL_90 * math.sqrt((1 + srcc**2 / 2) / (count - 3))
    return math.tanh(centre - reach), math.tanh(centre + reach)
