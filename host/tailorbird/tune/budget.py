"""Which kernel to measure next, and when to stop: the most microseconds won per second spent.

The best of n random trials improves by some share with each doubling of n. That share is what a kernel's last doubling
gave, blended with a prior that counts as a few trials: the kernel's lag behind the best of its kind. Clocks and kernels
come in as numbers.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

_PRIOR_SHARE = 0.25
_PRIOR_TRIALS = 4.0
_ASSUMED_SECONDS = 0.25
#: Plain loops against a tiled kernel: every kernel gets one schedule before any gets two.
_UNTUNED_SLOWDOWN = 40.0


@dataclass(slots=True)
class _Account:
    """guess_us: what the kernel should take, by the best of its kind; tried: trials of earlier runs; planned: trials
    begun in this one, of which some are done."""

    weight: int
    best_us: float | None
    guess_us: float
    tried: int
    bests: list[float] = field(default_factory=list)  # best time after each trial
    planned: int = 0
    trials: int = 0
    seconds: float = 0.0


class Budget:
    """Shares measurements among kernels.

    kernels: key -> (calls per pass, best microseconds so far or None, microseconds it may be expected to take, trials
    of earlier runs).
    """

    def __init__(self, kernels: Mapping[str, tuple[int, float | None, float, int]]) -> None:
        self._accounts = {
            key: _Account(calls, best, guess, tried=tried) for key, (calls, best, guess, tried) in kernels.items()
        }

    def plan(self, key: str, count: int) -> None:
        """So many trials of a kernel have begun."""
        self._accounts[key].planned += count

    def expect(self, key: str, us: float) -> None:
        """What a kernel should take, now that others of its kind are known better."""
        self._accounts[key].guess_us = us

    def plain(self, key: str, time_us: float | None, seconds: float) -> None:
        """A kernel's plain loops took so long. They say nothing of what trials win."""
        account = self._accounts[key]
        account.seconds += seconds
        if time_us is not None and (account.best_us is None or time_us < account.best_us):
            account.best_us = time_us

    def learn(self, key: str, time_us: float | None, seconds: float) -> None:
        """A trial of a kernel took so long; None for one that failed."""
        account = self._accounts[key]
        account.trials += 1
        account.planned = max(account.planned, account.trials)
        account.seconds += seconds
        if time_us is not None:
            account.best_us = time_us if account.best_us is None else min(account.best_us, time_us)
        if account.best_us is not None:
            account.bests.append(account.best_us)

    def expected_gain_us(self, key: str, batch: int) -> float:
        """Microseconds per pass that the next batch may win."""
        account = self._accounts[key]
        if account.best_us is None:
            return account.weight * account.guess_us * _UNTUNED_SLOWDOWN / (1 + account.planned) ** 2
        begun = account.tried + account.planned + 1
        doublings = math.log2((begun + batch) / begun)
        return account.weight * account.best_us * (1.0 - (1.0 - _share(account)) ** doublings)

    def next(self, batch: int, among: Collection[str]) -> str | None:
        """The kernel whose next batch wins most per second; None when there is none left."""
        return max(sorted(among), key=lambda key: self._value(key, batch), default=None)

    def gain_per_minute(self, batch: int, among: Collection[str]) -> float:
        """Share of the whole time of one pass that the best next batch may win, per minute of work.

        Infinite while a kernel has no time yet and may still get one.
        """
        chosen = self.next(batch, among)
        if chosen is None:
            return 0.0
        if any(self._accounts[key].best_us is None and not self._accounts[key].trials for key in among):
            return math.inf
        total = sum(account.weight * (account.best_us or account.guess_us) for account in self._accounts.values())
        return 60.0 * self._value(chosen, batch) / total if total else 0.0

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
    lag = 1.0 - account.guess_us / account.best_us if account.best_us else 0.0
    prior = max(_PRIOR_SHARE, lag)
    count = len(account.bests)
    if count < 2:
        return prior
    seen = 1.0 - account.bests[-1] / account.bests[(count - 1) // 2]
    return (_PRIOR_TRIALS * prior + count * seen) / (_PRIOR_TRIALS + count)
