"""Which runtime a rung ships with: on the device each build is compared with torch and timed, the fastest kept.

A build answers golden examples there before it is timed, with the threads it will be served with. One output that is
off by more than 1e-4 of the largest value it should have (1e-5 where that is less), and the build is no build: its
record says "wrong result". 1e-4 is what reordered float32 sums of a deep network stay well below, and what a wrong
stride, axis or padding exceeds a thousandfold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from tailorbird.bundle import Tensors
from tailorbird.bundle.golden import pack_golden
from tailorbird.compile.base import Built, CompileTarget
from tailorbird.compile.capture import evaluating
from tailorbird.compile.verify import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE
from tailorbird.device import Device, Lease
from tailorbird.device.measure import timeout_s_of
from tailorbird.errors import CompileError, DeviceError, GateError, TailorbirdError
from tailorbird.flow.tune import Subject
from tailorbird.tune.failure import failure_of
from tailorbird.types import Candidate, GoldenAnswers, Measurement, Rung, TimingProtocol

#: For the golden examples, on top of what timing may need.
_CHECK_S = 30.0
_RUNG = TimingProtocol("rung", min_runs=60, min_seconds=0.25, max_seconds=4.0)


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """One rung built for one runtime. Times are medians per inference; a build that failed has `error` and no times.

    max_error, tolerance: how far its answers were off on the device, and how far they may be, where that was closest.
    """

    runtime: str
    cpu_us: float | None
    wall_us: float | None
    verdict: str
    max_error: float | None
    tolerance: float | None
    seconds: float
    size_bytes: int
    error: str = ""


#: A build, or why there is none.
Entrant = Built | BuildRecord


def failed(runtime: str, error: TailorbirdError, seconds: float) -> BuildRecord:
    """The record of a build that there is not."""
    words = error.what if not error.why else f"{error.what}: {error.why}"
    return BuildRecord(runtime, None, None, "", None, None, seconds, 0, words)


def answers_of(subject: Subject, examples: Sequence[torch.Tensor]) -> tuple[Tensors, ...]:
    """Torch's answers to examples, each a batch of one, by the names of the outputs."""
    with evaluating(subject.subnet):
        answers = [subject.subnet(example) for example in examples]
    values = [answer if isinstance(answer, (tuple, list)) else (answer,) for answer in answers]
    specs = subject.captured.outputs
    return tuple(
        {spec.name: tensor.numpy() for spec, tensor in zip(specs, each, strict=True)}  # one for each output
        for each in values
    )


def golden_of(subject: Subject, examples: Sequence[torch.Tensor], answers: Sequence[Tensors]) -> GoldenAnswers:
    """What every build of a rung must answer on the device."""
    (tensor,) = subject.captured.inputs
    return GoldenAnswers(
        pack_golden("input", [{tensor.name: example.numpy()} for example in examples]),
        pack_golden("output", answers),
        subject.captured.outputs,
        RELATIVE_TOLERANCE,
        ABSOLUTE_TOLERANCE,
    )


def accepted(answers: Sequence[Tensors]) -> float:
    """The largest difference that is accepted in any of these answers."""
    largest = max(
        (float(np.abs(array).max(initial=0.0)) for answer in answers for array in answer.values()), default=0.0
    )
    return max(ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE * largest)


