"""Tune a ladder's kernels on a device within a time budget.

While the device measures one batch, the host's workers compile the next. Every record goes to the sink as it arrives.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.api import tvm
from tailorbird.compile.tvm.pipeline import save
from tailorbird.compile.tvm.target import tvm_target
from tailorbird.errors import CompileError
from tailorbird.tune.builders import Builders
from tailorbird.tune.kernels import extract_kernels, workload_key
from tailorbird.tune.search import KernelState, Pick, Search
from tailorbird.tune.space import Choice, KernelSpace, VectorUnit
from tailorbird.tune.store import RecordSink
from tailorbird.types import Candidate, Measurement, ModuleKind, TensorSpec, TimingProtocol
from tailorbird.types.schedule import ScheduleRecord

Measure = Callable[[Sequence[Candidate], TimingProtocol], Sequence[Measurement]]

#: Short on purpose: ranking schedules needs 2 %, and more candidates beat more repeats.
TUNING = TimingProtocol("kernel", min_runs=10, min_seconds=0.015, max_seconds=0.5)

_BATCH = 16
_DATATYPES = {"float32": "FP32", "float16": "FP16", "int64": "INT64", "int32": "INT32", "int8": "INT8", "bool": "BOOL"}


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a tuning under way. total_us: one pass over all rungs, by the best kernel times known so far."""

    seconds: float
    budget_s: float
    trials: int
    failures: int
    kernels: int
    tuned: int
    total_us: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """Outcome: the best record of each kernel that has one, and what it took.

    kernels: distinct kernels in the ladder; exact_hits: those that had a record before; trials: candidates measured
    or failed in this run.
    """

    best: tuple[ScheduleRecord, ...]
    kernels: int
    exact_hits: int
    trials: int
    failures: int
    seconds: float


def target_name(target: CompileTarget) -> str:
    """How records name a target."""
    return f"{target.triple} {target.llvm_cpu or 'generic'} threads={target.threads}"


