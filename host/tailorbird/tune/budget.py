"""Which kernel to measure next, and when to stop: the most microseconds won per second spent.

The best of n random trials improves by some share with each doubling of n. That share is what a kernel's last doubling
gave, blended with a prior that counts as a few trials. Clocks and kernels come in as numbers.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

_PRIOR_SHARE = 0.25
_PRIOR_TRIALS = 4.0
_ASSUMED_SECONDS = 0.5


@dataclass(slots=True)
class _Account:
    weight: int
    best_us: float | None
    bests: list[float] = field(default_factory=list)  # best time after each trial
    trials: int = 0
    seconds: float = 0.0


class Budget:
    """Shares measurements among kernels. kernels: key -> (calls per pass, best microseconds so far or None)."""

    def __init__(self, kernels: Mapping[str, tuple[int, float | None]]) -> None:
        self._accounts = {key: _Account(weight, best) for key, (weight, best) in kernels.items()}

    def learn(self, key: str, times_us: Sequence[float | None], seconds: float) -> None:
        """A batch of a kernel took so long; None is a candidate that failed."""
        account = self._accounts[key]
        account.trials += len(times_us)
        account.seconds += seconds
        for time_us in times_us:
            if time_us is not None:
                account.best_us = time_us if account.best_us is None else min(account.best_us, time_us)
            if account.best_us is not None:
                account.bests.append(account.best_us)

    def expected_gain_us(self, key: str, batch: int) -> float:
        """Microseconds per pass that the next batch may win; infinite for a kernel that has no time yet."""
        account = self._accounts[key]
        if account.best_us is None:
            return math.inf if not account.trials else 0.0
        doublings = math.log2((account.trials + batch + 1) / (account.trials + 1))
        return account.weight * account.best_us * (1.0 - (1.0 - _share(account)) ** doublings)

    def next(self, batch: int, among: Collection[str]) -> str | None:
        """The kernel whose next batch wins most per second; None when there is none left."""
        return max(sorted(among), key=lambda key: self._value(key, batch), default=None)

    def gain_per_minute(self, batch: int, among: Collection[str]) -> float:
        """Share of the whole time of one pass that the best next batch may win, per minute of work."""
        chosen = self.next(batch, among)
        total = sum(account.weight * (account.best_us or 0.0) for account in self._accounts.values())
        if chosen is None or not total:
            return 0.0 if chosen is None else math.inf
        return 60.0 * self._value(chosen, batch) / total

    def _value(self, key: str, batch: int) -> float:
        return self.expected_gain_us(key, batch) / (batch * self._seconds(key))

    def _seconds(self, key: str) -> float:
        """Per candidate of a kernel: its own mean, or that of all, or a guess."""
        for accounts in ([self._accounts[key]], list(self._accounts.values())):
            trials = sum(account.trials for account in accounts)
            if trials:
                return max(1e-3, sum(account.seconds for account in accounts) / trials)
        return _ASSUMED_SECONDS


def _share(account: _Account) -> float:
    """Share of its time that a kernel wins with twice the trials."""
    count = len(account.bests)
    if count < 2:
        return _PRIOR_SHARE
    seen = 1.0 - account.bests[-1] / account.bests[(count - 1) // 2]
    return (_PRIOR_TRIALS * _PRIOR_SHARE + count * seen) / (_PRIOR_TRIALS + count)
