"""What every backend takes and returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tailorbird.errors import CompileError
from tailorbird.types import DeviceCard, ModuleKind, TensorSpec

if TYPE_CHECKING:  # capture imports torch, which worker processes do without
    from tailorbird.compile.capture import Network


@dataclass(frozen=True, slots=True)
class CompileTarget:
    """The CPU that will run the module: LLVM triple and -mcpu name (may be ""), the threads one inference may use.

    It is made from a device's card. There is no default: the host's own CPU says nothing about the device's.
    """

    triple: str
    llvm_cpu: str
    threads: int = 1
    isa_features: tuple[str, ...] = ()

    @classmethod
    def from_card(cls, card: DeviceCard, *, threads: int = 1) -> CompileTarget:
        """The target of a device. Raises CompileError when more threads are asked for than the device has cores."""
        if not 1 <= threads <= card.cores:
            raise CompileError(
                f"cannot compile for {threads} threads on {card.name}",
                why=f"the device has {card.cores} cores",
                fix=f"ask for 1 to {card.cores} threads",
            )
        return cls(card.triple, card.llvm_cpu, threads, card.isa_features)

    @property
    def machine(self) -> str:
        """First part of the triple: x86_64, aarch64, ..."""
        return self.triple.partition("-")[0]


@dataclass(frozen=True, slots=True)
class Built:
    """A compiled subnet. `runtime` loads `module`; runtime_version is the release it was built against."""

    runtime: str  # tvm | litert
    runtime_version: str
    kind: ModuleKind
    module: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    target: CompileTarget
    seconds: float
    parameters: tuple[bytes, ...] = ()  # blobs the module needs beside it; none when constants are embedded
    notes: tuple[str, ...] = ()


class Backend(Protocol):
    """Compiles captured networks for one runtime."""

    @property
    def runtime(self) -> str:
        """Name of the runtime that loads what this backend builds."""
        ...

    def build(self, network: Network, target: CompileTarget) -> Built:
        """Compile for the target. Raises CompileError when the network or the target is beyond this backend."""
        ...


def backend(runtime: str) -> Backend:
    """The backend for a runtime ("litert", "tvm"). Raises CompileError for any other name."""
    if runtime == "litert":
        from tailorbird.compile.litert.backend import LitertBackend

        return LitertBackend()
    if runtime == "tvm":
        from tailorbird.compile.tvm.backend import TvmBackend

        return TvmBackend()
    raise CompileError(f"there is no compiler for the runtime {runtime!r}", fix="use litert or tvm")
