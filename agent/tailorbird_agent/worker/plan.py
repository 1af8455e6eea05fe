"""What a worker is asked to do and what it answers: the values that cross from the daemon to its workers.

Everything here becomes JSON by `jsonable` and comes back by `from_json`, which checks nothing: both ends are ours.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

#: Open Inference Protocol datatype -> (numpy dtype string, bytes per element).
DATATYPES: dict[str, tuple[str, int]] = {
    "FP32": ("<f4", 4),
    "FP16": ("<f2", 2),
    "INT64": ("<i8", 8),
    "INT32": ("<i4", 4),
    "INT8": ("|i1", 1),
    "UINT8": ("|u1", 1),
    "BOOL": ("|b1", 1),
}

CandidateKind = Literal["tvm-kernel", "tvm-model", "litert-model"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, Open Inference Protocol datatype and shape of one dense row-major tensor."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the dense little-endian tensor."""
        return math.prod(self.shape) * DATATYPES[self.datatype][1]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TensorSpec:
        """Inverse of dataclasses.asdict."""
        return cls(data["name"], data["datatype"], tuple(data["shape"]))


@dataclass(frozen=True, slots=True)
class RungPlan:
    """One rung to load.

    golden: safetensors with `output.<k>.<name>`; tolerance: largest absolute difference the golden check accepts;
    cpu_us: profiled on-CPU time per request; threads: of the runtime, for this rung.
    """

    name: str
    runtime: str
    module: Path
    parameters: tuple[Path, ...]
    threads: int
    accuracy: float
    cpu_us: float
    golden: Path
    tolerance: float
    memory_bytes: int

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RungPlan:
        """Inverse of dataclasses.asdict, with paths as text."""
        paths: dict[str, Any] = {"module": Path(data["module"]), "golden": Path(data["golden"])}
        paths["parameters"] = tuple(map(Path, data["parameters"]))
        return cls(**(data | paths))


@dataclass(frozen=True, slots=True)
class ServePlan:
    """One model to serve: its ladder, smallest rung first.

    golden_inputs: safetensors with `input.<k>.<name>`; runtime_libraries: (runtime, shared library);
    slo_us: time a request may take from arrival to answer, None when there is no deadline; memory_bytes: what rungs in
    memory may take in all, as far as the one held, its neighbours and the smallest allow; None: all stay in memory.
    """

    model: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    rungs: tuple[RungPlan, ...]
    golden_inputs: Path
    runtime_libraries: tuple[tuple[str, Path], ...]
    policy: str
    slo_us: float | None
    memory_bytes: int | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ServePlan:
        """Inverse of jsonable."""
        return cls(
            model=data["model"],
            inputs=tuple(map(TensorSpec.from_json, data["inputs"])),
            outputs=tuple(map(TensorSpec.from_json, data["outputs"])),
            rungs=tuple(map(RungPlan.from_json, data["rungs"])),
            golden_inputs=Path(data["golden_inputs"]),
            runtime_libraries=tuple((runtime, Path(path)) for runtime, path in data["runtime_libraries"]),
            policy=data["policy"],
            slo_us=data["slo_us"],
            memory_bytes=data["memory_bytes"],
        )


@dataclass(frozen=True, slots=True)
class Protocol:
    """When to stop timing: after both minima, or at the maximum. threads is the runtime's thread count.

    min_runs counts samples, each of one run or of the mean of several.
    """

    mode: str
    min_runs: int
    min_time_ms: float
    max_time_ms: float
    threads: int = 1


@dataclass(frozen=True, slots=True)
class GoldenPlan:
    """What a model must answer: inputs, outputs are tensor files with `input.<k>.<name>` and `output.<k>.<name>`.

    relative: largest difference, as a share of the largest value an output should have; absolute: one that is accepted
    however small those values are.
    """

    inputs: Path
    outputs: Path
    specs: tuple[TensorSpec, ...]
    relative: float
    absolute: float

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> GoldenPlan:
        """Inverse of dataclasses.asdict, with paths as text."""
        read: dict[str, Any] = {"inputs": Path(data["inputs"]), "outputs": Path(data["outputs"])}
        read["specs"] = tuple(map(TensorSpec.from_json, data["specs"]))
        return cls(**(data | read))


