"""A resident ladder, in the worker: load every rung, warm it, compare it with its golden outputs, run it.

Nothing goes live by halves: the first rung that fails ends the worker, and with it the deployment.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from tailorbird_agent.bench.stopwatch import Stopwatch, make_stopwatch
from tailorbird_agent.runtimes import Loaded, ModuleInvalidError, Runtime, RuntimeMissingError, open_runtime, tensorfile
from tailorbird_agent.runtimes.arrays import aligned_zeros
from tailorbird_agent.runtimes.base import Array
from tailorbird_agent.worker.failure import WorkerError
from tailorbird_agent.worker.golden import difference, golden_inputs, golden_tensor
from tailorbird_agent.worker.plan import DATATYPES, RungCheck, RungPlan, ServePlan

_WARM_UP_RUNS = 3


@dataclass(frozen=True, slots=True)
class ResidentRung:
    """A rung that answered its golden inputs correctly."""

    name: str
    module: Loaded
    stopwatch: Stopwatch

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> tuple[float, float]:
        """Run once, write the outputs; returns wall and on-CPU microseconds, writing included."""
        self.stopwatch.start()
        results = self.module.run(inputs)
        for output, result in zip(outputs, results, strict=True):
            np.copyto(output, result, casting="no")
        lap = self.stopwatch.stop()
        return lap.wall_us, lap.cpu_us

    def close(self) -> None:
        """Give its memory back."""
        self.module.close()


class RungLoader:
    """Loads the rungs of one plan, as often as they are needed."""

    def __init__(self, plan: ServePlan) -> None:
        """Open the runtimes. Raises WorkerError: RUNTIME_MISSING, MODULE_INVALID."""
        self._plan = plan
        with _in_words(plan.model):
            self._runtimes = _open_runtimes(plan)
            self._golden_inputs = golden_inputs(plan.golden_inputs, plan.inputs)

    def verify(self, rung: RungPlan) -> tuple[ResidentRung, RungCheck]:
        """Load a rung for the first time: warm it and compare it with all its golden outputs.

        Raises:
            WorkerError: MODULE_INVALID, GOLDEN_MISMATCH or OUT_OF_MEMORY.
        """
        with _in_words(self._plan.model):
            return _bring_up(rung, self._plan, self._runtimes[rung.runtime], self._golden_inputs)

    def load(self, rung: RungPlan) -> ResidentRung:
        """Load a rung that was verified before: one run warms it and is compared. Raises as verify."""
        first = dict([next(iter(self._golden_inputs.items()))])
        with _in_words(self._plan.model):
            return _bring_up(rung, self._plan, self._runtimes[rung.runtime], first, warm_up_runs=0)[0]

    def warm(self, rung: ResidentRung) -> None:
        """Run a loaded rung once. Raises as verify."""
        with _in_words(self._plan.model):
            rung.module.run(next(iter(self._golden_inputs.values())))


def load_ladder(plan: ServePlan) -> tuple[dict[str, ResidentRung], tuple[RungCheck, ...]]:
    """All rungs of a plan by name, smallest first, and how each came up. Raises WorkerError as RungLoader does."""
    loader = RungLoader(plan)
    pairs = [loader.verify(rung) for rung in plan.rungs]
    return {rung.name: rung for rung, _ in pairs}, tuple(check for _, check in pairs)


@contextmanager
def _in_words(model: str) -> Iterator[None]:
    """Runtimes and modules fail in ways of their own; here they become a WorkerError."""
    try:
        yield
    except RuntimeMissingError as error:
        raise WorkerError("RUNTIME_MISSING", str(error)) from error
    except ModuleInvalidError as error:
        raise WorkerError("MODULE_INVALID", str(error)) from error
    except MemoryError as error:
        raise WorkerError("OUT_OF_MEMORY", f"{model} does not fit in memory: {error}") from error
    except WorkerError:
        raise
    except Exception as error:
        raise WorkerError("MODULE_INVALID", f"{model} does not load: {error!r}") from error


def _open_runtimes(plan: ServePlan) -> dict[str, Runtime]:
    libraries = dict(plan.runtime_libraries)
    names = dict.fromkeys(rung.runtime for rung in plan.rungs)
    return {name: open_runtime(name, libraries.get(name)) for name in names}


def _bring_up(
    rung: RungPlan,
    plan: ServePlan,
    runtime: Runtime,
    golden_inputs: Mapping[int, list[Array]],
    warm_up_runs: int = _WARM_UP_RUNS,
) -> tuple[ResidentRung, RungCheck]:
    started_ns = time.perf_counter_ns()
    module = runtime.load(rung.module, rung.parameters, threads=rung.threads)
    load_us = (time.perf_counter_ns() - started_ns) / 1e3
    first_input = next(iter(golden_inputs.values()))
    outputs = [aligned_zeros(spec.shape, DATATYPES[spec.datatype][0]) for spec in plan.outputs]
    _check_signature(rung, plan, module, first_input)
    resident = ResidentRung(rung.name, module, make_stopwatch(rung.threads))
    times_us = [resident.run(first_input, outputs)[1] for _ in range(warm_up_runs)] or [0.0]
    worst = _compare(rung, plan, resident, golden_inputs, outputs)
    return resident, RungCheck(rung.name, load_us, times_us[0], times_us[-1], worst)


def _check_signature(rung: RungPlan, plan: ServePlan, module: Loaded, inputs: Sequence[Array]) -> None:
    """Run once, without trust: everything a module can get wrong about its signature shows here."""
    try:
        results = module.run(inputs)
    except MemoryError:
        raise
    except Exception as error:
        if "bad_alloc" in str(error):
            raise MemoryError(f"rung {rung.name} could not allocate its working memory") from error
        raise ModuleInvalidError(f"rung {rung.name} does not run on its golden input: {error}") from error
    found = [(str(result.dtype), result.shape) for result in results]
    expected = [(str(np.dtype(DATATYPES[spec.datatype][0])), spec.shape) for spec in plan.outputs]
    if found != expected:
        raise ModuleInvalidError(f"rung {rung.name} gives {found}, its plan says {expected}")


def _compare(
    rung: RungPlan,
    plan: ServePlan,
    resident: ResidentRung,
    golden_inputs: Mapping[int, list[Array]],
    outputs: Sequence[Array],
) -> float:
    """Largest absolute difference from the golden outputs over all golden inputs."""
    tensors = tensorfile.read(rung.golden).tensors
    worst = 0.0
    for k, inputs in golden_inputs.items():
        resident.run(inputs, outputs)
        for spec, output in zip(plan.outputs, outputs, strict=True):
            off = difference(output, golden_tensor(tensors, f"output.{k}", spec, rung.golden))
            if not off <= rung.tolerance:  # so that NaN, too, is a mismatch
                where = f"rung {rung.name}, golden input {k}, output {spec.name}"
                figures = f"max abs diff {off:.3g} > tolerance {rung.tolerance:.3g}"
                raise WorkerError("GOLDEN_MISMATCH", f"{where}: {figures}")
            worst = max(worst, off)
    return worst
