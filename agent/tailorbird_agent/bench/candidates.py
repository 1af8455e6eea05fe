"""Candidates: modules that somebody built and wants timed here. Loaded one at a time, in the measuring worker."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailorbird_agent.runtimes import ModuleInvalidError, Runtime, RuntimeMissingError, memory, open_runtime
from tailorbird_agent.runtimes.arrays import aligned_zeros
from tailorbird_agent.runtimes.base import Array
from tailorbird_agent.runtimes.tvm import TvmRuntime
from tailorbird_agent.worker.plan import DATATYPES, CandidatePlan, TensorSpec

#: The value of uniform arguments: products and sums with it are exact in float32, as far as anything is.
_UNIFORM = 0.5
_RUNTIME_OF = {"tvm-kernel": "tvm", "tvm-model": "tvm", "litert-model": "litert"}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A loaded candidate: the call to time, the runtime's name and version, the arguments it works on, and of a model
    how it answers others."""

    call: Callable[[], object]
    runtime: str
    arrays: Sequence[Array]
    answer: Callable[[Sequence[Array]], Sequence[Array]] | None = None


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
    def prepared(self, candidate: CandidatePlan, threads: int) -> Iterator[Prepared]:
        """A candidate ready to run; what it loaded is unloaded at the end.

        Raises:
            RuntimeMissingError, ModuleInvalidError, MemoryError
        """
        name = _RUNTIME_OF[candidate.kind]
        if name not in self._runtimes:
            self._runtimes[name] = open_runtime(name, self._libraries.get(name))
        runtime = self._runtimes[name]
        arrays = [example(spec) for spec in candidate.args]
        for index in candidate.uniform_args:
            arrays[index][...] = _UNIFORM if arrays[index].dtype.kind == "f" else 1
        if candidate.kind == "tvm-kernel":
            if not isinstance(runtime, TvmRuntime):
                raise ModuleInvalidError(f"{name} runs no bare kernels")
            runtime.use_threads(threads)
            with _kernel(runtime, candidate, arrays) as call:
                yield Prepared(call, f"{name} {runtime.version}", arrays)
            return
        module = runtime.load(candidate.module, threads=threads)
        try:
            yield Prepared(functools.partial(module.run, arrays), f"{name} {runtime.version}", arrays, module.run)
        finally:
            module.close()


@contextlib.contextmanager
def _kernel(runtime: TvmRuntime, candidate: CandidatePlan, arrays: list[Array]) -> Iterator[Callable[[], object]]:
    function: Any = runtime.load_kernel(candidate.module, candidate.symbol)
    try:
        yield functools.partial(function, *map(runtime.tensor, arrays))
    finally:
        del function
        memory.release()


def example(spec: TensorSpec) -> Array:
    """Data to time with: seeded normal floats (zeros could be faster, denormals slower), zeros for indices."""
    array = aligned_zeros(spec.shape, DATATYPES[spec.datatype][0])
    if array.dtype.kind == "f":
        array[...] = np.random.default_rng(0).standard_normal(spec.shape, np.float32)
    elif array.dtype.itemsize == 1 and array.dtype.kind in "iu":
        array[...] = np.random.default_rng(0).integers(0, 127, spec.shape)
    return array
