"""The LiteRT backend."""

from __future__ import annotations

import importlib.metadata
import time

from tailorbird.compile.base import Built, CompileTarget
from tailorbird.compile.capture import Network
from tailorbird.compile.litert import emitters  # noqa: F401  (fills the table of emitters)
from tailorbird.compile.litert.lowering import lower
from tailorbird.types import ModuleKind


class LitertBackend:
    """Writes .tflite files. They run on any CPU that LiteRT runs on: the target only travels along."""

    @property
    def runtime(self) -> str:
        """Name of the runtime that loads these modules."""
        return "litert"

    def build(self, network: Network, target: CompileTarget) -> Built:
        """Write the network as .tflite. Raises CompileError naming the first operation that cannot be written."""
        started = time.perf_counter()
        module = lower(network)
        return Built(
            runtime=self.runtime,
            runtime_version=importlib.metadata.version("ai-edge-litert"),
            kind=ModuleKind.LITERT_MODEL,
            module=module,
            inputs=network.inputs,
            outputs=network.outputs,
            target=target,
            seconds=time.perf_counter() - started,
        )
