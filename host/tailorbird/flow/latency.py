"""A latency model of a SuperNet on a device: kernels measured there, their sums calibrated on a few whole subnets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tailorbird.compile.base import CompileTarget, backend
from tailorbird.compile.capture import capture
from tailorbird.compile.kernels import kernels_of as kernels_in
from tailorbird.compile.litert.single_op import single_op_candidate
from tailorbird.db import Store
from tailorbird.device import Device, Lease
from tailorbird.errors import DeviceError
from tailorbird.flow.identity import latency_identity
from tailorbird.flow.workspace import Note, silent
from tailorbird.predict import KernelSum, Sample, choose_samples
from tailorbird.profile import learn_kernels, plan_kernels, profile_kernels, profile_subnets
from tailorbird.supernet import SuperNet
from tailorbird.types import Candidate, Config, TimingProtocol

#: Kernels and subnets are timed on the runtime whose modules take milliseconds to write.
_RUNTIME = "litert"
_KERNEL = TimingProtocol("kernel-brief", min_runs=20, min_seconds=0.02, max_seconds=1.0)
_SUBNET = TimingProtocol("subnet-brief", min_runs=40, min_seconds=0.12, max_seconds=3.0)


@dataclass(frozen=True, slots=True, eq=False)
class LatencyProfile:
    """The model, what it was calibrated on, and what it was judged by."""

    model: KernelSum
    calibration: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    kernels_measured: int
    kernels_reachable: int
    kernels_failed: int


def require_runtime(device: Device) -> None:
    """Check that the device can time what profiling sends. Raises DeviceError when it cannot."""
    if device.card.runtime_version(_RUNTIME) is None:
        raise DeviceError(
            f"{device.name} cannot time {_RUNTIME} modules",
            why=f"its runtimes are {', '.join(name for name, _ in device.card.runtimes) or 'none'}",
            fix="pip install 'tailorbird[agent-litert]' on the device and restart its agent",
            reason="RUNTIME_MISSING",
        )


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
    note: Note = silent,
) -> LatencyProfile:
    """Measure kernels and whole subnets under one lease and fit the model.

    identity: names this network among stored measurements; kernels: the most to measure; samples: whole subnets to
    calibrate on; held_out: further ones, never fitted, to judge it by.

    Raises:
        DeviceError: the device has no LiteRT, the agent went away or refused to measure.
    """
    require_runtime(device)
    note("listing kernels")
    kernels_of = learn_kernels(net.space, lambda config: kernels_in(net.extract(config), example), seed=seed)
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
        measured = _measure(store, net, example, device, lease, identity, [*fitted, *others], note)
    calibration = tuple(Sample(config, measured[config]) for config in fitted if config in measured)
    judged = tuple(Sample(config, measured[config]) for config in others if config in measured)
    model = KernelSum(table, kernels_of).calibrated(calibration, judged)
    return LatencyProfile(model, calibration, judged, len(table.times), plan.reachable, len(table.failures))


def latency_model(net: SuperNet, device: Device, *, samples: int = 10, kernels: int = 120, seed: int = 0) -> KernelSum:
    """Predicts a subnet's on-CPU microseconds on a device: `model(config)`; `model.error` says how well, held out.

    samples: whole subnets measured to calibrate it. Measurements are kept in the user's store and not taken twice.

    Raises:
        DeviceError: the device has no LiteRT, the agent went away or refused to measure.
    """
    from tailorbird.db import default_store

    return profile_latency(
        default_store(),
        net,
        net.example_inputs,
        device,
        identity=latency_identity(net),
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


def _measure(
    store: Store,
    net: SuperNet,
    example: tuple[torch.Tensor, ...],
    device: Device,
    lease: Lease,
    identity: str,
    configs: Sequence[Config],
    note: Note,
) -> dict[Config, float]:
    """Median on-CPU microseconds of whole subnets; those that fail to run are left out."""
    target = CompileTarget.from_card(device.card)
    writer = backend(_RUNTIME)

    def build(config: Config) -> Candidate:
        built = writer.build(capture(net.extract(config), example), target)
        return Candidate(built.kind, built.module, built.inputs, config.key)

    found = profile_subnets(
        device,
        identity,
        configs,
        build,
        store=store,
        runtime=_RUNTIME,
        protocol=_SUBNET,
        lease=lease,
        on_progress=lambda done, total: note(f"{done} of {total} subnets measured"),
    )
    return {config: measurement.cpu_median_us for config, measurement in found.items() if measurement.ok}
