"""Which rung would have done best lately: the bar that a move has to pass.

Where conditions vary fast around a level that stays, the best fixed rung is hard to beat: every move away from it is a
bet that the last few requests say more than the last few hundred. So each answered request also tells what every other
rung would have earned, and leaving the rung that earned most takes a larger gain than going back to it.
"""

from __future__ import annotations

import math
from bisect import bisect_right

from tailorbird_agent.adapt.ladder import Ladder
from tailorbird_agent.adapt.waits import WaitSums


class Incumbent:
    """Exponential averages of what each rung would have earned, its accuracy when on time."""

    def __init__(self, ladder: Ladder, half_life: float) -> None:
        self._ladder = ladder
        self._weight = 1.0 - 0.5 ** (1.0 / half_life)
        self._count = 0
        self._earned = [0.0] * len(ladder)

    def best(self, top: int) -> int | None:
        """The rung up to `top` that would have earned most; None before the first request."""
        if not self._count:
            return None
        return max(range(top + 1), key=self._earned.__getitem__)

    def note(
        self, rung: int, cpu_us: float, wait_us: float, deadline_us: float, rate_per_us: float, sums: WaitSums
    ) -> None:
        """Take one answered request into account; wait_us is 0 when it was not kept off the CPU.

        A wait would have hit a shorter rung with the share of time that it runs; a longer one meets further waits,
        which come at rate_per_us with the sizes in sums.
        """
        self._count += 1
        weight = max(self._weight, 1.0 / self._count)
        answered = self._ladder[rung].cpu_us
        speed = cpu_us / answered
        for index, other in enumerate(self._ladder):
            slack_us = deadline_us - speed * other.cpu_us
            calm, hit = float(slack_us >= 0.0), float(slack_us >= wait_us)
            share = min(1.0, other.cpu_us / answered)
            chance = (1.0 - share) * calm + share * hit if wait_us else calm
            if other.cpu_us > answered and chance:
                further = 1.0 - math.exp(-rate_per_us * speed * (other.cpu_us - answered))
                within = bisect_right(sums.one, slack_us - wait_us) / len(sums.one) if sums.one else 0.0
                chance *= 1.0 - further * (1.0 - within)
            self._earned[index] += weight * (other.accuracy * chance - self._earned[index])
