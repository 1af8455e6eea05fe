"""What every runtime offers: load a module, run it, let go of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A dense row-major array of any datatype the agent knows. By name: the daemon imports this module, but not numpy.
Array: TypeAlias = "NDArray[Any]"


class RuntimeMissingError(Exception):
    """The runtime, or a library it needs, is not on this device."""


class ModuleInvalidError(Exception):
    """The runtime does not accept the module, or the module does not have the signature it should."""


class Loaded(Protocol):
    """A module ready to run. Not for two threads at once unless the runtime says so."""

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """One inference, inputs and outputs in the module's order. Outputs are valid until the next run."""
        ...

    def close(self) -> None:
        """Give the memory back; the module must not be used afterwards."""
        ...


class Runtime(Protocol):
    """Loads modules of one kind."""

    @property
    def version(self) -> str:
        """Version of what is installed."""
        ...

    def load(self, module: Path, parameters: Sequence[Path] = (), *, threads: int = 1) -> Loaded:
        """Load a module, and parameter files beside it, for so many threads.

        Raises:
            ModuleInvalidError: the file is not a module of this runtime, or its parameters do not fit.
            MemoryError: it does not fit in memory.
        """
        ...
