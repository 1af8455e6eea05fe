"""Whole subnets of a SuperNet, timed on devices, each once per context."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tailorbird.compile.base import CompileTarget, backend
from tailorbird.compile.capture import capture
from tailorbird.compile.tvm.target import runtime_library
from tailorbird.db import MeasurementKey, Store
from tailorbird.device import Device, Lease
from tailorbird.errors import DeviceError
from tailorbird.flow.workspace import Note, silent
from tailorbird.profile import profile_subnets
from tailorbird.profile.history import subnet_histories, subnet_subject
from tailorbird.supernet import SuperNet
from tailorbird.types import Candidate, Config, Context, Measurement, TimingProtocol

#: Runtimes that subnets are timed on, the one whose modules take milliseconds to write first.
RUNTIMES = ("litert", "tvm")
PROTOCOL = TimingProtocol("subnet-brief", min_runs=40, min_seconds=0.12, max_seconds=3.0)


def require_runtime(device: Device) -> None:
    """Check that the device can time single kernels. Raises DeviceError when it cannot."""
    if device.card.runtime_version("litert") is None:
        raise DeviceError(
            f"{device.name} cannot time litert modules",
            why=f"its runtimes are {', '.join(name for name, _ in device.card.runtimes) or 'none'}",
            fix="pip install 'tailorbird[agent-litert]' on the device and restart its agent, or search by way of a "
            "device that has it: --proxy NAME",
            reason="RUNTIME_MISSING",
        )


def runtime_of(device: Device) -> str:
    """The runtime that whole subnets are timed on: LiteRT, or TVM where that is all there is. Raises DeviceError."""
    for name in RUNTIMES:
        if device.card.runtime_version(name) is not None:
            return name
    raise DeviceError(
        f"{device.name} cannot time subnets",
        why=f"its runtimes are {', '.join(name for name, _ in device.card.runtimes) or 'none'}",
        fix="pip install 'tailorbird[agent-litert]' on the device and restart its agent",
        reason="RUNTIME_MISSING",
    )


@dataclass(frozen=True, slots=True, eq=False)
class SubnetTimer:
    """Times subnets of one SuperNet. identity: its name among stored measurements; threads: of the runtime."""

    store: Store
    net: SuperNet
    example: tuple[torch.Tensor, ...]
    identity: str
    threads: int = 1
    note: Note = silent

    def context(self, device: Device) -> Context:
        """The context in which a device times subnets now."""
        runtime = runtime_of(device)
        version = device.card.runtime_version(runtime) or ""
        return Context(device.name, runtime, version, self.threads, device.context)

    def known(self, device: Device) -> Mapping[Config, float]:
        """Median on-CPU microseconds of all subnets that were ever timed in the device's present context."""
        return self.contexts().get(self.context(device), {})

    def contexts(self) -> Mapping[Context, Mapping[Config, float]]:
        """The same of every context of every device."""
        return next((h.times for h in subnet_histories(self.store) if h.model == self.identity), {})

    def measure(
        self, device: Device, configs: Iterable[Config], *, lease: Lease | None = None, refresh: bool = False
    ) -> Mapping[Config, Measurement]:
        """Measurements, stored ones first unless `refresh`; a subnet that does not run there has its error.

        Raises DeviceError, LeaseError; DeviceUnreachableError when the device goes away: what it measured is kept.
        """
        return profile_subnets(
            device,
            self.identity,
            list(dict.fromkeys(configs)),
            self._builder(device),
            store=self.store,
            runtime=runtime_of(device),
            protocol=replace(PROTOCOL, threads=self.threads),
            runtime_library=_library(device),
            lease=lease,
            on_progress=lambda done, total: self.note(f"{done} of {total} subnets measured on {device.name}"),
            refresh=refresh,
        )

    def measure_again(
        self, device: Device, configs: Iterable[Config], *, lease: Lease | None = None
    ) -> Mapping[Config, Measurement]:
        """Measurements of now, which replace no stored ones: to compare with those. Raises DeviceError, LeaseError."""
        wanted = list(dict.fromkeys(configs))
        candidates = list(map(self._builder(device), wanted))
        protocol = replace(PROTOCOL, threads=self.threads)
        found = device.measure(candidates, protocol, runtime_library=_library(device), lease=lease)
        return dict(zip(wanted, found, strict=True))

    def times_us(
        self, device: Device, configs: Iterable[Config], *, lease: Lease | None = None, refresh: bool = False
    ) -> dict[Config, float]:
        """Median on-CPU microseconds; subnets that do not run there are left out. Raises as measure does."""
        found = self.measure(device, configs, lease=lease, refresh=refresh)
        return {config: measurement.cpu_median_us for config, measurement in found.items() if measurement.ok}

    def rescale(self, device: Device, configs: Iterable[Config], scale: float) -> None:
        """Store the times of the present context again, multiplied: the device has changed by that factor since."""
        context = self.context(device)
        keys = [self._key(context, config) for config in configs]
        stored = self.store.measurements.find_all(keys)
        note = ("rescaled_by", f"{scale:.6g}")
        self.store.measurements.add_all(
            (
                key,
                replace(
                    measurement,
                    wall_us=tuple(scale * us for us in measurement.wall_us),
                    cpu_us=tuple(scale * us for us in measurement.cpu_us),
                    environment=(*(pair for pair in measurement.environment if pair[0] != note[0]), note),
                ),
            )
            for key, measurement in stored.items()
        )

    def _key(self, context: Context, config: Config) -> MeasurementKey:
        return MeasurementKey(
            context.device,
            context.runtime,
            context.runtime_version,
            "subnet",
            subnet_subject(self.identity, config),
            PROTOCOL.mode,
            context.threads,
            context.system,
        )

    def _builder(self, device: Device) -> Callable[[Config], Candidate]:
        """Builds subnets as modules for a device."""
        made_by = backend(runtime_of(device))
        target = CompileTarget.from_card(device.card, threads=self.threads)

        def build(config: Config) -> Candidate:
            built = made_by.build(capture(self.net.extract(config), self.example), target)
            return Candidate(built.kind, built.module, built.inputs, config.key)

        return build


def _library(device: Device) -> Path | None:
    """What has to go along with modules for a device: its TVM runtime."""
    return runtime_library(device.card.triple) if runtime_of(device) == "tvm" else None
