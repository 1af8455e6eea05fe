"""The TVM runtime: apache-tvm-ffi and libtvm_runtime.so, never the compiler or the `tvm` package.

A Relax virtual machine is not safe for two threads at once (calls let go of the GIL), so each holds a lock.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tailorbird_agent.runtimes import memory, tensorfile
from tailorbird_agent.runtimes.base import Array, ModuleInvalidError, RuntimeMissingError

_CPU = 1
_POOLED_ALLOCATOR = 2


class TvmModule:
    """A Relax virtual machine. Parameters beside the module follow the inputs, in the order of their data."""

    def __init__(self, runtime: TvmRuntime, library: Any, parameters: Sequence[Array], threads: int) -> None:
        self._runtime = runtime
        self._library: Any = library
        self._machine: Any = library["vm_load_executable"]()
        self._machine["vm_initialization"](_CPU, 0, _POOLED_ALLOCATOR)
        self._main: Any = self._machine["main"]
        # The arrays keep the mapping alive, the tensors share their memory.
        self._parameters = [(array, runtime.tensor(array)) for array in parameters]
        self._threads = threads
        self._lock = threading.Lock()

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """One inference; inputs are used where they lie, so they must be aligned and writable."""
        arguments = [self._runtime.tensor(array) for array in inputs]
        with self._lock:
            self._runtime.use_threads(self._threads)
            result = self._main(*arguments, *(tensor for _, tensor in self._parameters))
        results = [result] if hasattr(result, "__dlpack__") else list(result)
        return [np.from_dlpack(tensor) for tensor in results]

    def close(self) -> None:
        """Drop the machine, unmap its library and give its memory back."""
        self._main = self._machine = self._library = None
        self._parameters.clear()
        memory.release()


class TvmRuntime:
    """Loads Relax executables and bare kernels from shared libraries."""

    def __init__(self, library: Path | None) -> None:
        if library is None or not library.exists():
            raise RuntimeMissingError(f"the TVM runtime library is absent: {library or 'none was given'}")
        # tvm_ffi imports torch where it can, which costs 180 MB and seconds.
        sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
        try:
            import tvm_ffi
        except ImportError as error:
            raise RuntimeMissingError(f"apache-tvm-ffi is not installed: {error}") from error
        try:
            ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise RuntimeMissingError(f"the TVM runtime library does not load: {error}") from error
        self.version = metadata.version("apache-tvm-ffi")
        # By function rather than load_module: blobs are named by their digest, without a suffix to go by; and
        # load_module would by default keep each module for ever.
        self._load_library = tvm_ffi.get_global_func("ffi.Module.load_from_file.so")
        self._set_threads = tvm_ffi.get_global_func("runtime.config_threadpool")
        # The library sized its pool by this when it was loaded.
        self._threads = int(os.environ.get("TVM_NUM_THREADS", "0"))
        self.tensor = tvm_ffi.from_dlpack

    def load(self, module: Path, parameters: Sequence[Path] = (), *, threads: int = 1) -> TvmModule:
        """Load a Relax executable.

        Raises:
            ModuleInvalidError: not a shared library for this machine, or no Relax executable in it.
        """
        arrays = [array for path in parameters for array in tensorfile.read(path).tensors.values()]
        try:
            return TvmModule(self, self._load_library(str(module), "so"), arrays, threads)
        except (RuntimeError, AttributeError, OSError) as error:
            raise ModuleInvalidError(f"TVM does not accept {module.name}: {_first_line(error)}") from error

    def load_kernel(self, module: Path, symbol: str = "main") -> Any:
        """A function of a library of bare kernels; it takes one tensor per argument, outputs included.

        Raises:
            ModuleInvalidError: not a shared library for this machine, or no such function in it.
        """
        try:
            return self._load_library(str(module), "so")[symbol]
        except (RuntimeError, AttributeError, OSError) as error:
            raise ModuleInvalidError(f"TVM does not accept {module.name}: {_first_line(error)}") from error

    def use_threads(self, threads: int) -> None:
        """Size the thread pool, which all modules share; free unless the number changes."""
        if threads != self._threads:
            self._set_threads(1, threads)
            self._threads = threads


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