@dataclass(frozen=True, slots=True)
class CandidatePlan:
    """One module to time. args are all DLTensor arguments of a kernel, outputs included, or the inputs of a model.

    symbol: which function of a library of kernels; deadline_us: longest first run that is still worth timing, 0 for
    any; check: report what the arguments hold after it; uniform_args: those filled with one value; golden: of a model,
    what it must answer to be timed.
    """

    kind: CandidateKind
    module: Path
    args: tuple[TensorSpec, ...]
    label: str = ""
    symbol: str = "main"
    deadline_us: float = 0.0
    check: bool = False
    uniform_args: tuple[int, ...] = ()
    golden: GoldenPlan | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> CandidatePlan:
        """Inverse of dataclasses.asdict, with paths as text."""
        read: dict[str, Any] = {"module": Path(data["module"]), "uniform_args": tuple(data["uniform_args"])}
        read["args"] = tuple(map(TensorSpec.from_json, data["args"]))
        read["golden"] = None if data["golden"] is None else GoldenPlan.from_json(data["golden"])
        return cls(**(data | read))


@dataclass(frozen=True, slots=True)
class Timings:
    """Microseconds per run on both clocks, and how far they can be trusted. A failure has `error` and no samples.

    delay_us: run-queue delay of all threads, empty when unknown; blocks: samples taken in one go, in order; sums: of
    the arguments after the first run, see bench.checksum.
    """

    label: str
    wall_us: tuple[float, ...] = ()
    cpu_us: tuple[float, ...] = ()
    verdict: str = "ok"  # ok | noisy | contended | throttled | unstable
    verdict_reason: str = ""
    error: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    delay_us: tuple[float, ...] = ()
    blocks: tuple[int, ...] = ()
    sums: tuple[float, ...] = ()

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Timings:
        """Inverse of dataclasses.asdict."""
        names = ("wall_us", "cpu_us", "delay_us", "blocks", "sums")
        series: dict[str, Any] = {name: tuple(data[name]) for name in names}
        series["environment"] = tuple((key, value) for key, value in data["environment"])
        return cls(**(data | series))


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured property of the device: the best sustained value, its unit, and the timings behind it."""

    name: str
    value: float
    unit: str
    timings: Timings

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Figure:
        """Inverse of dataclasses.asdict."""
        return cls(data["name"], data["value"], data["unit"], Timings.from_json(data["timings"]))


@dataclass(frozen=True, slots=True)
class SwitchNote:
    """Why the policy changed the rung with this request: one line for people, numbers for machines."""

    from_rung: str
    to_rung: str
    cause: str
    message: str
    details: dict[str, str]


@dataclass(frozen=True, slots=True)
class Notice:
    """What else the policy's side has to tell: kind of the event, one line for people, numbers for machines.

    "infeasible": even the smallest rung cannot meet its deadline, or can again; "cap": another rung is the largest now.
    """

    kind: str
    message: str
    details: dict[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """Outputs in the plan's order, who computed them, and what it took.

    wall_us and cpu_us are those of the rung alone, queue_us the time from arrival to its start; missed compares their
    sum with the tightest deadline, None when there was none. switch and notice: what was decided with this request.
    """

    outputs: tuple[bytes, ...]
    rung: str
    wall_us: float
    cpu_us: float
    queue_us: float
    missed: bool | None
    switch: SwitchNote | None
    notice: Notice | None = None


@dataclass(frozen=True, slots=True)
class RungCheck:
    """How a rung came up: load time, first and warm on-CPU time, and its distance from the golden outputs."""

    rung: str
    load_us: float
    first_us: float
    warm_us: float
    golden_max_abs_diff: float


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A serving worker seen from inside. Switch times are those of the reference assignment, nanoseconds.

    resident: the rungs in memory, fastest first; loads: how many were loaded since the start.
    """

    rss_bytes: int
    resident: tuple[str, ...]
    loads: int
    switches_timed: int
    switch_p50_ns: float
    switch_p99_ns: float


def jsonable(value: Any) -> Any:
    """Plain JSON types of a value; paths become absolute, since a worker's directory is not the daemon's."""
    return json.loads(json.dumps(asdict(value), default=_path_text))


def _path_text(value: object) -> str:
    if isinstance(value, Path):
        return str(value.absolute())
    raise TypeError(f"{type(value).__name__} does not become JSON")
