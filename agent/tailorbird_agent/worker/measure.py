"""The measuring worker: times one candidate or one device figure after the other and reports what it saw.

A candidate that raises is an error in its answer. One that crashes or hangs takes this process with it; the daemon
starts another and goes on.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from tailorbird_agent.bench.candidates import Bench, Prepared
from tailorbird_agent.bench.checksum import checksum
from tailorbird_agent.bench.circumstances import Circumstances, Device
from tailorbird_agent.bench.kernels import measure_figure
from tailorbird_agent.bench.protocol import Samples, time_calls
from tailorbird_agent.bench.stats import judge
from tailorbird_agent.bench.stopwatch import make_stopwatch
from tailorbird_agent.runtimes import ModuleInvalidError
from tailorbird_agent.worker.channel import Channel
from tailorbird_agent.worker.golden import compare
from tailorbird_agent.worker.plan import CandidatePlan, Figure, Protocol, Timings

_ERROR_LENGTH = 500


def measure(descriptor: int, sandbox: Sequence[str]) -> None:
    """Obey the channel: first {"libraries": ..., "hardware_root": ...}, then one by one
    {"op": "time" | "next" | "figure" | "stop"}.

    "time" answers with the first candidate's timings, "next" with those of the candidate after.
    """
    channel = Channel.adopt(descriptor)
    opening = channel.receive()
    if opening is None:
        return
    libraries = {name: Path(path) for name, path in opening["libraries"]}
    examiner = Examiner(libraries, opening["hardware_root"])
    channel.send({"sandbox": list(sandbox)})
    waiting: list[Timings] = []
    while (message := channel.receive()) is not None and message["op"] != "stop":
        if message["op"] == "figure":
            figure = examiner.figure(message["name"], Protocol(**message["protocol"]))
            channel.send({"figure": asdict(figure)})
            continue
        if message["op"] == "time":
            candidates = [CandidatePlan.from_json(each) for each in message["candidates"]]
            waiting = examiner.time(candidates, Protocol(**message["protocol"]), message["seed"])
        channel.send({"timings": asdict(waiting.pop(0))})


class TooSlowError(Exception):
    """One run took longer than the candidate's deadline."""


class Examiner:
    """Times things, and looks at the device around them, whose /proc and /sys are below a root."""

    def __init__(self, libraries: Mapping[str, Path], hardware_root: Path | str = "/") -> None:
        self._bench = Bench(dict(libraries))
        self._device = Device(hardware_root)

    def time(self, candidates: Sequence[CandidatePlan], protocol: Protocol, seed: int) -> list[Timings]:
        """Time candidates in turns. One that cannot be run spoils the comparison: its error is everybody's."""
        notes: list[Mapping[str, str]] = []
        sums: list[tuple[float, ...]] = []
        label = ""
        try:
            with ExitStack() as loaded:
                calls = []
                for candidate in candidates:
                    label = candidate.label
                    prepared = loaded.enter_context(self._bench.prepared(candidate, protocol.threads))
                    first_us = _first_run(candidate, prepared)
                    calls.append(prepared.call)
                    told = {"runtime": prepared.runtime, "first_us": f"{first_us:.1f}"}
                    notes.append(told | _compared(candidate, prepared))
                    sums.append(checksum(prepared.arrays) if candidate.check else ())
                seen = Circumstances(self._device)
                stopwatch = make_stopwatch(protocol.threads, queueing=True)
                draw = random.Random(seed)  # noqa: S311 -- an order, not a secret
                found = time_calls(calls, protocol, stopwatch, seen.look, draw)
        except Exception as error:
            words = " ".join(str(error).split())
            where = f"{label}: " if len(candidates) > 1 and label else ""
            failure = f"{where}{type(error).__name__}: {words[:_ERROR_LENGTH]}"
            return [Timings(candidate.label, error=failure) for candidate in candidates]
        return [
            replace(_judged(candidate.label, samples, seen, protocol, noted), sums=answered)
            for candidate, noted, answered, samples in zip(candidates, notes, sums, found, strict=True)
        ]

    def figure(self, name: str, protocol: Protocol) -> Figure:
        """One device figure."""
        seen = Circumstances(self._device)
        available = self._device.sense().get("memory_available_bytes")
        stopwatch = make_stopwatch(protocol.threads, queueing=True)
        value, unit, samples = measure_figure(name, protocol, stopwatch, available, seen.look)
        return Figure(name, value, unit, _judged(name, samples, seen, protocol, {"runtime": "numpy"}))


def _first_run(candidate: CandidatePlan, prepared: Prepared) -> float:
    """Run once: it makes the threads that the stopwatch has to watch, and tells what is not worth timing.

    Returns microseconds of wall time or of on-CPU time over all threads, whichever is less: others who use the CPU
    prolong the one, more threads the other. Raises TooSlowError.
    """
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    prepared.call()
    took_us = min(time.perf_counter() - wall_s, time.process_time() - cpu_s) * 1e6
    if 0.0 < candidate.deadline_us < took_us:
        raise TooSlowError(f"one run took {took_us:.0f} us, {candidate.deadline_us:.0f} us were allowed")
    return took_us


def _compared(candidate: CandidatePlan, prepared: Prepared) -> dict[str, str]:
    """How near a model's answers are to the golden ones; nothing where there are none. Raises as `golden.compare`."""
    if candidate.golden is None:
        return {}
    if prepared.answer is None:
        raise ModuleInvalidError("a bare kernel has no golden answers")
    found = compare(candidate.golden, candidate.args, prepared.answer)
    return {"golden_error": f"{found.error:.6g}", "golden_tolerance": f"{found.tolerance:.6g}"}


def _judged(label: str, samples: Samples, seen: Circumstances, protocol: Protocol, notes: Mapping[str, str]) -> Timings:
    verdict = judge(seen.evidence(samples, protocol.threads))
    environment = dict(notes) | {
        "mode": protocol.mode,
        "threads": str(protocol.threads),
        "calls_per_sample": str(samples.number),
    }
    if len(verdict.names) > 1:
        environment["verdicts"] = " ".join(verdict.names)
    if not samples.complete:
        spent_s = sum(samples.cpu_us) * samples.number / 1e6
        runs = f"{len(samples.wall_us)} of {protocol.min_runs} runs"
        environment["cut_short"] = f"{runs} and {spent_s:.3g} of {protocol.min_time_ms / 1e3:g} s"
    return Timings(
        label=label,
        wall_us=_rounded(samples.wall_us),
        cpu_us=_rounded(samples.cpu_us),
        delay_us=_rounded(samples.delay_us),
        blocks=samples.blocks,
        verdict=verdict.name,
        verdict_reason=verdict.reason,
        environment=tuple((environment | seen.notes()).items()),
    )


def _rounded(samples: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(sample, 3) for sample in samples)
