"""Measure drawn schedules of many kernels for several targets, to pretrain a cost model on; killed and run again, it
goes on where its records end.

Every target is asked about the same schedules: what differs between their times is then the device's doing. Kernels
come in rounds, so that a collection that was cut short still holds all networks and all targets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailorbird.compile.base import CompileTarget
from tailorbird.db import ScheduleTable
from tailorbird.device import DevicePool
from tailorbird.tune.builders import Builders
from tailorbird.tune.cost.draw import draw
from tailorbird.tune.database import with_module
from tailorbird.tune.gather import kernel_file
from tailorbird.tune.kernels import Kernel
from tailorbird.tune.measuring import TUNING
from tailorbird.tune.recording import recorded
from tailorbird.tune.space import Decisions, KernelSpace
from tailorbird.tune.trials import Plan, Trials
from tailorbird.types import TimingProtocol
from tailorbird.types.schedule import DeviceClass, ScheduleRecord


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A kernel to measure. network: where it is from; records of a network can be held out together."""

    network: str
    name: str
    mod: Any

    @property
    def title(self) -> str:
        """Name in the store, from which `network_of` reads the network."""
        return f"{self.network}/{self.name}"


def network_of(title: str) -> str:
    """The network in a stored kernel's name, "" where there is none."""
    network, slash, _ = title.partition("/")
    return network if slash else ""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a target's schedules are measured: the class of boards it stands for, and a pool of such boards."""

    builders: Builders
    boards: DeviceClass
    pool: DevicePool
    runtime_library: Path


@dataclass(frozen=True, slots=True)
class Step:
    """Progress: a record just stored, of how many that this run will make."""

    record: ScheduleRecord
    done: int
    wanted: int


def collect(
    subjects: Sequence[Subject],
    benches: Sequence[Bench],
    store: ScheduleTable,
    *,
    count: int = 64,
    round_size: int = 6,
    seed: int = 0,
    board: str = "local",
    protocol: TimingProtocol = TUNING,
    on_step: Callable[[Step], None] = lambda _: None,
) -> int:
    """Measure `count` schedules of each subject on each bench; how many records were added. Each is in the store before
    the next is read. Schedules are drawn for one thread, and for several the same decisions are taken.

    Raises DeviceError when no device of a bench is left, EnvironmentFaultError when a disk is full.
    """
    wanted = len(subjects) * len(benches) * count
    added = 0
    for start in range(0, len(subjects), round_size):
        drawn = [_drawn(subject, benches[0].builders.target, count, seed) for subject in subjects[start:][:round_size]]
        store.put_workloads([with_module(each.kernel.mod, each.subject.title) for each in drawn])
        for bench in benches:
            for record in _measured(drawn, bench, store, board, protocol):
                added += 1
                on_step(Step(record, added, wanted))
    return added


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    subject: Subject
    kernel: Kernel
    space: KernelSpace
    schedules: list[tuple[int, Decisions]]


def _drawn(subject: Subject, target: CompileTarget, count: int, seed: int) -> _Drawn:
    single = CompileTarget(target.triple, target.llvm_cpu, 1, target.isa_features)
    kernel = Kernel(subject.mod, single)
    return _Drawn(subject, kernel, kernel.space(subject.name), draw(kernel, subject.name, count, seed))


def _measured(
    drawn: Sequence[_Drawn], bench: Bench, store: ScheduleTable, board: str, protocol: TimingProtocol
) -> Iterator[ScheduleRecord]:
    schedules = store.of_class(bench.boards, board)
    known = {(record.workload, record.sketch, record.decisions_json) for record in schedules.records()}
    waiting = list(_plans(drawn, bench, known))
    spaces = {each.space.workload: each.space for each in drawn}

    def propose(most: int) -> list[Plan]:
        batch, waiting[:] = waiting[:most], waiting[most:]
        return batch

    with Trials(bench.builders, bench.pool, protocol=protocol, runtime_library=bench.runtime_library) as trials:
        for outcome in trials.stream(propose):
            space = spaces[outcome.plan.workload]
            record = recorded(outcome, bench.builders.target, space.kernel_class, space.extents)
            schedules.add(record)
            yield record


def _plans(drawn: Sequence[_Drawn], bench: Bench, known: set[tuple[str, int, str]]) -> Iterator[Plan]:
    for each in drawn:
        key = each.space.workload
        path = kernel_file(bench.builders, key, each.kernel.mod)
        for sketch, decisions in each.schedules:
            if (key, sketch, json.dumps(decisions)) not in known:
                yield Plan(key, each.subject.name, path, sketch, decisions, source="search")
