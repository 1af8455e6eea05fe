"""Latency of many modules on one device, so that its drift cancels: rounds over all of them, each in a random order."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tailorbird.device import Device
from tailorbird.flow.workspace import Note, silent
from tailorbird.types import Candidate, Measurement, TimingProtocol

#: One module in one round.
ROUND = TimingProtocol("round", min_runs=30, min_seconds=0.25, max_seconds=3.0)


@dataclass(frozen=True, slots=True)
class Timing:
    """Medians over rounds of the medians of each round, microseconds per inference, with the median absolute deviation
    of the rounds; cpu: on-CPU time, wall: as a clock shows it; verdicts: the agent's, with how many rounds had each.
    """

    cpu_us: float
    cpu_mad_us: float
    wall_us: float
    wall_mad_us: float
    cpu_rounds_us: tuple[float, ...]
    wall_rounds_us: tuple[float, ...]
    verdicts: Mapping[str, int]
    runs: int

    @classmethod
    def of(cls, rounds: Sequence[Measurement]) -> Timing | str:
        """The reason when no round has timings: a failure is a value."""
        good = [m for m in rounds if m.ok]
        if not good:
            return "; ".join(sorted({m.error for m in rounds})) or "nothing was measured"
        cpu, wall = [m.cpu_median_us for m in good], [m.wall_median_us for m in good]
        verdicts = Counter(m.verdict.value if m.ok else "failed" for m in rounds)
        return cls(
            cpu_us=statistics.median(cpu),
            cpu_mad_us=_spread(cpu),
            wall_us=statistics.median(wall),
            wall_mad_us=_spread(wall),
            cpu_rounds_us=tuple(cpu),
            wall_rounds_us=tuple(wall),
            verdicts=dict(verdicts),
            runs=sum(len(m.cpu_us) for m in good),
        )

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self) | {"cpu_rounds_us": list(self.cpu_rounds_us), "wall_rounds_us": list(self.wall_rounds_us)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Timing:
        """Inverse of to_json."""
        rounds = {name: tuple(data[name]) for name in ("cpu_rounds_us", "wall_rounds_us")}
        return cls(**{**data, **rounds})


def race(
    device: Device,
    candidates: Sequence[Candidate],
    rounds: int,
    *,
    protocol: TimingProtocol = ROUND,
    seed: int = 0,
    runtime_library: Path | None = None,
    note: Note = silent,
) -> dict[str, Timing | str]:
    """Timings by label, of one thread and the batch of the modules, under one lease; the reason for those without.

    Raises: DeviceError, LeaseError.
    """
    drawn = random.Random(seed)
    found: dict[str, list[Measurement]] = {candidate.label: [] for candidate in candidates}
    with device.lease() as lease:
        for number in range(rounds):
            order = drawn.sample(candidates, len(candidates))
            note(f"round {number + 1} of {rounds} over {len(order)} modules")
            for measured in device.measure(order, protocol, runtime_library=runtime_library, lease=lease):
                found[measured.label].append(measured)
    return {label: Timing.of(measured) for label, measured in found.items()}


def _spread(values: Sequence[float]) -> float:
    middle = statistics.median(values)
    return statistics.median(abs(value - middle) for value in values)
