"""Captured networks in, tuned TVM modules out: import, prepare, tune, compile every rung."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailorbird.compile.base import Built
from tailorbird.compile.capture import Network
from tailorbird.compile.tvm.backend import built
from tailorbird.errors import CompileError
from tailorbird.tune.builders import Builders
from tailorbird.tune.store import RecordSink
from tailorbird.tune.tuner import Measure, Progress, Tuning, kernel_file, tune


@dataclass(frozen=True, slots=True)
class TunedLadder:
    """One module per network, in their order, and what tuning took. Times of the parts are wall seconds."""

    rungs: tuple[Built, ...]
    tuning: Tuning
    prepare_s: float
    build_s: float


def tune_ladder(
    networks: Sequence[Network],
    measure: Measure,
    budget_s: float,
    sink: RecordSink,
    builders: Builders,
    *,
    seed: int = 0,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> TunedLadder:
    """Tune the kernels of all networks together for builders.target, then compile each network with the best schedules.

    Kernels without a record, all of them when budget_s is 0 and the sink is empty, keep TVM's plain loops.
    Raises: CompileError; whatever `measure` raises.
    """
    from tailorbird.compile.tvm.pipeline import import_network, prepare

    started = time.perf_counter()
    modules = [prepare(import_network(network), builders.target) for network in networks]
    prepare_s = time.perf_counter() - started
    tuning = tune(modules, measure, budget_s, sink, builders, seed=seed, on_progress=on_progress)
    started = time.perf_counter()
    libraries = build_rungs(modules, tuning, builders)
    build_s = time.perf_counter() - started
    rungs = tuple(
        built(network, builders.target, module, seconds, (note,))
        for network, (module, seconds, note) in zip(networks, libraries, strict=True)
    )
    return TunedLadder(rungs, tuning, prepare_s, build_s)


def build_rungs(modules: Sequence[Any], tuning: Tuning, builders: Builders) -> list[tuple[bytes, float, str]]:
    """Compile prepared modules in parallel; (library, seconds, note) of each. Raises CompileError."""
    from tailorbird.compile.tvm.pipeline import save
    from tailorbird.tune.kernels import extract_kernels, workload_key

    traces = {record.workload: record.trace_json for record in tuning.best}
    jobs: list[tuple[Path, int, Future[dict[str, Any]]]] = []
    for index, mod in enumerate(modules):
        path, output = builders.folder / f"rung{index}.json", builders.folder / f"rung{index}.so"
        save(mod, path)
        kernels = {workload_key(kernel): kernel for _, kernel, _ in extract_kernels(mod, builders.target)}
        schedules = [
            (str(kernel_file(builders, key, kernel)), traces[key]) for key, kernel in kernels.items() if key in traces
        ]
        request = {"do": "finish", "module": str(path), "schedules": schedules, "output": str(output)}
        jobs.append((output, len(kernels), builders.submit(request)))
    return [_finished(output, kernels, future) for output, kernels, future in jobs]


def _finished(output: Path, kernels: int, future: Future[dict[str, Any]]) -> tuple[bytes, float, str]:
    reply = future.result()
    if "error" in reply:
        raise CompileError(
            "a rung does not compile with its tuned schedules",
            why=reply["error"],
            fix="compile it without tuning, or for the litert runtime",
        )
    return output.read_bytes(), reply["seconds"], f"{reply['applied']} of {kernels} kernels tuned"
