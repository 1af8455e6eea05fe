"""KernelTable: what each kernel takes on one device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tailorbird.types import KernelSpec, Measurement, Verdict


@dataclass(frozen=True, slots=True)
class KernelTime:
    """Median on-CPU time of one kernel, its median absolute deviation, and the verdict on the timings."""

    cpu_us: float
    mad_us: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class KernelTable:
    """Kernel times of one device and runtime. `failures` are the kernels that could not be timed, with the reason."""

    device: str
    runtime: str
    times: Mapping[KernelSpec, KernelTime]
    failures: Mapping[KernelSpec, str]

    @classmethod
    def of(cls, device: str, runtime: str, measured: Mapping[KernelSpec, Measurement]) -> KernelTable:
        """From measurements."""
        return cls(
            device,
            runtime,
            {spec: KernelTime(m.cpu_median_us, m.cpu_mad_us, m.verdict) for spec, m in measured.items() if m.ok},
            {spec: m.error or "no timings" for spec, m in measured.items() if not m.ok},
        )
