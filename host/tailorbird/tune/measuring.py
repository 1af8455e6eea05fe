"""What records say of a measurement, and the names they use."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tailorbird.compile.base import CompileTarget
from tailorbird.types import TimingProtocol

#: Short on purpose: ranking schedules needs 2 %, and more candidates beat more repeats.
TUNING = TimingProtocol("kernel", min_runs=10, min_seconds=0.015, max_seconds=0.5)

#: Names of element types: the compiler's, ours.
ARGUMENT_TYPES = {
    "float32": "FP32",
    "float16": "FP16",
    "int64": "INT64",
    "int32": "INT32",
    "int8": "INT8",
    "uint8": "UINT8",
    "bool": "BOOL",
}
_MOST_TIMES = 100


def target_name(target: CompileTarget) -> str:
    """How records name a target."""
    return f"{target.triple} {target.llvm_cpu or 'generic'} threads={target.threads}"


def condensed(times: Sequence[float]) -> tuple[float, ...]:
    """All run times; of a kernel that ran thousands of times, means of as many consecutive runs each."""
    block = -(-len(times) // _MOST_TIMES)
    return tuple(statistics.fmean(times[start : start + block]) for start in range(0, len(times), block))
