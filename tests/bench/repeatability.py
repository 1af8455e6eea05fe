"""Whether a measurement can be had twice.

    python -m tests.bench.repeatability [--suite quick|full] [--work DIR] [--json FILE]

The same kernels are measured in separate runs, each with an agent of its own, while the benchmark keeps every core
busy; then once under stress-ng. The load ends by itself. A run is what Device.measure_rounds does; what each round by
itself would have told is reported beside it. On a machine that does nothing else the full suite takes at most about
ten minutes. A run that has ended is kept in DIR and not repeated; one that was cut short is, from its beginning, for
half of it would be of another agent.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tailorbird.compile.litert.single_op import single_op_candidate
from tailorbird.device import Device, Rounds
from tailorbird.device.local import LocalAgent
from tailorbird.types import KERNEL, Candidate, KernelSpec, Measurement, Verdict
from tests.bench.outcome import Outcome, arguments, publish, quantile

REPEATS = "the same kernel in two separate runs on a busy machine: CPU-time medians differ by at most 3 %"
FLAGGED = "a run under stress-ng is flagged contended"
_LIMIT = 0.03
_Timed = TypeVar("_Timed", Measurement, Rounds)
#: Longest a run may take before its load ends by itself.
_LOAD_S = 600.0


def _conv(inputs: int, outputs: int, size: int, kernel: int = 3, stride: int = 1) -> KernelSpec:
    sides = (kernel // 2, kernel // 2)
    return KernelSpec("conv2d", inputs, outputs, size, size, (kernel, kernel), (stride, stride), sides, "relu")


def _depthwise(channels: int, size: int, kernel: int = 3) -> KernelSpec:
    sides = (kernel // 2, kernel // 2)
    return KernelSpec("depthwise", channels, channels, size, size, (kernel, kernel), (1, 1), sides, "relu6")


#: Kernels of a ResNet-20 and of a MobileNetV2, from 10 microseconds to some milliseconds.
KERNELS = (
    _conv(16, 16, 32),
    _conv(32, 32, 16),
    _conv(64, 64, 8),
    _conv(96, 24, 56, 1),
    _depthwise(96, 56),
    KernelSpec("linear", 1280, 1000),
    KernelSpec("add", 24, 24, 56, 56),
    KernelSpec("pool", 64, 64, 8, 8, pool_mode="mean"),
    _conv(3, 16, 32),
    _conv(16, 32, 32, 3, 2),
    _conv(320, 1280, 7, 1),
    _conv(160, 960, 7, 1),
    _depthwise(576, 14),
    _depthwise(960, 7),
    _conv(64, 128, 28),
    KernelSpec("linear", 64, 10),
)


def main() -> None:
    """Measure and print the object."""
    options = arguments(__doc__ or "", work=True)
    full = options.suite == "full"
    outcome = Outcome("tailorbird.bench.repeatability/1", options.suite)
    candidates = [single_op_candidate(spec) for spec in (KERNELS if full else KERNELS[:8])]
    _repeat(outcome, candidates, runs=4 if full else 2, work=options.work)
    _stress(outcome, candidates)
    publish(outcome, options.json)


def _repeat(outcome: Outcome, candidates: Sequence[Candidate], *, runs: int, work: Path | None) -> None:
    """Every pair of runs, every kernel."""
    outcome.target(REPEATS, f"LiteRT kernels of two networks, mode {KERNEL.mode}, one thread, a busy process per core")
    found: list[list[Rounds]] = []
    for number in range(runs):
        found.append(_run(candidates, number, None if work is None else work / f"{outcome.suite}-{number}.json"))
    for index, candidate in enumerate(candidates):
        measured = [run[index] for run in found]
        outcome.rows.append(_row(candidate, measured))
        for number, run in enumerate(measured):
            outcome.samples[f"{candidate.label} run {number} cpu_median_us"] = [m.cpu_median_us for m in run.rounds]
    pairs = [pair for runs_of_one in zip(*found, strict=True) for pair in itertools.combinations(runs_of_one, 2)]
    single = [(one, two) for first, second in pairs for one, two in zip(first.rounds, second.rounds, strict=False)]
    plain = _spread(pairs, lambda m: m.cpu_median_us)
    outcome.figures["repeatability"] = {
        "kernels": len(candidates),
        "runs": runs,
        "cpu_median": plain,
        "cpu_median over the reference kernel": _spread(pairs, lambda m: m.cpu_references),
        "rounds": sorted(len(measured.rounds) for run in found for measured in run),
        "of one round": {
            "cpu_median": _spread(single, lambda m: m.cpu_median_us),
            "cpu_median over the reference kernel": _spread(single, lambda m: m.cpu_references),
            "cpu_median of undisturbed samples": _spread(single, lambda m: m.cpu_undisturbed_us),
            "wall_median": _spread(single, lambda m: m.wall_median_us),
            "reference kernel": _spread(single, lambda m: m.reference_us),
        },
        "verdicts": _verdicts(m for run in found for measured in run for m in measured.rounds),
    }
    outcome.judge(REPEATS, met=plain.get("worst", math.inf) <= _LIMIT)


def _run(candidates: Sequence[Candidate], number: int, kept: Path | None) -> list[Rounds]:
    """A run, from the file it was kept in if there is one for these kernels."""
    labels = [candidate.label for candidate in candidates]
    if kept is not None and kept.exists():
        found = [_rounds(fields) for fields in json.loads(kept.read_text(encoding="utf-8"))]
        if [rounds.label for rounds in found] == labels:
            return found
    with _busy(), _agent() as device:
        found = _checked(device.measure_rounds(candidates, seed=number))
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".part")
        partial.write_text(json.dumps([dataclasses.asdict(rounds) for rounds in found]), encoding="utf-8")
        partial.replace(kept)
    return found


def _rounds(fields: dict[str, Any]) -> Rounds:
    return Rounds(fields["label"], tuple(map(_measurement, fields["rounds"])))


def _measurement(fields: dict[str, Any]) -> Measurement:
    tuples = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    environment = tuple((name, value) for name, value in fields["environment"])
    return Measurement(**fields | tuples | {"verdict": Verdict(fields["verdict"]), "environment": environment})


#: argv: seconds. Hashes a working set of its own until then, or until its parent is gone.
_LOAD = """
import hashlib, os, sys, time
data, parent, deadline = os.urandom(256 << 10), os.getppid(), time.monotonic() + float(sys.argv[1])
while time.monotonic() < deadline and os.getppid() == parent:
    hashlib.sha256(data).digest()
