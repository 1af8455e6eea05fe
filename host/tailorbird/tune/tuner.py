"""Tune a ladder's kernels on a device within a time budget.

While the device measures one batch, the host's workers compile the next. Every record goes to the sink as it arrives.
"""

from __future__ import annotations

import dataclasses
import json
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.api import tvm
from tailorbird.compile.tvm.pipeline import save
from tailorbird.compile.tvm.target import compiler, tvm_target
from tailorbird.errors import CompileError
from tailorbird.tune.builders import Builders
from tailorbird.tune.gather import describe_spaces, distinct_kernels, kernel_file
from tailorbird.tune.kernels import extract_kernels, workload_key
from tailorbird.tune.measuring import TUNING, Measure, Trial, target_name, timed
from tailorbird.tune.search import KernelState, Pick, Search
from tailorbird.tune.space import DEFAULT_SKETCH, VectorUnit
from tailorbird.tune.store import RecordSink
from tailorbird.types import TimingProtocol
from tailorbird.types.schedule import ScheduleRecord

_BATCH = 16


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
    run = uuid.uuid4().hex[:12]
    target = builders.target
    protocol = dataclasses.replace(protocol, threads=target.threads)
    kernels = _kernels(modules, builders)
    search = Search(kernels, _vector_unit(target), seed)
    best: dict[str, ScheduleRecord] = {}
    for record in sink.records():
        if record.target == target_name(target):
            search.learn(record)
            keep_best(best, record, search)
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
        trial_list = _trials(built, search, target)
        for record in timed(trial_list, measure, protocol, target, f"{run}/{trials}"):
            sink.add(record)
            search.learn(record)
            keep_best(best, record, search)
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
            (str(kernel_file(builders, key, kernel)), traces[key]) for key, kernel in kernels.items() if key in traces
        ]
        request = {"do": "finish", "module": str(path), "schedules": schedules, "output": str(output)}
        jobs.append((output, builders.submit(request)))
    return [_finished(output, future.result()) for output, future in jobs]


def begin(
    modules: Sequence[Any], builders: Builders, sink: RecordSink, seed: int
) -> tuple[Search, dict[str, ScheduleRecord]]:
    """A search over the kernels of prepared modules that knows the sink's records; the best record of each kernel."""
    search = Search(_kernels(modules, builders), _vector_unit(builders.target), seed)
    best: dict[str, ScheduleRecord] = {}
    for record in sink.records():
        if record.target == target_name(builders.target):
            search.learn(record)
            keep_best(best, record, search)
    return search, best


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
    found = distinct_kernels(modules, builders)
    spaces = describe_spaces([(kernel.name, kernel.path) for kernel in found], builders)
    pairs = zip(spaces, found, strict=True)
    return [KernelState(space, kernel.path, kernel.calls) for space, kernel in pairs if space is not None]


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


def _trials(built: Sequence[tuple[Pick, Path, dict[str, Any]]], search: Search, target: CompileTarget) -> list[Trial]:
    trials = []
    for pick, path, reply in built:
        space = search.kernels[pick.workload].space
        draft = ScheduleRecord(
            target=target_name(target),
            workload=pick.workload,
            kernel_class=space.kernel_class,
            extents=space.extents,
            sketch=pick.sketch,
            decisions_json=json.dumps(pick.decisions),
            trace_json="",
            cpu_us=None,
            compiler=compiler(),
            source="default" if pick.sketch == DEFAULT_SKETCH else "search",
        )
        trials.append(Trial(draft, space.name, path, reply))
    return trials


def keep_best(best: dict[str, ScheduleRecord], record: ScheduleRecord, search: Search) -> None:
    """Take in a record of one of the search's kernels where it is the fastest of its kernel."""
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
