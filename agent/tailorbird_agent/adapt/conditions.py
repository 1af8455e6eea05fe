"""What the device is like at one moment, and what that means for a request's chance to be on time."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from tailorbird_agent.adapt.waits import WaitSums

_ROOT_TWO = math.sqrt(2.0)


@dataclass(frozen=True, slots=True)
class Conditions:
    """Two channels: how fast the silicon runs, and how often and how long requests are kept off it.

    speed multiplies the profiled on-CPU time and varies by spread (relative); waits come at hit_rate_per_us per on-CPU
    microsecond with the sizes in sums.
    """

    speed: float
    spread: float
    hit_rate_per_us: float
    sums: WaitSums

    def p_on_time(self, cpu_us: float, deadline_us: float) -> float:
        """Chance that a request of profiled on-CPU time cpu_us ends within deadline_us (inf: there is none).

        P = Phi((D - s c) / (spread s c)) * sum over k <= 3 of Poisson(k; rate s c) * F_k(D - s c), with F_k the
        empirical distribution of the sum of k waits; a fourth wait counts as late.
        """
        run_us = self.speed * cpu_us
        slack_us = deadline_us - run_us
        if slack_us == math.inf:
            return 1.0
        rate = self.hit_rate_per_us * run_us
        chance = 0.5 * (1.0 + math.erf(slack_us / (self.spread * run_us * _ROOT_TWO)))
        if slack_us <= 0.0:
            return chance * min(0.5, math.exp(-rate))  # it needs luck with its speed, and no wait at all
        n = len(self.sums.one)
        if n == 0:
            return chance
        within_one = bisect_right(self.sums.one, slack_us)
        within_two = bisect_right(self.sums.two, slack_us)
        within_three = bisect_right(self.sums.three, slack_us)
        hit = rate * (within_one + 0.5 * rate * (within_two + rate / 3.0 * within_three)) / n
        return chance * math.exp(-rate) * (1.0 + hit)