"""


@contextmanager
def _busy() -> Iterator[None]:
    """One busy process for each core."""
    command = [sys.executable, "-S", "-E", "-c", _LOAD, str(_LOAD_S)]
    processes = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _stress(outcome: Outcome, candidates: Sequence[Candidate]) -> None:
    """One run with stress-ng on every core."""
    outcome.target(FLAGGED, "every measurement of the run has the verdict contended, alone or beside a worse one")
    program = shutil.which("stress-ng")
    if program is None:
        outcome.figures["stress-ng"] = {"unmeasured": "stress-ng is not installed (apt-get install stress-ng)"}
        return
    cores = str(len(os.sched_getaffinity(0)))
    command = [program, "--cpu", cores, "--timeout", f"{_LOAD_S:.0f}s", "--quiet"]
    with tempfile.TemporaryDirectory(prefix="tb-stress") as folder:
        load = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            with _agent() as device:
                found: list[Measurement] = _checked(device.measure(candidates, KERNEL))
            running = load.poll() is None
        finally:
            load.terminate()
            load.wait()
    flagged = sum(Verdict.CONTENDED in measurement.verdicts for measurement in found)
    outcome.figures["stress-ng"] = {
        "measurements": len(found),
        "contended": flagged,
        "ran_throughout": running,
        "verdicts": _verdicts(found),
        "reason": found[0].verdict_reason,
    }
    outcome.judge(FLAGGED, met=running and flagged == len(found))


def _checked(found: list[Any]) -> list[Any]:
    for measurement in found:
        if measurement.error:
            raise SystemExit(f"{measurement.label} was not measured: {measurement.error}")
    return found


@contextmanager
def _agent() -> Iterator[Device]:
    with tempfile.TemporaryDirectory(prefix="tb") as folder:
        agent = LocalAgent.start(Path(folder) / "state", timeout_s=60.0)
        try:
            with Device.connect(str(agent.control)) as device:
                yield device
        finally:
            agent.stop()


def _row(candidate: Candidate, runs: Sequence[Rounds]) -> dict[str, Any]:
    return {
        "kernel": candidate.label,
        "cpu_median_us": [run.cpu_median_us for run in runs],
        "precision": [run.precision for run in runs],
        "rounds": [len(run.rounds) for run in runs],
        "verdicts": [sorted(verdict.value for verdict in run.verdicts) for run in runs],
        "reference_us": [[round_.reference_us for round_ in run.rounds] for run in runs],
        "worst_difference": max(_apart(*pair, lambda m: m.cpu_median_us) for pair in itertools.combinations(runs, 2)),
    }


def _apart(first: _Timed, second: _Timed, figure: Callable[[_Timed], float | None]) -> float:
    """How far a figure is from one measurement to the other, as a share; infinite where one does not tell it."""
    one, other = figure(first), figure(second)
    return abs(other / one - 1.0) if one and other else math.inf


def _spread(pairs: Sequence[tuple[_Timed, ...]], figure: Callable[[_Timed], float | None]) -> dict[str, Any]:
    """Differences of all pairs for which both tell the figure."""
    differences = [each for first, second in pairs if (each := _apart(first, second, figure)) < math.inf]
    if not differences:
        return {"pairs": 0}
    return {
        "pairs": len(differences),
        "median": statistics.median(differences),
        "p90": quantile(differences, 0.9),
        "worst": max(differences),
        "share_within_3_percent": sum(each <= _LIMIT for each in differences) / len(differences),
    }


def _verdicts(measurements: Sequence[Measurement] | Iterator[Measurement]) -> dict[str, int]:
    names = [measurement.verdict.value for measurement in measurements]
    return {name: names.count(name) for name in sorted(set(names))}


if __name__ == "__main__":
    main()
