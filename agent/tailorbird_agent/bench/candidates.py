"""Candidates: modules that somebody built and wants timed here. Loaded one at a time, in the measuring worker."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tailorbird_agent.runtimes import ModuleInvalidError, Runtime, RuntimeMissingError, memory, open_runtime
from tailorbird_agent.runtimes.arrays import aligned_zeros
from tailorbird_agent.runtimes.base import Array
from tailorbird_agent.runtimes.tvm import TvmRuntime
from tailorbird_agent.worker.plan import DATATYPES, CandidatePlan, TensorSpec

_RUNTIME_OF = {"tvm-kernel": "tvm", "tvm-model": "tvm", "litert-model": "litert"}


class Bench:
    """Runtimes: those whose libraries came along are opened at once, the others when the first candidate needs them.

    On a slow board opening one takes seconds, which are not the first candidate's.
    """

    def __init__(self, libraries: dict[str, Path]) -> None:
        self._libraries = libraries
        self._runtimes: dict[str, Runtime] = {}
        for name, library in libraries.items():
            with contextlib.suppress(RuntimeMissingError):  # the candidates that need it will say so
                self._runtimes[name] = open_runtime(name, library)

    @contextlib.contextmanager
    def prepared(self, candidate: CandidatePlan, threads: int) -> Iterator[tuple[Callable[[], object], str]]:
        """The call to time, and the runtime's name and version; what it loaded is unloaded at the end.

        Raises:
            RuntimeMissingError, ModuleInvalidError, MemoryError
        """
        name = _RUNTIME_OF[candidate.kind]
        if name not in self._runtimes:
            self._runtimes[name] = open_runtime(name, self._libraries.get(name))
        runtime = self._runtimes[name]
        arrays = [example(spec) for spec in candidate.args]
        if candidate.kind == "tvm-kernel":
            if not isinstance(runtime, TvmRuntime):
                raise ModuleInvalidError(f"{name} runs no bare kernels")
            runtime.use_threads(threads)
            with _kernel(runtime, candidate.module, arrays) as call:
                yield call, f"{name} {runtime.version}"
            return
        module = runtime.load(candidate.module, threads=threads)
        try:
            yield functools.partial(module.run, arrays), f"{name} {runtime.version}"
        finally:
            module.close()


@contextlib.contextmanager
def _kernel(runtime: TvmRuntime, path: Path, arrays: list[Array]) -> Iterator[Callable[[], object]]:
    main: Any = runtime.load_kernel(path)
    try:
        yield functools.partial(main, *map(runtime.tensor, arrays))
    finally:
        del main
        memory.release()


def example(spec: TensorSpec) -> Array:
    """Data to time with: seeded normal floats (zeros could be faster, denormals slower), zeros for indices."""
    array = aligned_zeros(spec.shape, DATATYPES[spec.datatype][0])
    if array.dtype.kind == "f":
        array[...] = np.random.default_rng(0).standard_normal(spec.shape, np.float32)
    elif array.dtype.itemsize == 1 and array.dtype.kind in "iu":
        array[...] = np.random.default_rng(0).integers(0, 127, spec.shape)
    return array
