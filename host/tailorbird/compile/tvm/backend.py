"""The TVM backend, without schedules: the fallback that is always there. tune/ gives `finish` a database."""

from __future__ import annotations

import importlib.metadata
import time

from tailorbird.compile.base import Built, CompileTarget
from tailorbird.compile.capture import Network
from tailorbird.compile.tvm.target import RUNTIME_DISTRIBUTION
from tailorbird.types import ModuleKind


class TvmBackend:
    """Compiles networks to shared libraries for the target's CPU."""

    @property
    def runtime(self) -> str:
        """Name of the runtime that loads these modules."""
        return "tvm"

    def build(self, network: Network, target: CompileTarget) -> Built:
        """Compile with TVM's default schedules (plain loops). Raises CompileError, EnvironmentFaultError."""
        from tailorbird.compile.tvm.pipeline import finish, import_network, prepare

        started = time.perf_counter()
        module = finish(prepare(import_network(network), target), target)
        return built(network, target, module, time.perf_counter() - started, ("default schedules",))


def built(network: Network, target: CompileTarget, module: bytes, seconds: float, notes: tuple[str, ...]) -> Built:
    """A compiled library with its signature."""
    return Built(
        runtime="tvm",
        runtime_version=importlib.metadata.version(RUNTIME_DISTRIBUTION),
        kind=ModuleKind.TVM_MODEL,
        module=module,
        inputs=network.inputs,
        outputs=network.outputs,
        target=target,
        seconds=seconds,
        notes=notes,
    )
