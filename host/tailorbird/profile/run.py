"""Measuring what a plan names, through the agent, each thing once per device."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tailorbird.db import MeasurementKey, Store
from tailorbird.device import Device, Lease
from tailorbird.profile.table import KernelTable
from tailorbird.types import KERNEL, QUICK, Candidate, Config, Figure, KernelSpec, Measurement, TimingProtocol, Verdict

#: Modules built and uploaded together: bounds memory, and what a broken connection costs.
_BATCH = 32

#: A contended core inflates the wall clock; the CPU time, which is what is used here, stays good.
_USABLE = frozenset({Verdict.OK, Verdict.CONTENDED})

_Subject = TypeVar("_Subject", KernelSpec, Config)

#: Called with (done, of all) as measurements arrive; stored ones count as done.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Profiler(Generic[_Subject]):
    """Measures kernels or subnets on one device with one runtime, and remembers them in the store.

    kind: "kernel" or "subnet"; build: compiles one for the device; subject: canonical text that identifies it.
    """

    device: Device
    store: Store
    runtime: str
    kind: str
    build: Callable[[_Subject], Candidate]
    subject: Callable[[_Subject], str]
    protocol: TimingProtocol
    runtime_library: Path | None = None

    def measure(
        self, items: Sequence[_Subject], *, lease: Lease | None = None, on_progress: Progress | None = None
    ) -> dict[_Subject, Measurement]:
        """Measurements of all items, stored ones first; a noisy one is measured a second time, the quieter one is kept.

        Failed candidates have an error instead of timings and are not stored: a later run tries them again.
        """
        keys = {item: self._key(item) for item in dict.fromkeys(items)}
        stored = self.store.measurements.find_all(keys.values())
        found = {item: stored[key] for item, key in keys.items() if key in stored}
        missing = [item for item in keys if item not in found]
        if on_progress is not None:
            on_progress(len(found), len(keys))
        if not missing:
            return found
        with nullcontext(lease) if lease is not None else self.device.lease() as held:
            for batch in _batches(missing):
                results = self._time_twice(batch, held)
                self.store.measurements.add_all((keys[item], result) for item, result in results.items() if result.ok)
                found |= results
                if on_progress is not None:
                    on_progress(len(found), len(keys))
        return {item: found[item] for item in keys}

    def _time_twice(self, batch: Sequence[_Subject], lease: Lease) -> dict[_Subject, Measurement]:
        results = self._time(batch, lease)
        again = [item for item in batch if results[item].ok and results[item].verdict not in _USABLE]
        for item, second in (self._time(again, lease) if again else {}).items():
            if second.ok and _unrest(second) < _unrest(results[item]):
                results[item] = second
        return results

    def _time(self, batch: Sequence[_Subject], lease: Lease) -> dict[_Subject, Measurement]:
        candidates = [self.build(item) for item in batch]
        results = self.device.measure(candidates, self.protocol, runtime_library=self.runtime_library, lease=lease)
        return dict(zip(batch, results, strict=True))

    def _key(self, item: _Subject) -> MeasurementKey:
        return MeasurementKey(
            device=self.device.name,
            runtime=self.runtime,
            runtime_version=self.device.card.runtime_version(self.runtime) or "",
            kind=self.kind,
            subject=self.subject(item),
            mode=self.protocol.mode,
            threads=self.protocol.threads,
            context=self.device.context,
        )


def _batches(items: Sequence[_Subject]) -> Iterator[Sequence[_Subject]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


def _unrest(measurement: Measurement) -> float:
    return measurement.cpu_mad_us / measurement.cpu_median_us


def kernel_subject(spec: KernelSpec) -> str:
    """Canonical JSON of a kernel."""
    return json.dumps(dataclasses.asdict(spec), sort_keys=True, separators=(",", ":"))


def profile_kernels(
    device: Device,
    specs: Sequence[KernelSpec],
    build: Callable[[KernelSpec], Candidate],
    *,
    store: Store,
    runtime: str = "litert",
    protocol: TimingProtocol = KERNEL,
    runtime_library: Path | None = None,
    lease: Lease | None = None,
    on_progress: Progress | None = None,
) -> KernelTable:
    """Time kernels alone on a device. A second run finds every one of them in the store.

    build: compiles one kernel to a module with that kernel only. Raises DeviceError, LeaseError.
    """
    profiler = Profiler(device, store, runtime, "kernel", build, kernel_subject, protocol, runtime_library)
    measured = profiler.measure(specs, lease=lease, on_progress=on_progress)
    return KernelTable.of(device.name, runtime, measured)


def profile_subnets(
    device: Device,
    model: str,
    configs: Sequence[Config],
    build: Callable[[Config], Candidate],
    *,
    store: Store,
    runtime: str = "litert",
    protocol: TimingProtocol = QUICK,
    runtime_library: Path | None = None,
    lease: Lease | None = None,
    on_progress: Progress | None = None,
) -> dict[Config, Measurement]:
    """Time whole subnets on a device.

    model: identity of the SuperNet (its name and a digest of its graph): the same configuration of another network is
    another subject. Raises DeviceError, LeaseError.
    """

    def subject(config: Config) -> str:
        return json.dumps({"model": model, "config": config.to_json()}, sort_keys=True, separators=(",", ":"))

    profiler = Profiler(device, store, runtime, "subnet", build, subject, protocol, runtime_library)
    return profiler.measure(configs, lease=lease, on_progress=on_progress)


def profile_device(
    device: Device,
    *,
    store: Store,
    names: Sequence[str] = (),
    protocol: TimingProtocol = QUICK,
    lease: Lease | None = None,
    refresh: bool = False,
) -> tuple[Figure, ...]:
    """The device's micro-benchmarks (peak GFLOP/s, memory bandwidth, ...), from the store unless `refresh`."""
    stored = tuple(f for f in store.measurements.figures(device.name) if not names or f.name in names)
    if stored and not refresh and set(names) <= {figure.name for figure in stored}:
        return stored
    figures = device.benchmark(names, protocol, lease=lease)
    for figure in figures:
        key = MeasurementKey(
            device.name, "", device.card.agent_version, "figure", figure.name, protocol.mode, protocol.threads
        )
        store.measurements.add_figure(key, figure)
    return tuple(figures)
