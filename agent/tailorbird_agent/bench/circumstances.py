"""What goes on around a measurement: the sensors, the reference kernel, and how often the CPU was taken away."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tailorbird_agent.bench.protocol import BATCH_US, Samples
from tailorbird_agent.bench.reference import Reference
from tailorbird_agent.bench.stats import Evidence
from tailorbird_agent.hardware import SensorReader, read_power_mode
from tailorbird_agent.hardware.tree import Tree

#: Sensors kept with the timings, before and after; those the device lacks are left out.
_NOTED = (
    "frequency_hz",
    "frequency_limit_hz",
    "temperature_max_c",
    "throttled",
    "throttle_count",
    "under_voltage",
    "cpu_some_avg10_percent",
    "load_1min",
    "steal_share",
    "memory_available_bytes",
)


class Device:
    """The device of a measuring worker, for as long as the worker lives. clock: monotonic seconds."""

    def __init__(
        self,
        root: Path | str = "/",
        reference: Reference | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._sensors = SensorReader(root)
        self._tree = Tree(root)
        self._given = reference
        self._drift = 0.0
        self._timed_s = -1.0

    def sense(self) -> Mapping[str, float | None]:
        """All sensors now."""
        return self._sensors.read().as_dict()

    def drift(self) -> float:
        """Of the reference kernel in the present batch: short measurements that follow each other share one timing."""
        now_s = self._clock()
        if self._timed_s < 0.0 or now_s - self._timed_s >= BATCH_US / 1e6:
            self._drift = self._reference.drift()
            self._timed_s = self._clock()
        return self._drift

    @property
    def reference_us(self) -> float:
        """What the reference kernel usually takes."""
        return self._reference.usual_us

    @property
    def _reference(self) -> Reference:
        """Made when it is first needed: finding its usual time takes some ten milliseconds."""
        if self._given is None:
            self._given = Reference()
        return self._given

    def stamp(self) -> dict[str, str]:
        """What figures are stale without: the kernel's release and the power mode."""
        release = self._tree.text("/proc/sys/kernel/osrelease")
        stamp = {"kernel": release or "", "power_mode": read_power_mode(self._tree)}
        return {name: words for name, words in stamp.items() if words}


class Circumstances:
    """Of one measurement: looked at before, between the batches, and after."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._looks: list[Mapping[str, float | None]] = []
        self._drifts: list[float] = []
        self._switches: list[int] = []
        self._times_s: list[float] = []

    def look(self) -> None:
        """Once more."""
        if not self._looks:
            self._drifts.append(self._device.drift())
        self._switches.append(resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw)
        self._times_s.append(time.monotonic())
        self._looks.append(self._device.sense())
        if len(self._looks) > 1:
            self._drifts.append(self._device.drift())

    def evidence(self, samples: Samples, threads: int) -> Evidence:
        """Samples with all that was seen around them."""
        return Evidence(
            wall_us=samples.wall_us,
            cpu_us=samples.cpu_us,
            looks=self._looks,
            delay_us=samples.delay_us,
            reference_drifts=self._drifts,
            switches=self._switches[-1] - self._switches[0],
            elapsed_s=self._times_s[-1] - self._times_s[0],
            threads=threads,
        )

    def notes(self) -> dict[str, str]:
        """What is kept with the timings."""
        notes = self._device.stamp()
        usual_us = self._device.reference_us
        notes["reference_us"] = f"{usual_us * (1.0 + statistics.median(self._drifts)):.4g}"
        notes["reference_usual_us"] = f"{usual_us:.4g}"
        notes["reference_drift"] = f"{max(self._drifts, key=abs):+.4f}"
        notes["involuntary_switches"] = str(self._switches[-1] - self._switches[0])
        for moment, readings in (("before", self._looks[0]), ("after", self._looks[-1])):
            found = ((name, readings.get(name)) for name in _NOTED)
            notes |= {f"{name}.{moment}": f"{value:.6g}" for name, value in found if value is not None}
        return notes
