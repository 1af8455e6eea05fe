"""Whether a measurement can be had twice: python -m tests.bench.repeatability [--suite quick|full] [--json FILE].

The same kernels are measured in separate runs, each with an agent and a measuring worker of its own, while the
benchmark keeps every core busy; then once under stress-ng. The load ends by itself.
"""

from __future__ import annotations

import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tailorbird.compile.litert.single_op import single_op_candidate
from tailorbird.device import Device
from tailorbird.device.local import LocalAgent
from tailorbird.types import KERNEL, Candidate, KernelSpec, Measurement, Verdict
from tests.bench.outcome import Outcome, arguments, publish, quantile

REPEATS = "the same kernel in two separate runs on a busy machine: CPU-time medians differ by at most 3 %"
FLAGGED = "a run under stress-ng is flagged contended"
_LIMIT = 0.03
#: Longest a run may take before its load ends by itself.
_LOAD_S = 240.0


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
    options = arguments(__doc__ or "")
    full = options.suite == "full"
    outcome = Outcome("tailorbird.bench.repeatability/1", options.suite)
    candidates = [single_op_candidate(spec) for spec in (KERNELS if full else KERNELS[:8])]
    _repeat(outcome, candidates, runs=4 if full else 2)
    _stress(outcome, candidates)
    publish(outcome, options.json)


def _repeat(outcome: Outcome, candidates: Sequence[Candidate], *, runs: int) -> None:
    """Every pair of runs, every kernel."""
    outcome.target(REPEATS, f"LiteRT kernels of two networks, mode {KERNEL.mode}, one thread, a busy process per core")
    found = []
    for _ in range(runs):
        with _busy():
            found.append(_run(candidates))
    differences: dict[str, list[float]] = {}
    for index, candidate in enumerate(candidates):
        medians = [run[index].cpu_median_us for run in found]
        differences[candidate.label] = [abs(b / a - 1.0) for a, b in itertools.combinations(medians, 2)]
        outcome.rows.append(_row(candidate, [run[index] for run in found], differences[candidate.label]))
        outcome.samples[f"{candidate.label} cpu_median_us"] = medians
    every = [difference for each in differences.values() for difference in each]
    outcome.figures["repeatability"] = {
        "kernels": len(candidates),
        "runs": runs,
        "pairs": len(every),
        "median_difference": statistics.median(every),
        "p90_difference": quantile(every, 0.9),
        "worst_difference": max(every),
        "share_within_3_percent": sum(each <= _LIMIT for each in every) / len(every),
        "undisturbed": _undisturbed(found),
        "wall_median_difference": statistics.median(_wall_differences(found)),
        "verdicts": _verdicts(itertools.chain.from_iterable(found)),
    }
    outcome.judge(REPEATS, met=max(every) <= _LIMIT)


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
            found = _run(candidates)
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


def _run(candidates: Sequence[Candidate]) -> list[Measurement]:
    """All kernels once, by an agent of their own."""
    with _agent() as device:
        found = device.measure(candidates, KERNEL)
    for measurement in found:
        if not measurement.ok:
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


def _row(candidate: Candidate, runs: Sequence[Measurement], differences: Sequence[float]) -> dict[str, Any]:
    return {
        "kernel": candidate.label,
        "cpu_median_us": [run.cpu_median_us for run in runs],
        "samples": [len(run.cpu_us) for run in runs],
        "verdicts": [run.verdict.value for run in runs],
        "reasons": [run.verdict_reason for run in runs],
        "reference_us": [float(run.noted("reference_us") or 0.0) for run in runs],
        "worst_difference": max(differences),
    }


def _wall_differences(runs: Sequence[Sequence[Measurement]]) -> list[float]:
    return [
        abs(b.wall_median_us / a.wall_median_us - 1.0)
        for first, second in itertools.combinations(runs, 2)
        for a, b in zip(first, second, strict=True)
    ]


def _undisturbed(runs: Sequence[Sequence[Measurement]]) -> dict[str, float]:
    """The same of the samples in and before which nobody waited for a CPU: what contention itself adds is not in it."""
    differences = [
        abs(second / first - 1.0)
        for one, other in itertools.combinations(runs, 2)
        for first, second in zip(
            [m.cpu_undisturbed_us for m in one], [m.cpu_undisturbed_us for m in other], strict=True
        )
        if first is not None and second is not None
    ]
    if not differences:
        return {"pairs": 0}
    share = sum(each <= _LIMIT for each in differences) / len(differences)
    return {
        "pairs": len(differences),
        "median_difference": statistics.median(differences),
        "worst_difference": max(differences),
        "share_within_3_percent": share,
    }


def _verdicts(measurements: Sequence[Measurement] | Iterator[Measurement]) -> dict[str, int]:
    names = [measurement.verdict.value for measurement in measurements]
    return {name: names.count(name) for name in sorted(set(names))}


if __name__ == "__main__":
    main()
