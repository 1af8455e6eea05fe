"""Off-CPU waits as an empirical Poisson process.

On a shared CPU other processes do not stretch a request, they interrupt it: waits are additive, of the size of the
scheduler's slice, and come at a rate per time spent *on* the CPU. So the rate is estimated per on-CPU microsecond and
the sizes are kept as they were seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

WINDOW = 40  # waits kept; also the resolution of their distribution
PRIOR_HITS, PRIOR_CPU_US = 0.02, 2000.0  # ten waits per second on the CPU, worth 2 ms of evidence


@dataclass(frozen=True, slots=True)
class WaitSums:
    """Sorted samples of one wait, of the sum of two and of the sum of three; microseconds, equally many of each."""

    one: tuple[float, ...] = ()
    two: tuple[float, ...] = ()
    three: tuple[float, ...] = ()


class Waits:
    """Rate and sizes of the waits seen lately.

    The rate is the worse of a slow and a fast exponential average; `risk` standard deviations are added to the slow
    one, since a rate from few hits is uncertain upwards.
    """

    def __init__(self, half_life: float, fast_half_life: float, risk: float) -> None:
        self._decay = 0.5 ** (1.0 / half_life)
        self._fast_decay = 0.5 ** (1.0 / fast_half_life)
        self._risk = risk
        self._hits = self._fast_hits = 0.0
        self._cpu_us = self._fast_cpu_us = 0.0
        self._window: list[float] = []
        self.sums = WaitSums()

    def add(self, cpu_us: float, wait_us: float | None) -> None:
        """Count one request: its on-CPU time, and its wait if it had one."""
        self._hits *= self._decay
        self._fast_hits *= self._fast_decay
        self._cpu_us = self._cpu_us * self._decay + cpu_us
        self._fast_cpu_us = self._fast_cpu_us * self._fast_decay + cpu_us
        if wait_us is None:
            return
        self._hits += 1.0
        self._fast_hits += 1.0
        window = self._window
        window.append(wait_us)
        if len(window) > WINDOW:
            del window[0]
        # Fixed strides pair each wait with two others: a bootstrap without random numbers, done once per hit
        # so that each decision is three bisections.
        n = len(window)
        pairs = [wait + window[(i * 7 + 3) % n] for i, wait in enumerate(window)]
        triples = [pair + window[(i * 11 + 5) % n] for i, pair in enumerate(pairs)]
        self.sums = WaitSums(tuple(sorted(window)), tuple(sorted(pairs)), tuple(sorted(triples)))

    @property
    def rate_per_us(self) -> float:
        """Waits per microsecond on the CPU."""
        hits = self._hits
        slow = (hits + PRIOR_HITS + self._risk * math.sqrt(hits)) / (self._cpu_us + PRIOR_CPU_US)
        fast = (self._fast_hits + PRIOR_HITS) / (self._fast_cpu_us + PRIOR_CPU_US)
        return max(slow, 0.6 * fast)