def contest(
    device: Device,
    lease: Lease,
    entries: Mapping[str, Sequence[Entrant]],
    golden: Mapping[str, GoldenAnswers],
    target: CompileTarget,
) -> dict[str, tuple[BuildRecord, ...]]:
    """Check the builds of each rung on the device, and time them in turns there: what disturbs one disturbs the other.

    entries, golden: by rung's name, as the result is. Raises DeviceError when the agent cannot check.
    """
    from tailorbird.compile.tvm.target import runtime_library

    def timed(name: str, builds: Sequence[Entrant]) -> tuple[BuildRecord, ...]:
        usable = [build for build in builds if not isinstance(build, BuildRecord)]
        candidates = [
            Candidate(built.kind, built.module, built.inputs, f"{name}/{built.runtime}", golden=golden[name])
            for built in usable
        ]
        library = runtime_library(target.triple) if any(built.runtime == "tvm" for built in usable) else None
        protocol = replace(_RUNG, threads=target.threads)
        options: dict[str, Any] = {"runtime_library": library, "lease": lease}
        options["candidate_timeout_s"] = timeout_s_of(protocol) + _CHECK_S
        found = device.measure(candidates, protocol, interleaved=0 if len(candidates) > 1 else None, **options)
        if len(candidates) > 1 and not all(timing.ok for timing in found):  # one that fails spoils the others' turns
            found = device.measure(candidates, protocol, **options)
        timings = iter(found)
        return tuple(
            build if isinstance(build, BuildRecord) else _record(device, build, next(timings)) for build in builds
        )

    return {name: timed(name, builds) for name, builds in entries.items()}


def choose(
    rungs: Sequence[Rung], records: Mapping[str, Sequence[BuildRecord]], *, threads: int = 1
) -> tuple[list[Rung], list[tuple[Rung, str]], tuple[str, ...]]:
    """The faster build of each rung; rungs that a more accurate one beats are dropped and the rest named anew.

    By CPU time, which other load leaves alone; of several threads only the wall shows what runs side by side.

    Returns (measured rungs, (rung of the search, runtime) for each of them, names of the dropped).

    Raises:
        CompileError: a rung has no build that runs.
        GateError: fewer than two rungs are left.
    """
    timed: list[tuple[float, Rung, str]] = []
    for rung in rungs:
        usable = [
            (record.cpu_us if threads == 1 else record.wall_us or record.cpu_us, record.cpu_us, record.runtime)
            for record in records[rung.name]
            if record.cpu_us is not None
        ]
        if not usable:
            reasons = "; ".join(f"{record.runtime}: {record.error}" for record in records[rung.name])
            raise CompileError(f"rung {rung.name} cannot be built for this device", why=reasons)
        _, cpu_us, runtime = min(usable)
        timed.append((cpu_us, rung, runtime))
    timed.sort(key=lambda item: item[0])
    kept: list[tuple[float, Rung, str]] = []
    for cpu_us, rung, runtime in timed:
        if not kept or rung.accuracy > kept[-1][1].accuracy:
            kept.append((cpu_us, rung, runtime))
    names = {rung.name for _, rung, _ in kept}
    if len(kept) < 2:
        raise GateError(
            "only one rung is left after measuring",
            why="every other one is slower than a more accurate one",
            fix="train the SuperNet longer, or search with more rungs",
            reason="LADDER_TOO_SHORT",
        )
    measured = [replace(rung, name=f"r{i}", measured_us=cpu_us) for i, (cpu_us, rung, _) in enumerate(kept)]
    dropped = tuple(rung.name for rung in rungs if rung.name not in names)
    return measured, [(rung, runtime) for _, rung, runtime in kept], dropped


def _record(device: Device, built: Built, timing: Measurement) -> BuildRecord:
    failure = failure_of(timing)
    error, tolerance = timing.noted("golden_error"), timing.noted("golden_tolerance")
    if failure is None and (error is None or tolerance is None):
        raise DeviceError(
            f"{device.name} cannot compare a model's answers",
            why="its agent is older than this host, and timed a model without looking at what it answers",
            fix="update tailorbird there and restart its agent",
            reason="AGENT_TOO_OLD",
        )
    return BuildRecord(
        built.runtime,
        None if failure is not None else timing.cpu_median_us,
        None if failure is not None else timing.wall_median_us,
        timing.verdict.value,
        None if error is None else float(error),
        None if tolerance is None else float(tolerance),
        built.seconds,
        len(built.module),
        "" if failure is None else str(failure),
    )
