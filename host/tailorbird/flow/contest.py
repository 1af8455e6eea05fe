"""Which runtime a rung ships with: each build checked against torch, timed in turns on the device, the fastest kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tailorbird.compile.base import Built, CompileTarget
from tailorbird.compile.verify import Verification, verify
from tailorbird.device import Device, Lease
from tailorbird.errors import CompileError, GateError, TailorbirdError
from tailorbird.flow.tune import Subject
from tailorbird.types import Candidate, Measurement, Rung, TimingProtocol

_RUNG = TimingProtocol("rung", min_runs=60, min_seconds=0.25, max_seconds=4.0)


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """One rung built for one runtime. Times are medians per inference; a build that failed has `error` and no times."""

    runtime: str
    cpu_us: float | None
    wall_us: float | None
    verdict: str
    max_error: float | None
    tolerance: float | None
    seconds: float
    size_bytes: int
    error: str = ""


#: A build that agrees with torch, or why there is none.
Checked = tuple[Built, Verification] | BuildRecord


def failed(runtime: str, error: TailorbirdError, seconds: float) -> BuildRecord:
    """The record of a build that there is not."""
    words = error.what if not error.why else f"{error.what}: {error.why}"
    return BuildRecord(runtime, None, None, "", None, None, seconds, 0, words)


def checked(built: Built | BuildRecord, subject: Subject, examples: Sequence[torch.Tensor]) -> Checked:
    """A build compared with torch on the host, or a record of why there is none."""
    if isinstance(built, BuildRecord):
        return built
    try:
        return built, verify(built, subject.subnet, [(example,) for example in examples])
    except CompileError as error:
        return failed(built.runtime, error, built.seconds)


def contest(
    device: Device, lease: Lease, entries: Mapping[str, Sequence[Checked]], target: CompileTarget
) -> dict[str, tuple[BuildRecord, ...]]:
    """Time the builds of each rung in turns on the device: what disturbs one disturbs the other. By rung's name."""
    from tailorbird.compile.tvm.target import runtime_library

    def timed(name: str, builds: Sequence[Checked]) -> tuple[BuildRecord, ...]:
        usable = [build for build in builds if not isinstance(build, BuildRecord)]
        candidates = [
            Candidate(built.kind, built.module, built.inputs, f"{name}/{built.runtime}") for built, _ in usable
        ]
        library = runtime_library(target.triple) if any(built.runtime == "tvm" for built, _ in usable) else None
        protocol = replace(_RUNG, threads=target.threads)
        options: dict[str, Any] = {"runtime_library": library, "lease": lease}
        found = device.measure(candidates, protocol, interleaved=0 if len(candidates) > 1 else None, **options)
        if len(candidates) > 1 and not all(timing.ok for timing in found):  # one that fails spoils the others' turns
            found = device.measure(candidates, protocol, **options)
        timings = iter(found)
        return tuple(build if isinstance(build, BuildRecord) else _record(*build, next(timings)) for build in builds)

    return {name: timed(name, builds) for name, builds in entries.items()}


def choose(
    rungs: Sequence[Rung], records: Mapping[str, Sequence[BuildRecord]]
) -> tuple[list[Rung], list[tuple[Rung, str]], tuple[str, ...]]:
    """The faster build of each rung; rungs that a more accurate one beats are dropped and the rest named anew.

    Returns (measured rungs, (rung of the search, runtime) for each of them, names of the dropped).

    Raises:
        CompileError: a rung has no build that runs.
        GateError: fewer than two rungs are left.
    """
    timed: list[tuple[float, Rung, str]] = []
    for rung in rungs:
        usable = [(record.cpu_us, record.runtime) for record in records[rung.name] if record.cpu_us is not None]
        if not usable:
            reasons = "; ".join(f"{record.runtime}: {record.error}" for record in records[rung.name])
            raise CompileError(f"rung {rung.name} cannot be built for this device", why=reasons)
        cpu_us, runtime = min(usable)
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


def _record(built: Built, verification: Verification, timing: Measurement) -> BuildRecord:
    return BuildRecord(
        built.runtime,
        timing.cpu_median_us if timing.ok else None,
        timing.wall_median_us if timing.ok else None,
        timing.verdict.value,
        verification.max_error,
        verification.tolerance,
        built.seconds,
        len(built.module),
        timing.error,
    )