def tune(
    modules: Sequence[Any],
    measure: Measure,
    budget_s: float,
    sink: RecordSink,
    builders: Builders,
    *,
    seed: int = 0,
    protocol: TimingProtocol = TUNING,
    batch: int = _BATCH,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Tuning:
    """Search schedules for all kernels of prepared modules (compile.tvm.pipeline.prepare), one module per rung.

    measure: times candidates on the device; a failed candidate comes back as a Measurement with `error`.
    budget_s: wall seconds; the batch under way when it ends is still finished, so a larger batch overshoots more. With
    a budget of 0 only exact hits are used.
    Whatever `measure` raises passes through; records made before are in the sink.
    """
    started = time.perf_counter()
    target = builders.target
    protocol = dataclasses.replace(protocol, threads=target.threads)
    kernels = _kernels(modules, builders)
    search = Search(kernels, _vector_unit(target), seed)
    best: dict[str, ScheduleRecord] = {}
    for record in sink.records():
        if record.target == target_name(target):
            search.learn(record)
            _keep_best(best, record, search)
    exact_hits = len(best)
    trials = failures = 0
    elapsed = candidate_s = 0.0
    pending = _submit(search.propose(batch), search, builders) if budget_s > 0 else []
    while pending:
        batch_started = time.perf_counter()
        built = [(pick, path, future.result()) for pick, path, future in pending]
        room = budget_s - (time.perf_counter() - started)
        affordable = min(batch, int(room / candidate_s)) if candidate_s else batch
        pending = _submit(search.propose(affordable), search, builders) if room > 0 else []
        for record in _measure(built, search, measure, protocol, target):
            sink.add(record)
            search.learn(record)
            _keep_best(best, record, search)
            trials += 1
            failures += record.cpu_us is None
        elapsed = time.perf_counter() - started
        candidate_s = (time.perf_counter() - batch_started) / len(built)
        total = sum(kernel.weight * (kernel.best_us or 0.0) for kernel in kernels)
        on_progress(Progress(elapsed, budget_s, trials, failures, len(kernels), len(best), total))
    return Tuning(tuple(best.values()), len(kernels), exact_hits, trials, failures, time.perf_counter() - started)


def build_rungs(modules: Sequence[Any], tuning: Tuning, builders: Builders) -> list[tuple[bytes, float]]:
    """Compile each prepared module with the best schedules; (library, seconds spent on it) per rung.

    Kernels without a record, all of them where nothing was tuned, keep TVM's plain loops.
    Raises CompileError when a rung does not build.
    """
    traces = {record.workload: record.trace_json for record in tuning.best}
    jobs: list[tuple[Path, Future[dict[str, Any]]]] = []
    for mod in modules:
        path, output = builders.new_file(".json"), builders.new_file(".so")
        save(mod, path)
        kernels = {workload_key(kernel): kernel for _, kernel, _ in extract_kernels(mod, builders.target)}
        schedules = [
            (str(_kernel_file(builders, key, kernel)), traces[key]) for key, kernel in kernels.items() if key in traces
        ]
        request = {"do": "finish", "module": str(path), "schedules": schedules, "output": str(output)}
        jobs.append((output, builders.submit(request)))
    return [_finished(output, future.result()) for output, future in jobs]


def _finished(output: Path, reply: dict[str, Any]) -> tuple[bytes, float]:
    if "error" in reply:
        raise CompileError(
            "a rung does not compile with its tuned schedules",
            why=reply["error"],
            fix="compile it without tuning, or for the litert runtime",
        )
    return output.read_bytes(), float(reply["seconds"])


def _kernels(modules: Sequence[Any], builders: Builders) -> list[KernelState]:
    """Distinct kernels of all modules, described by the workers in parallel."""
    found: dict[str, tuple[str, Path, int]] = {}
    for mod in modules:
        for name, kernel, calls in extract_kernels(mod, builders.target):
            key = workload_key(kernel)
            known = found[key][2] if key in found else 0
            found[key] = (name, _kernel_file(builders, key, kernel), known + calls)
    requests = [({"do": "describe", "kernel": str(path), "name": name}, path, n) for name, path, n in found.values()]
    futures = [(builders.submit(request), request["name"], path, n) for request, path, n in requests]
    states = []
    for future, name, path, weight in futures:
        reply = future.result()
        if "error" not in reply:  # a kernel MetaSchedule cannot describe keeps its default schedule
            sketches = tuple(tuple(Choice(*choice) for choice in sketch) for sketch in reply["sketches"])
            space = KernelSpace(name, reply["workload"], reply["kernel_class"], reply["flops"], sketches)
            states.append(KernelState(space, path, weight))
    return states


def _kernel_file(builders: Builders, key: str, kernel: Any) -> Path:
    path = builders.folder / f"kernel-{key}.json"
    if not path.exists():
        save(kernel, path)
    return path


def _submit(
    picks: Sequence[Pick], search: Search, builders: Builders
) -> list[tuple[Pick, Path, Future[dict[str, Any]]]]:
    batch = []
    for pick in picks:
        output = builders.new_file(".so")
        request = {
            "do": "build",
            "kernel": str(search.kernels[pick.workload].path),
            "sketch": pick.sketch,
            "decisions": pick.decisions,
            "output": str(output),
        }
        batch.append((pick, output, builders.submit(request)))
    return batch


def _measure(
    built: Sequence[tuple[Pick, Path, dict[str, Any]]],
    search: Search,
    measure: Measure,
    protocol: TimingProtocol,
    target: CompileTarget,
) -> list[ScheduleRecord]:
    """Measure a built batch; one record per candidate, failures included."""
    compiler = f"apache-tvm {importlib.metadata.version('apache-tvm')}"
    candidates = []
    for pick, path, reply in built:
        if "error" not in reply:
            args = tuple(
                TensorSpec(f"arg{index}", _DATATYPES[dtype], tuple(shape))
                for index, (dtype, shape) in enumerate(reply["arguments"])
            )
            name = search.kernels[pick.workload].space.name
            candidates.append(Candidate(ModuleKind.TVM_KERNEL, path.read_bytes(), args, name))
            path.unlink()
    results = iter(measure(candidates, protocol) if candidates else ())
    records = []
    for pick, _, reply in built:
        space = search.kernels[pick.workload].space
        outcome = Measurement(space.name, error=reply["error"]) if "error" in reply else next(results)
        records.append(
            ScheduleRecord(
                target=target_name(target),
                workload=pick.workload,
                kernel_class=space.kernel_class,
                extents=space.extents,
                sketch=pick.sketch,
                decisions_json=json.dumps(reply.get("decisions", pick.decisions)),
                trace_json=reply.get("trace", ""),
                cpu_us=_duration_us(outcome, target) if outcome.ok else None,
                verdict=outcome.verdict.value,
                error=outcome.error,
                compiler=compiler,
            )
        )
    return records


def _duration_us(outcome: Measurement, target: CompileTarget) -> float:
    """CPU time, which other load leaves alone; on several threads only the wall shows what parallel loops gain."""
    return outcome.cpu_median_us if target.threads == 1 else outcome.wall_median_us


def _keep_best(best: dict[str, ScheduleRecord], record: ScheduleRecord, search: Search) -> None:
    if record.cpu_us is None or record.workload not in search.kernels:
        return
    known = best.get(record.workload)
    if known is None or known.cpu_us is None or record.cpu_us < known.cpu_us:
        best[record.workload] = record


def _vector_unit(target: CompileTarget) -> VectorUnit:
    """float32 lanes from LLVM; AVX-512 and aarch64 have 32 vector registers, older x86 16."""
    width_bits = int(tvm.target.codegen.llvm_get_vector_width(tvm_target(target)))
    lanes = max(4, min(width_bits, 512) // 32)
    return VectorUnit(lanes, 32 if lanes == 16 or target.machine == "aarch64" else 16)
