"""A latency model of a SuperNet on a device: kernels measured there, their sums calibrated on a few whole subnets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tailorbird.compile.kernels import kernels_of as kernels_in
from tailorbird.compile.litert.single_op import single_op_candidate
from tailorbird.db import Store
from tailorbird.device import Device
from tailorbird.errors import UsageError
from tailorbird.flow.identity import latency_identity
from tailorbird.flow.subnets import SubnetTimer, require_runtime
from tailorbird.flow.transfer import transfer_latency
from tailorbird.flow.workspace import Note, silent
from tailorbird.predict import KernelSum, LatencyModel, Sample, choose_samples
from tailorbird.profile import KernelsOf, learn_kernels, plan_kernels, profile_kernels
from tailorbird.supernet import SuperNet
from tailorbird.types import Config, TimingProtocol

_KERNEL = TimingProtocol("kernel-brief", min_runs=20, min_seconds=0.02, max_seconds=1.0)


@dataclass(frozen=True, slots=True, eq=False)
class LatencyProfile:
    """The model, what it was calibrated on, and what it was judged by."""

    model: KernelSum
    kernels_of: KernelsOf
    calibration: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    kernels_measured: int
    kernels_reachable: int
    kernels_failed: int


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
        DeviceError: the device has no LiteRT, the agent went away or refused to measure.
    """
    require_runtime(device)
    timer = SubnetTimer(store, net, example, identity, note=note)
    if kernels_of is None:
        note("listing kernels")
        kernels_of = kernels_of_net(net, example, seed=seed)
    plan = plan_kernels(net.space, kernels_of, cap=kernels, seed=seed)
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
        fitted = choose_samples(net.space, kernels_of, samples, seed=seed)
        others = _held_out(net, fitted, held_out, seed)
        measured = timer.times_us(device, [*fitted, *others], lease=lease)
    calibration = tuple(Sample(config, measured[config]) for config in fitted if config in measured)
    judged = tuple(Sample(config, measured[config]) for config in others if config in measured)
    model = KernelSum(table, kernels_of).calibrated(calibration, judged)
    return LatencyProfile(model, kernels_of, calibration, judged, len(table.times), plan.reachable, len(table.failures))


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

    samples: whole subnets measured on the device, at most. proxies: other devices that were or will be measured more;
    then the device itself is measured as often as needed, its kernels are not, and the model is a TransferredLatency:
    `model.interval(config)` is a 90 % interval, `model.doubt(config)` says when to measure instead, and with no samples
    at all it only orders subnets (`model.score`) and refuses milliseconds. Measurements are kept in the user's store
    and not taken twice.

    Raises:
        UsageError: no samples and no proxies; a proxy that is the device itself.
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
    timer = SubnetTimer(default_store(), net, net.example_inputs, latency_identity(net))
    if proxies:
        kernels_of = kernels_of_net(net, net.example_inputs, seed=seed)
        return transfer_latency(timer, kernels_of, device, proxies, most=samples, seed=seed).model
    return profile_latency(
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
