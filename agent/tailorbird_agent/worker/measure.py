"""The measuring worker: times one candidate or one device figure after the other and reports what it saw.

A candidate that raises is an error in its answer. One that crashes or hangs takes this process with it; the daemon
starts another and goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tailorbird_agent.bench.candidates import Bench
from tailorbird_agent.bench.kernels import measure_figure
from tailorbird_agent.bench.protocol import Samples, time_call
from tailorbird_agent.bench.stats import judge
from tailorbird_agent.bench.stopwatch import make_stopwatch
from tailorbird_agent.hardware import SensorReader
from tailorbird_agent.worker.channel import Channel, Message
from tailorbird_agent.worker.plan import CandidatePlan, Figure, Protocol, Timings

#: Sensors kept with the timings, before and after; those the device lacks are left out.
_NOTED = (
    "frequency_hz",
    "temperature_max_c",
    "throttled",
    "throttle_count",
    "cpu_some_avg10_percent",
    "load_1min",
    "steal_share",
    "memory_available_bytes",
)
_ERROR_LENGTH = 500


def measure(descriptor: int, sandbox: Sequence[str]) -> None:
    """Obey the channel: first {"libraries": ...}, then {"op": "time" | "figure" | "stop"} one by one."""
    channel = Channel.adopt(descriptor)
    opening = channel.receive()
    if opening is None:
        return
    examiner = Examiner({name: Path(path) for name, path in opening["libraries"]})
    channel.send({"sandbox": list(sandbox)})
    while (message := channel.receive()) is not None and message["op"] != "stop":
        protocol = Protocol(**message["protocol"])
        channel.send(
            examiner.time(message, protocol) if message["op"] == "time" else examiner.figure(message, protocol)
        )


class Examiner:
    """Times things, with the sensors read around them."""

    def __init__(self, libraries: Mapping[str, Path]) -> None:
        self._bench = Bench(dict(libraries))
        self._sensors = SensorReader()

    def time(self, message: Message, protocol: Protocol) -> Message:
        """One candidate."""
        candidate = CandidatePlan.from_json(message["candidate"])
        try:
            with self._bench.prepared(candidate, protocol.threads) as (call, runtime):
                call()  # makes the threads that the stopwatch has to watch
                before = self._sensors.read().as_dict()
                samples = time_call(call, protocol, make_stopwatch(protocol.threads))
            timings = self._judged(candidate.label, samples, before, {"runtime": runtime, "mode": protocol.mode})
        except Exception as error:
            words = " ".join(str(error).split())
            timings = Timings(candidate.label, error=f"{type(error).__name__}: {words[:_ERROR_LENGTH]}")
        return {"timings": asdict(timings)}

    def figure(self, message: Message, protocol: Protocol) -> Message:
        """One device figure."""
        name = message["name"]
        before = self._sensors.read().as_dict()
        available = before.get("memory_available_bytes")
        value, unit, samples = measure_figure(name, protocol, make_stopwatch(protocol.threads), available)
        timings = self._judged(name, samples, before, {"runtime": "numpy", "mode": protocol.mode})
        return {"figure": asdict(Figure(name, value, unit, timings))}

    def _judged(
        self, label: str, samples: Samples, before: Mapping[str, float | None], notes: Mapping[str, str]
    ) -> Timings:
        after = self._sensors.read().as_dict()
        verdict = judge(samples.wall_us, samples.cpu_us, before, after)
        environment = dict(notes) | {"calls_per_sample": str(samples.number)}
        for moment, readings in (("before", before), ("after", after)):
            found = ((name, readings.get(name)) for name in _NOTED)
            environment |= {f"{name}.{moment}": f"{value:.6g}" for name, value in found if value is not None}
        return Timings(
            label=label,
            wall_us=tuple(round(sample, 3) for sample in samples.wall_us),
            cpu_us=tuple(round(sample, 3) for sample in samples.cpu_us),
            verdict=verdict.name,
            verdict_reason=verdict.reason,
            environment=tuple(environment.items()),
        )
