"""KernelTable: what each kernel takes on one device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tailorbird.types import Kernel, Measurement, Verdict

#: Name in a measurement's environment: wall seconds it took in all, building, upload and warm-up included.
SECONDS = "profile_s"


def seconds_of(measurement: Measurement) -> float:
    """Wall seconds that taking a measurement cost; 0 where it was not written down."""
    return float(dict(measurement.environment).get(SECONDS, 0.0))


@dataclass(frozen=True, slots=True)
class KernelTime:
    """Median on-CPU time of one kernel, its median absolute deviation, and the verdict on the timings."""

    cpu_us: float
    mad_us: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class KernelTable:
    """Kernel times of one device and runtime. `failures` are the kernels that could not be timed, with the reason.

    seconds: wall time that taking them cost, whenever that was.
    """

    device: str
    runtime: str
    times: Mapping[Kernel, KernelTime]
    failures: Mapping[Kernel, str]
    seconds: float = 0.0

    @property
    def times_us(self) -> dict[Kernel, float]:
        """Microseconds of each kernel that was timed."""
        return {spec: time.cpu_us for spec, time in self.times.items()}

    @property
    def throttled(self) -> int:
        """Kernels whose times were taken on a throttled device: how hot it was is part of them."""
        return sum(time.verdict is Verdict.THROTTLED for time in self.times.values())

    @classmethod
    def of(cls, device: str, runtime: str, measured: Mapping[Kernel, Measurement]) -> KernelTable:
        """From measurements."""
        return cls(
            device,
            runtime,
            {spec: KernelTime(m.cpu_median_us, m.cpu_mad_us, m.verdict) for spec, m in measured.items() if m.ok},
            {spec: m.error or "no timings" for spec, m in measured.items() if not m.ok},
            sum(seconds_of(m) for m in measured.values()),
        )
