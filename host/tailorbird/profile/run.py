"""Measuring what a plan names, through the agent, each thing once per device.

What has arrived is stored at once: when the device drops out, or this program does, running again goes on with what is
missing. So it does with what was measured on a throttled device: it is kept as the best there is, and measured again
when asked for.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from tailorbird.db import MeasurementKey, Store
from tailorbird.device import Device, Lease
from tailorbird.errors import DeviceUnreachableError, LeaseError
from tailorbird.profile.history import subnet_subject
from tailorbird.profile.table import SECONDS, KernelTable, seconds_of
from tailorbird.types import (
    KERNEL,
    QUICK,
    Candidate,
    Config,
    Figure,
    Kernel,
    KernelSpec,
    Measurement,
    TimingProtocol,
    Verdict,
)

#: Modules built and uploaded together: bounds memory, and what a broken connection costs.
_BATCH = 32

#: A contended core inflates the wall clock; the CPU time, which is what is used here, stays good.
_USABLE = frozenset({Verdict.OK, Verdict.CONTENDED})
#: How far from the truth the others may be; those that are not named are as good as each other.
_HARM = {Verdict.NOISY: 1, Verdict.UNSTABLE: 1, Verdict.THROTTLED: 2}

_Subject = TypeVar("_Subject", bound=Hashable)

#: Called with (done, of all) as measurements arrive; stored ones count as done.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Profiler(Generic[_Subject]):
    """Measures kernels or subnets on one device with one runtime, and remembers them in the store.

    kind: "kernel" or "subnet"; build: compiles one for the device; subject: canonical text that identifies it; rounds:
    how often each is measured, in a process of its own every time, of which the middle one counts: a process keeps its
    place in memory, and a busy machine its speed, for as long as one measurement takes.
    """

    device: Device
    store: Store
    runtime: str
    kind: str
    build: Callable[[_Subject], Candidate]
    subject: Callable[[_Subject], str]
    protocol: TimingProtocol
    runtime_library: Path | None = None
    rounds: int = 1

    def measure(
        self,
        items: Sequence[_Subject],
        *,
        lease: Lease | None = None,
        on_progress: Progress | None = None,
        refresh: bool = False,
    ) -> dict[_Subject, Measurement]:
        """Measurements of all items, stored ones first; a flagged one is measured a second time, the better one kept.

        refresh: what is stored does not hold any more; measure everything anew.
        Failed candidates have an error instead of timings and are not stored: a later run tries them again. When the
        device drops out, what had arrived is in the store. Raises DeviceError, LeaseError.
        """
        try:
            return self._measure(items, lease, on_progress, refresh=refresh)
        except DeviceUnreachableError as error:
            raise DeviceUnreachableError(
                error.what,
                why=error.why,
                fix=f"run the same again when {self.device.name} is back: what was measured until now is kept",
                reason=error.reason,
            ) from error
        except LeaseError as error:
            if error.reason == "LEASE_HELD":
                raise
            again = "run the same again: what was measured until now is kept"
            raise LeaseError(error.what, why=error.why, fix=again, reason=error.reason) from error

    def _measure(
        self, items: Sequence[_Subject], lease: Lease | None, on_progress: Progress | None, *, refresh: bool
    ) -> dict[_Subject, Measurement]:
        keys = {item: self._key(item) for item in dict.fromkeys(items)}
        stored = {} if refresh else self.store.measurements.find_all(keys.values())
        found = {item: stored[key] for item, key in keys.items() if key in stored}
        missing = [item for item in keys if item not in found or found[item].verdict is Verdict.THROTTLED]
        done = len(keys) - len(missing)
        if on_progress is not None:
            on_progress(done, len(keys))
        if not missing:
            return found
        with nullcontext(lease) if lease is not None else self.device.lease() as held:
            for batch in _batches(missing):
                results = self._time_twice(batch, held, keys)
                if self.rounds > 1:
                    results = self._middle(batch, held, keys, results)
                found |= {item: result for item, result in results.items() if result.ok or item not in found}
                done += len(batch)
                if on_progress is not None:
                    on_progress(done, len(keys))
        return {item: found[item] for item in keys}

    def _time_twice(
        self, batch: Sequence[_Subject], lease: Lease, keys: Mapping[_Subject, MeasurementKey]
    ) -> dict[_Subject, Measurement]:
        results: dict[_Subject, Measurement] = {}

        def take(item: _Subject, measurement: Measurement) -> None:
            results[item] = measurement
            self._remember({item: measurement}, keys)

        def take_better(item: _Subject, measurement: Measurement) -> None:
            if measurement.ok and _harm(measurement) < _harm(results[item]):
                take(item, measurement)

        self._time(batch, lease, take)
        again = [item for item in batch if results[item].ok and results[item].verdict not in _USABLE]
        self._time(again, lease, take_better)
        return results

    def _middle(
        self,
        batch: Sequence[_Subject],
        lease: Lease,
        keys: Mapping[_Subject, MeasurementKey],
        first: Mapping[_Subject, Measurement],
    ) -> dict[_Subject, Measurement]:
        """Measure a batch again and again; of each the round in the middle, at the cost of all."""
        found = {item: [first[item]] for item in batch}
        open_ = [item for item in batch if first[item].ok]
        for number in range(1, self.rounds):
            self._time(
                open_ if number % 2 == 0 else open_[::-1],
                lease,
                lambda item, result: found[item].extend([result] if result.ok else []),
                fresh_process=True,
            )
        middle = {item: _middle_of(rounds) for item, rounds in found.items()}
        self._remember(middle, keys)
        return middle

    def _time(
        self,
        batch: Sequence[_Subject],
        lease: Lease,
        on_result: Callable[[_Subject, Measurement], None],
        *,
        fresh_process: bool = False,
    ) -> None:
        """Build, upload and time a batch; each result is told as it arrives, with what it took."""
        if not batch:
            return
        latest = time.monotonic()
        candidates = [self.build(item) for item in batch]
        build_s = (time.monotonic() - latest) / len(batch)

        def take(index: int, measurement: Measurement) -> None:
            nonlocal latest
            now = time.monotonic()
            spent = (SECONDS, f"{now - latest + build_s:.6f}")
            latest = now
            on_result(batch[index], dataclasses.replace(measurement, environment=(*measurement.environment, spent)))

        latest = time.monotonic()
        self.device.measure(
            candidates,
            self.protocol,
            runtime_library=self.runtime_library,
            lease=lease,
            on_result=take,
            fresh_process=fresh_process,
        )

    def _remember(self, results: Mapping[_Subject, Measurement], keys: Mapping[_Subject, MeasurementKey]) -> None:
        self.store.measurements.add_all((keys[item], result) for item, result in results.items() if result.ok)

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


def _middle_of(rounds: Sequence[Measurement]) -> Measurement:
    """The round whose time is in the middle, with the seconds that all of them took."""
    if len(rounds) == 1:
        return rounds[0]
    middle = sorted(rounds, key=lambda m: m.cpu_median_us)[len(rounds) // 2]
    rest = tuple(pair for pair in middle.environment if pair[0] != SECONDS)
    return dataclasses.replace(middle, environment=(*rest, (SECONDS, f"{sum(map(seconds_of, rounds)):.6f}")))


def _harm(measurement: Measurement) -> tuple[int, float]:
    """Orders measurements of one item, the best first: a steady time on a throttled device is a wrong one."""
    return _HARM.get(measurement.verdict, 0), measurement.cpu_mad_us / measurement.cpu_median_us


def kernel_subject(spec: Kernel) -> str:
    """Canonical JSON of a kernel."""
    fields: Any = spec  # every kernel is a dataclass
    return json.dumps(dataclasses.asdict(fields), sort_keys=True, separators=(",", ":"))


def profile_kernels(
    device: Device,
    specs: Sequence[Kernel],
    build: Callable[[Any], Candidate],
    *,
    built_as: Callable[[Any], str] | None = None,
    store: Store,
    runtime: str = "litert",
    protocol: TimingProtocol = KERNEL,
    runtime_library: Path | None = None,
    lease: Lease | None = None,
    on_progress: Progress | None = None,
    rounds: int = 1,
) -> KernelTable:
    """Time kernels alone on a device. A second run finds every one of them in the store.

    build: compiles one kernel (of the kind given) to a module with that kernel only; built_as: identity of what decides
    about its code beside the kernel itself (compile target, schedule), "" where nothing does; rounds: see Profiler.
    Raises DeviceError, LeaseError.
    """

    def subject(spec: Kernel) -> str:
        plain, built = kernel_subject(spec), "" if built_as is None else built_as(spec)
        return f'{{"built":{json.dumps(built)},"kernel":{plain}}}' if built else plain

    profiler = Profiler(device, store, runtime, "kernel", build, subject, protocol, runtime_library, rounds)
    measured = profiler.measure(specs, lease=lease, on_progress=on_progress)
    return KernelTable.of(device.name, runtime, measured)


def profile_chains(
    device: Device,
    chains: Sequence[tuple[KernelSpec, ...]],
    build: Callable[[tuple[KernelSpec, ...]], Candidate],
    *,
    store: Store,
    runtime: str = "litert",
    protocol: TimingProtocol = KERNEL,
    lease: Lease | None = None,
    on_progress: Progress | None = None,
) -> dict[tuple[KernelSpec, ...], Measurement]:
    """Time kernels in a row, each fed by the one before, as one module: what fusing them saves.

    Raises DeviceError, LeaseError.
    """

    def subject(chain: tuple[KernelSpec, ...]) -> str:
        return f"[{','.join(map(kernel_subject, chain))}]"

    profiler = Profiler(device, store, runtime, "chain", build, subject, protocol)
    return profiler.measure(chains, lease=lease, on_progress=on_progress)


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
    built_as: str = "",
    refresh: bool = False,
) -> dict[Config, Measurement]:
    """Time whole subnets on a device.

    model: identity of the SuperNet (its name and a digest of its graph): the same configuration of another network is
    another subject; built_as: identity of what else decides about their code (compile target, schedules); refresh:
    measure anew what is stored. Raises DeviceError, LeaseError.
    """

    def subject(config: Config) -> str:
        return subnet_subject(model, config, built_as)

    profiler = Profiler(device, store, runtime, "subnet", build, subject, protocol, runtime_library)
    return profiler.measure(configs, lease=lease, on_progress=on_progress, refresh=refresh)


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
    stored = tuple(f for f in store.measurements.figures(device.name, device.context) if not names or f.name in names)
    if stored and not refresh and set(names) <= {figure.name for figure in stored}:
        return stored
    figures = device.benchmark(names, protocol, lease=lease)
    for figure in figures:
        key = MeasurementKey(
            device.name,
            "",
            device.card.agent_version,
            "figure",
            figure.name,
            protocol.mode,
            protocol.threads,
            device.context,
        )
        store.measurements.add_figure(key, figure)
    return tuple(figures)
