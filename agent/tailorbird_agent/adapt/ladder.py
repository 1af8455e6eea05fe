"""What a policy knows of the subnets it may choose from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class RungProfile:
    """One subnet as profiled on this device.

    accuracy is a fraction of 1. cpu_us is the median on-CPU time of one request, microseconds; for a multi-threaded
    runtime that of its busiest thread. memory_bytes is what serving the rung takes.
    """

    name: str
    accuracy: float
    cpu_us: float
    memory_bytes: int | None = None


Ladder: TypeAlias = tuple[RungProfile, ...]


def make_ladder(rungs: Iterable[RungProfile]) -> Ladder:
    """Sort rungs from the fastest to the slowest, as every policy expects them.

    Raises:
        ValueError: no rung, a name used twice, an accuracy outside 0..1, or a time that is not positive and finite.
    """
    ladder = tuple(sorted(rungs, key=lambda rung: (rung.cpu_us, rung.accuracy)))
    if not ladder:
        raise ValueError("a ladder needs at least one rung")
    if len({rung.name for rung in ladder}) < len(ladder):
        raise ValueError(f"rung names are not unique: {', '.join(rung.name for rung in ladder)}")
    for rung in ladder:
        if not 0.0 <= rung.accuracy <= 1.0:
            raise ValueError(f"rung {rung.name}: accuracy {rung.accuracy} is not a fraction of 1")
        if not (rung.cpu_us > 0.0 and math.isfinite(rung.cpu_us)):
            raise ValueError(f"rung {rung.name}: on-CPU time {rung.cpu_us} us is not positive and finite")
    return ladder
