"""A corpus from the schedule store: every record whose kernel this TVM can load, replayed and described."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.api import tvm
from tailorbird.compile.tvm.target import compiler
from tailorbird.db import ScheduleTable
from tailorbird.tune.cost.collect import network_of
from tailorbird.tune.cost.corpus import Corpus, Task
from tailorbird.tune.cost.features import Floats, store_features
from tailorbird.tune.kernels import context_of, replay_trace
from tailorbird.types.schedule import DeviceClass, ScheduleRecord, Workload

_Program = tuple[str, int]


def harvest(
    store: ScheduleTable,
    accept: Callable[[DeviceClass], bool] = lambda _: True,
    *,
    least: int = 2,
    on_kernel: Callable[[int, int], None] = lambda _, __: None,
) -> Corpus:
    """All records of the accepted classes of boards, by kernel; 3 ms for each distinct schedule.

    Plain loops, records of another TVM release and those that this one cannot replay are left out; so are kernels with
    fewer than `least` schedules. A schedule that was timed twice counts with its last time; of a program's schedules
    each class has those that it measured. Nothing usable gives a corpus without tasks.
    """
    kernels = {each.key: each for each in store.workloads() if each.module_json and each.compiler == compiler()}
    found: dict[_Program, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    boards = {each.name: each for each in store.classes() if accept(each)}
    for each in boards.values():
        for record in store.of_class(each, "").records():
            if record.workload in kernels and record.compiler == compiler() and (trace := _trace(record)):
                time = record.cpu_us if record.cpu_us is not None and record.cpu_us > 0 else math.nan
                found[record.workload, each.threads][each.name][trace] = time
    tasks: list[Task] = []
    for number, ((key, _), times) in enumerate(found.items(), 1):
        target = _target(boards[next(iter(times))])
        traces = dict.fromkeys(trace for each in times.values() for trace in each)
        features = _described(kernels[key], traces, target)
        tasks += _tasks(kernels[key], {name: boards[name] for name in times}, times, features, least)
        on_kernel(number, len(found))
    return Corpus(tuple(tasks), compiler())


def _trace(record: ScheduleRecord) -> str:
    """The record's trace, "" when it has none that is a schedule. Failed candidates often have no trace."""
    try:
        return record.trace_json if record.trace_json and json.loads(record.trace_json)[0] else ""
    except (ValueError, IndexError, TypeError):
        return ""


def _target(boards: DeviceClass) -> CompileTarget:
    return CompileTarget(boards.triple, boards.llvm_cpu, boards.threads, boards.isa_features)


def _described(kernel: Workload, traces: Iterable[str], target: CompileTarget) -> dict[str, Floats]:
    """Features of those traces that the kernel takes and that store something."""
    mod: Any = tvm.ir.load_json(kernel.module_json)
    postprocs = context_of(mod, target).space_generator.postprocs
    schedules: dict[str, Any] = {}
    for trace in traces:
        try:
            schedules[trace] = replay_trace(mod, trace, postprocs)
        except Exception:  # noqa: S112  (TVM raises what it likes for a trace it does not take)
            continue
    described = zip(schedules, store_features(mod, list(schedules.values()), target), strict=True)
    return {trace: features for trace, features in described if len(features)}


def _tasks(
    kernel: Workload,
    boards: dict[str, DeviceClass],
    times: dict[str, dict[str, float]],
    features: dict[str, Floats],
    least: int,
) -> list[Task]:
    tasks = []
    for name, of in boards.items():
        chosen = [trace for trace in features if trace in times[name]]
        if len(chosen) >= least:
            taken = np.asarray([times[name][trace] for trace in chosen], np.float64)
            described = tuple(features[trace] for trace in chosen)
            tasks.append(Task(kernel.key, kernel.name, network_of(kernel.name), of, described, taken))
    return tasks
