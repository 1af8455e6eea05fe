"""ScheduleRecord: how one kernel was scheduled, and what it took on the device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """One measured (or failed) schedule of one kernel. Everything needed to replay it is plain text.

    target: CPU and thread count the kernel was compiled for; workload: structural hash of the kernel;
    kernel_class: kernels of one class have the same loops and take each other's decisions; extents: the loops' lengths;
    sketch: which of the class's program shapes; decisions_json: what was chosen in it, in order;
    trace_json: MetaSchedule's own trace; cpu_us: median microseconds per call, on-CPU for one thread, wall for several,
    None when it failed, see error.
    """

    target: str
    workload: str
    kernel_class: str
    extents: tuple[int, ...]
    sketch: int
    decisions_json: str
    trace_json: str
    cpu_us: float | None
    verdict: str = "ok"
    error: str = ""
    compiler: str = ""  # "apache-tvm 0.27.0.post1"
