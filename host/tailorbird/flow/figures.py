"""The figures of a device's card: peak arithmetic, memory bandwidth, cache latencies, ridge, scaling over threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.probes import Probe, ProbeUnavailableError, build, probes_for
from tailorbird.compile.tvm.target import RUNTIME_DISTRIBUTION, runtime_library
from tailorbird.db import MeasurementKey, Store
from tailorbird.device import Device, Lease
from tailorbird.device.measure import timeout_s_of
from tailorbird.errors import CompileError, EnvironmentFaultError, UsageError
from tailorbird.flow.workspace import Note, silent
from tailorbird.types import QUICK, Figure, TimingProtocol

#: The first call of a probe fills its arrays, up to 768 MiB of them.
_FIRST_CALL_S = 60.0


@dataclass(frozen=True, slots=True)
class MissingFigure:
    """A figure the device does not have, or that cannot be measured on it, and why."""

    name: str
    why: str


def figure_names(device: Device) -> tuple[str, ...]:
    """What can be asked for on a device."""
    return tuple(dict.fromkeys((*(probe.name for probe in probes_for(device.card)), *device.status().benchmarks)))


def measure_figures(
    store: Store,
    device: Device,
    names: Sequence[str] = (),
    protocol: TimingProtocol = QUICK,
    *,
    lease: Lease | None = None,
    note: Note = silent,
) -> Iterator[Figure | MissingFigure]:
    """Measure figures under one lease; each is stored and given out as it comes, so that none is lost with the device.

    Probes are built here for the device's CPU; where that cannot be (no TVM runtime there, no compiler here) the
    agent's own benchmarks stand in, and what they cannot tell is missing. Those that scale are measured with 1, 2, 4,
    ... threads and with one for each core.

    Raises:
        UsageError: a name that does not exist.
        DeviceError, LeaseError, DeviceUnreachableError.
    """
    known = figure_names(device)
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise UsageError(f"there is no figure {', '.join(unknown)}", fix=f"choose among {', '.join(known)}")
    held = lease or device.lease()
    try:
        yield from _measure(store, device, names or known, protocol, held, note)
    finally:
        if lease is None:
            held.release()


def ridge(figures: Iterable[Figure]) -> float | None:
    """FLOP per byte above which a float32 kernel is bound by arithmetic (Williams et al., Roofline, 2009)."""
    values = {figure.name: figure.value for figure in figures}
    if "gemm-fp32" not in values or not values.get("stream-triad"):
        return None
    return values["gemm-fp32"] / values["stream-triad"]


def thread_counts(cores: int) -> tuple[int, ...]:
    """1, 2, 4, ... and all cores."""
    return tuple(sorted({*(1 << k for k in range(cores.bit_length()) if 1 << k <= cores), cores}))


def _measure(
    store: Store, device: Device, names: Sequence[str], protocol: TimingProtocol, lease: Lease, note: Note
) -> Iterator[Figure | MissingFigure]:
    probes = {probe.name: probe for probe in probes_for(device.card)}
    own = device.status().benchmarks
    why_not = _why_no_probes(device)
    for name in names:
        note(name)
        if name in probes and not why_not:
            yield from _probe(store, device, probes[name], protocol, lease)
        elif name in own:
            for figure in device.benchmark([name], protocol, lease=lease):
                _keep(store, device, figure, replace(protocol, threads=1))
                yield figure
        else:
            yield MissingFigure(name, why_not)


def _probe(
    store: Store, device: Device, probe: Probe, protocol: TimingProtocol, lease: Lease
) -> Iterator[Figure | MissingFigure]:
    target = CompileTarget.from_card(device.card)
    try:
        candidate = build(probe, target)
    except (ProbeUnavailableError, EnvironmentFaultError, CompileError) as error:
        yield MissingFigure(probe.name, error.why or error.what)
        return
    library = runtime_library(target.triple)
    for threads in thread_counts(device.card.cores) if probe.scales else (1,):
        timing = replace(protocol, threads=threads)
        (found,) = device.measure(
            [candidate],
            timing,
            runtime_library=library,
            lease=lease,
            candidate_timeout_s=_FIRST_CALL_S + timeout_s_of(timing),
        )
        if not found.ok:
            yield MissingFigure(probe.name, found.error)
            continue
        figure = Figure(probe.name, probe.value(found, threads), probe.unit, found)
        _keep(store, device, figure, timing)
        yield figure


def _why_no_probes(device: Device) -> str:
    """Why the host's probes cannot run there; empty when they can."""
    if device.card.runtime_version("tvm") is None:
        return f"the device has no TVM runtime ({RUNTIME_DISTRIBUTION})"
    try:
        runtime_library(CompileTarget.from_card(device.card).triple)
    except CompileError as error:
        return error.what
    return ""


def _keep(store: Store, device: Device, figure: Figure, protocol: TimingProtocol) -> None:
    runtime, _, version = (figure.measurement.noted("runtime") or "").partition(" ")
    key = MeasurementKey(
        device.name, runtime, version, "figure", figure.name, protocol.mode, protocol.threads, device.context
    )
    store.measurements.add_figure(key, figure)
