"""A latency model of a SuperNet on a device: kernels measured there, their sums calibrated on a few whole subnets."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from tailorbird.compile.kernels import kernels_of as kernels_in
from tailorbird.compile.litert.single_op import chain_candidate, single_op_candidate
from tailorbird.db import Store
from tailorbird.device import Device, Lease
from tailorbird.errors import DeviceError, UsageError
from tailorbird.flow.identity import latency_identity
from tailorbird.flow.subnets import SubnetTimer, require_runtime
from tailorbird.flow.transfer import transfer_latency
from tailorbird.flow.workspace import Note, silent
from tailorbird.predict import KernelSum, LatencyModel, Sample, choose_samples
from tailorbird.predict.fewshot import TransferredLatency
from tailorbird.profile import (
    Fusions,
    KernelsOf,
    KernelTable,
    ProfileCost,
    fusion_probes,
    learn_kernels,
    plan_kernels,
    profile_chains,
    profile_kernels,
    seconds_of,
)
from tailorbird.profile.fusion import Pair, unfused
from tailorbird.supernet import SuperNet
from tailorbird.types import Config, Kernel, KernelSpec, TimingProtocol, Verdict

_KERNEL = TimingProtocol("kernel-brief", min_runs=20, min_seconds=0.02, max_seconds=1.0)


@dataclass(frozen=True, slots=True, eq=False)
class LatencyProfile:
    """The model, what it was calibrated on, what it was judged by, and what all that cost when it was measured."""

    model: KernelSum
    kernels_of: KernelsOf
    calibration: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    kernels_measured: int
    kernels_reachable: int
    kernels_failed: int
    cost: ProfileCost


def profile_latency(
    store: Store,
    net: SuperNet,
    example: tuple[torch.Tensor, ...],
    device: Device,
    *,
    identity: str,
    kernels: int = 120,
    samples: int = 6,
    held_out: int = 6,
    seed: int = 0,
    kernels_of: KernelsOf | None = None,
    note: Note = silent,
) -> LatencyProfile:
    """Measure kernels and whole subnets under one lease and fit the model.

    identity: names this network among stored measurements; kernels: the most to measure; samples: whole subnets to
    calibrate on; held_out: further ones, never fitted, to judge it by; kernels_of: as kernels_of_net finds it.

    Raises:
        DeviceError: the device has no LiteRT, the agent went away or refused to measure, or nothing runs there.
    """
    require_runtime(device)
    timer = SubnetTimer(store, net, example, identity, note=note)
    started = time.monotonic()
    if kernels_of is None:
        note("listing kernels")
        kernels_of = kernels_of_net(net, example, seed=seed)
    plan = plan_kernels(net.space, kernels_of, cap=kernels, seed=seed)
    fitted = choose_samples(net.space, kernels_of, samples, seed=seed)
    others = _held_out(net, fitted, held_out, seed)
    networks = [_operations(kernels_of(config)) for config in (*fitted, *others)]
    probes = fusion_probes(networks, among=frozenset(plan.specs))
    listing_s = time.monotonic() - started
    with device.lease() as lease:
        table = profile_kernels(
            device,
            plan.specs,
            single_op_candidate,
            store=store,
            protocol=_KERNEL,
            lease=lease,
            on_progress=lambda done, total: note(f"{done} of {total} kernels measured"),
        )
        fusions, probes_s = _fusions(store, device, table, probes, lease)
        measured = timer.measure(device, [*fitted, *others], lease=lease)
    usable = {config: measurement for config, measurement in measured.items() if measurement.ok}
    _require_some(device, "kernel", len(table.times), list(table.failures.values()))
    _require_some(device, "subnet", sum(c in usable for c in fitted), [measured[c].error for c in fitted])
    calibration = tuple(Sample(config, usable[config].cpu_median_us) for config in fitted if config in usable)
    judged = tuple(Sample(config, usable[config].cpu_median_us) for config in others if config in usable)
    cost = ProfileCost.of(
        plan,
        table,
        [seconds_of(measurement) for measurement in usable.values()],
        operations=statistics.fmean(len(unfused(network)) for network in networks),
        listing_s=listing_s,
        probes_s=probes_s,
        throttled_subnets=sum(measurement.verdict is Verdict.THROTTLED for measurement in usable.values()),
    )
    model = KernelSum(table, kernels_of, fusions=fusions, cost=cost).calibrated(calibration, judged)
    return LatencyProfile(
        model, kernels_of, calibration, judged, len(table.times), plan.reachable, len(table.failures), cost
    )


def _require_some(device: Device, what: str, count: int, failures: Sequence[str]) -> None:
    """Check that something ran. Raises DeviceError with the first of the failures when nothing did."""
    if not count:
        raise DeviceError(
            f"no {what} runs on {device.name}",
            why=f"{len(failures)} were tried; the first failed with: {next(filter(None, failures), 'no timings')}",
            fix="see what is missing there: tailorbird doctor",
            reason="NOT_MEASURED",
        )


def _operations(kernels: Sequence[Kernel]) -> list[KernelSpec]:
    """Kernels as LiteRT has them."""
    return [spec for spec in kernels if isinstance(spec, KernelSpec)]


def _fusions(
    store: Store, device: Device, table: KernelTable, probes: Sequence[Pair], lease: Lease
) -> tuple[Fusions | None, float]:
    """What runs fused on the device and what a module of its own costs there, and the seconds that finding it took."""
    pairs = profile_chains(device, probes, chain_candidate, store=store, protocol=_KERNEL, lease=lease)
    times = {pair: pairs[pair].cpu_median_us for pair in probes if pairs[pair].ok and set(pair) <= table.times.keys()}
    return (Fusions.of(table.times_us, times) if times else None), sum(map(seconds_of, pairs.values()))


def kernels_of_net(net: SuperNet, example: tuple[torch.Tensor, ...], *, seed: int = 0) -> KernelsOf:
    """The kernels of any subnet. Raises CompileError for operations that cannot be timed alone."""
    return learn_kernels(net.space, lambda config: kernels_in(net.extract(config), example), seed=seed)


def latency_model(
    net: SuperNet,
    device: Device,
    *,
    proxies: Sequence[Device] = (),
    samples: int = 10,
    kernels: int = 120,
    seed: int = 0,
) -> LatencyModel:
    """Predicts a subnet's on-CPU microseconds on a device: `model(config)`; `model.error` says how well.

    `model.measure(configs)` times subnets there, as tb.search does with those it answers with.

    Without proxies every distinct kernel is timed, and pairs of kernels, which tell what the runtime fuses:
    `model.cost` says what that took, and what it saved.

    samples: whole subnets measured on the device, at most. proxies: other devices that were or will be measured more;
    then the device itself is measured as often as needed, its kernels are not, and the model is a TransferredLatency:
    `model.interval(config)` is a 90 % interval, `model.doubt(config)` says when to measure instead, and with no samples
    at all it only orders subnets (`model.score`) and refuses milliseconds. Measurements are kept in the user's store
    and not taken twice.

    Raises:
        UsageError: no samples and no proxies; no kernels; a proxy that is the device itself.
        DeviceError: a device has no LiteRT, its agent went away or refused to measure.
    """
    from tailorbird.db import default_store

    if samples < (0 if proxies else 1):
        raise UsageError(
            f"{samples} samples tell nothing of {device.name}",
            why="milliseconds are only known of devices that were measured",
            fix="measure at least one subnet (samples=10), or name proxies to order subnets by",
            reason="NO_SAMPLES",
        )
    if kernels < 1:
        raise UsageError(
            f"{kernels} kernels are none to sum", fix="measure at least one (kernels=120)", reason="NO_KERNELS"
        )
    timer = SubnetTimer(default_store(), net, net.example_inputs, latency_identity(net))
    if proxies:
        kernels_of = kernels_of_net(net, net.example_inputs, seed=seed)
        model: KernelSum | TransferredLatency = transfer_latency(
            timer, kernels_of, device, proxies, most=samples, seed=seed
        ).model
    else:
        model = profile_latency(
            timer.store,
            net,
            net.example_inputs,
            device,
            identity=timer.identity,
            kernels=kernels,
            samples=samples,
            held_out=max(4, samples // 2),
            seed=seed,
        ).model
    model.measure = partial(timer.times_us, device)
    return model


def _held_out(net: SuperNet, taken: Sequence[Config], count: int, seed: int) -> list[Config]:
    """Random subnets that took no part in the calibration."""
    found: list[Config] = []
    for number in range(20 * count):
        config = net.space.sample(10_000 + seed + number)
        if config not in taken and config not in found:
            found.append(config)
        if len(found) == count:
            break
    return found
