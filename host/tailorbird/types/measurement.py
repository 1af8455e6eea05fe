"""What is measured on a device, how, and what came back."""

from __future__ import annotations

import enum
import math
import statistics
from dataclasses import dataclass, field

from tailorbird.types.tensor import TensorSpec


class Verdict(enum.StrEnum):
    """Whether a batch of timings can be trusted."""

    OK = "ok"
    NOISY = "noisy"  # the CPU-time spread is above 3 %, or several threads waited for a CPU
    CONTENDED = "contended"  # others used the core: the wall clock is inflated, CPU time is usable
    THROTTLED = "throttled"  # the clock or a throttle flag changed during the batch
    UNSTABLE = "unstable"  # the timings drift from the first third to the last, or the reference kernel by 3 %

    @property
    def spoils_cpu_time(self) -> bool:
        """Whether on-CPU times are not to be trusted; contention spoils the wall clock alone."""
        return self not in {Verdict.OK, Verdict.CONTENDED}


class ModuleKind(enum.StrEnum):
    """How the agent loads and calls a candidate."""

    TVM_KERNEL = "tvm-kernel"  # a shared library whose `main` takes DLTensors (a MetaSchedule candidate)
    TVM_MODEL = "tvm-model"  # a Relax VM executable
    LITERT_MODEL = "litert-model"  # a .tflite flatbuffer


@dataclass(frozen=True, slots=True)
class GoldenAnswers:
    """What a model must answer. inputs, outputs: golden blobs (bundle.golden) of examples and answers; specs: the
    outputs in order; relative: largest difference, as a share of the largest value an output should have; absolute: one
    that is accepted however small those are."""

    inputs: bytes
    outputs: bytes
    specs: tuple[TensorSpec, ...]
    relative: float
    absolute: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """One module to be timed.

    args: all DLTensor arguments of a kernel, outputs included; the inputs of a model. symbol: which function of a
    library of kernels; deadline_us: a candidate whose first run takes longer fails instead of being timed, 0 for any
    time; check: tell what the arguments of a kernel hold after that run; uniform_args: arguments filled with one value
    for it, because schedules may want their elements in an order of their own; golden: of a model, what it must answer
    to be timed at all.
    """

    kind: ModuleKind
    module: bytes
    args: tuple[TensorSpec, ...]
    label: str = ""
    symbol: str = ""
    deadline_us: float = 0.0
    check: bool = False
    uniform_args: tuple[int, ...] = ()
    golden: GoldenAnswers | None = None


@dataclass(frozen=True, slots=True)
class TimingProtocol:
    """Stop after both min_runs and min_seconds are reached, or at max_seconds; threads: of the runtime.

    A measurement that had to stop before says so: Measurement.cut_short.
    """

    mode: str
    min_runs: int
    min_seconds: float
    max_seconds: float
    threads: int = 1


QUICK = TimingProtocol("quick", min_runs=20, min_seconds=0.5, max_seconds=10.0)
STANDARD = TimingProtocol("standard", min_runs=100, min_seconds=5.0, max_seconds=30.0)
MLPERF = TimingProtocol("mlperf", min_runs=1024, min_seconds=60.0, max_seconds=600.0)
KERNEL = TimingProtocol("kernel", min_runs=20, min_seconds=0.05, max_seconds=2.0)


#: A percentile is told from so many samples on: with fewer, all of them may well lie below it (0.9^64 = 0.99^662 =
#: 0.1 %).
P90_SAMPLES, P99_SAMPLES = 64, 662


@dataclass(frozen=True, slots=True)
class Measurement:
    """Timings of one candidate: raw samples in microseconds per run, both clocks, and a verdict.

    delay_us: how long threads were ready and had no CPU, summed, empty when unknown; blocks: how many samples were
    taken in one go, in order; sums: sum and sum of sizes of pieces of a kernel's arguments after its first run, where
    the candidate asked to be checked. A candidate that failed has `error` set and no samples: failures are values.
    """

    label: str
    wall_us: tuple[float, ...] = ()
    cpu_us: tuple[float, ...] = ()
    verdict: Verdict = Verdict.OK
    verdict_reason: str = ""
    error: str = ""
    environment: tuple[tuple[str, str], ...] = field(default=())
    delay_us: tuple[float, ...] = ()
    blocks: tuple[int, ...] = ()
    sums: tuple[float, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there are timings at all (see verdict for their quality)."""
        return not self.error and bool(self.cpu_us)

    @property
    def cpu_median_us(self) -> float:
        """Median on-CPU time per run, microseconds: the figure for decisions on busy boards."""
        return statistics.median(self.cpu_us)

    @property
    def wall_median_us(self) -> float:
        """Median wall time per run, microseconds."""
        return statistics.median(self.wall_us)

    @property
    def cpu_mad_us(self) -> float:
        """Median absolute deviation of the on-CPU time, microseconds."""
        middle = self.cpu_median_us
        return statistics.median(abs(x - middle) for x in self.cpu_us)

    @property
    def cpu_undisturbed_us(self) -> float | None:
        """Median on-CPU time of the samples in and before which no thread waited for a CPU; None below 8 of them.

        What a preemption leaves behind, cold caches above all, is not in it. For comparison: `cpu_median_us` leaves
        nothing out.
        """
        waits = (0.0, *self.delay_us)
        pairs = zip(self.cpu_us, waits, self.delay_us, strict=False)
        calm = [cpu for cpu, before, during in pairs if before == during == 0.0]
        return statistics.median(calm) if len(calm) >= 8 else None

    @property
    def reference_us(self) -> float | None:
        """What the agent's reference kernel took around this measurement, microseconds; None when it did not tell."""
        told = self.noted("reference_us")
        return None if told is None else float(told)

    @property
    def cpu_references(self) -> float | None:
        """Median on-CPU time in units of the reference kernel: the same whether the device is at full speed or not."""
        return None if not self.reference_us else self.cpu_median_us / self.reference_us

    @property
    def wall_mad_us(self) -> float:
        """Median absolute deviation of the wall time, microseconds."""
        middle = self.wall_median_us
        return statistics.median(abs(x - middle) for x in self.wall_us)

    @property
    def wall_p90_us(self) -> float | None:
        """90th percentile of the wall time, microseconds; None below 64 samples."""
        return _quantile(self.wall_us, 0.90) if len(self.wall_us) >= P90_SAMPLES else None

    @property
    def wall_p99_us(self) -> float | None:
        """99th percentile of the wall time, microseconds; None below 662 samples."""
        return _quantile(self.wall_us, 0.99) if len(self.wall_us) >= P99_SAMPLES else None

    def noted(self, name: str) -> str | None:
        """One of the circumstances, None when the agent did not tell."""
        return dict(self.environment).get(name)

    @property
    def verdicts(self) -> frozenset[Verdict]:
        """Every verdict that applies; `verdict` is the worst of them."""
        others = (self.noted("verdicts") or "").split()
        return frozenset({self.verdict, *(Verdict(name) for name in others if name in set(Verdict))})

    @property
    def cut_short(self) -> str | None:
        """ "12 of 100 runs and 30 of 5 s" when the protocol's minima were not reached, else None."""
        return self.noted("cut_short")


def _quantile(samples: tuple[float, ...], share: float) -> float:
    """Nearest rank: a value that was measured."""
    return sorted(samples)[math.ceil(share * len(samples)) - 1]
