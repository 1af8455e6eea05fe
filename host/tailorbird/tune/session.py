"""Tuning on a pool of devices: the tuner proposes, the devices answer, each answer is kept before the next is read."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.api import tvm
from tailorbird.compile.tvm.fit import require_fit
from tailorbird.compile.tvm.target import tvm_target
from tailorbird.db import Donor, ScheduleTable
from tailorbird.device import DevicePool, Devices
from tailorbird.tune.builders import Builders
from tailorbird.tune.database import database_of
from tailorbird.tune.gather import distinct_kernels
from tailorbird.tune.measuring import TUNING, target_name
from tailorbird.tune.opening import Opening
from tailorbird.tune.pursuit import CostModel, Evolution, Pursuit
from tailorbird.tune.reuse import Lending
from tailorbird.tune.space import VectorUnit
from tailorbird.tune.task import Placed, Task, tasks_of
from tailorbird.tune.trials import Plan, Trials
from tailorbird.tune.tuner import OPENING_TRIALS, Tuner, Tuning
from tailorbird.types import TimingProtocol
from tailorbird.types.schedule import DeviceClass

if TYPE_CHECKING:  # it imports torch
    from tailorbird.tune.cost.learned import LearnedCosts

#: Trials of one round of evolution and descent, after which the next round begins at the new best.
_ROUND = 48
#: A run with less time per kernel spends it on schedules, and times plain loops only of light kernels, where they may
#: well win. Answers are compared when whole modules are built.
_UNHURRIED_S, _LIGHT_FLOPS = 0.5, 3e5
#: Wall time of a candidate before any has been timed.
_ASSUMED_S = 0.2
#: Trials of a run whose time is over before it has begun, so that it comes to something.
_FIRST = 8


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a tuning under way. total_us: one pass over all modules, by the best kernel times known so far;
    trials_left, seconds_left: what the limits leave, None without one."""

    seconds: float
    trials: int
    failures: int
    kernels: tuple[Placed, ...]
    total_us: float
    trials_left: int | None
    seconds_left: float | None

    @property
    def scheduled(self) -> int:
        """Kernels that have a time."""
        return sum(kernel.us is not None for kernel in self.kernels)

    @property
    def eta_s(self) -> float | None:
        """Seconds until a limit ends the tuning, None before it is known. It may end earlier, with nothing to gain."""
        ends = [] if self.seconds_left is None else [self.seconds_left]
        if self.trials_left is not None and self.trials:
            ends.append(self.trials_left * self.seconds / self.trials)
        return min(ends, default=None)


def pool_for(devices: Devices, text: str, target: CompileTarget, **options: Any) -> DevicePool:
    """A pool of the devices that `text` names ("rpi4-1", "a,b", "class:rpi4"), but for those that the code for a target
    would crash on; they are refused before anything is sent. options: of DevicePool.

    Raises UsageError for an unknown class, DeviceError for an unknown name.
    """
    return devices.pool(text, admit=lambda device: require_fit(target, device.card), **options)


def tune(
    pool: DevicePool,
    modules: Sequence[Any],
    store: ScheduleTable,
    boards: DeviceClass,
    builders: Builders,
    *,
    runtime_library: Path | None,
    budget_s: float,
    most_trials: int | None = None,
    search: bool = True,
    measurements: int = 5,
    accept: Callable[[Donor], bool] = lambda _: True,
    least_gain: float = 0.002,
    opening_trials: int = OPENING_TRIALS,
    cost_model: CostModel | None = None,
    evolution: Evolution | None = None,
    cost: LearnedCosts | None = None,
    seed: int = 0,
    protocol: TimingProtocol = TUNING,
    batch: int = 16,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Tuning:
    """Find schedules for all kernels of prepared modules (compile.tvm.pipeline.prepare): reuse, then search.

    budget_s: wall seconds in which trials are begun, with 0 only what the store holds of these very kernels is used;
    most_trials: candidates in all, the plain loops of kernels not counted; search: whether to go on after reuse, which
    takes at most `measurements` per kernel; accept: which donors may be used; least_gain: share of one pass over all
    kernels that the best next batch must promise per minute; opening_trials: draws on a kernel before it evolves;
    cost_model, evolution: make MetaSchedule's objects; cost: a learned model of these boards, which orders what is
    tried and says when a kernel is done.
    What the store holds is not tried again, so a run that was killed goes on where its records end.

    Raises TuningError when candidates were tried and none could be timed; DeviceError when no device is left;
    EnvironmentFaultError when a disk is full. Every trial is in the store before the next is read.
    """
    started = time.perf_counter()
    known = store.of_class(boards, "")
    target = builders.target
    tasks = tasks_of(distinct_kernels(modules, builders), store, known, builders)
    lending = Lending(store, known, builders, measurements=measurements, accept=accept, seed=seed)
    opening = Opening([task.space for task in tasks if task.space is not None], _vector_unit(target), seed)
    for record in known.records():
        opening.learn(record)
    database: list[Any] = []  # opened when the first pursuit needs it

    def pursue(task: Task) -> Pursuit:
        if not database:
            database.append(database_of(store, boards, pool.names[0], target))
        learned = None if cost is None else cost.kernel(task.key)
        options: dict[str, Any] = {"cost_model": cost_model, "evolution": evolution, "cost": learned}
        return Pursuit(task, known, database[0], target, trials=_ROUND, batch=8, **options)

    if budget_s > 0:
        for task in tasks:
            lending.begin(task)
    tuner = Tuner(
        tasks,
        target,
        lending,
        opening,
        pursue=pursue if search else None,
        most_trials=most_trials,
        least_gain=least_gain,
        opening_trials=opening_trials,
    )
    clock = _Clock(started, budget_s)

    choosing_s = 0.0

    def propose(count: int) -> list[Plan] | None:
        nonlocal choosing_s
        affordable = clock.affordable(count, tuner.under_way)
        if not affordable:
            return None if tuner.under_way else []
        begun = time.perf_counter()
        plans = tuner.propose(affordable)
        choosing_s += time.perf_counter() - begun
        return plans

    hurried = budget_s < _UNHURRIED_S * len(tasks)
    light = {task.key for task in tasks if task.workload.flops < _LIGHT_FLOPS}
    options: dict[str, Any] = {"protocol": protocol, "runtime_library": runtime_library, "batch": batch}
    with Trials(builders, pool, plain_first=lambda plan: not hurried or plan.workload in light, **options) as trials:
        for outcome in trials.stream(propose):
            record = tuner.learn(outcome, clock.lap())
            store.of_class(boards, outcome.device or pool.names[0]).add(record)
            done, placed = tuner.tally.trials, tuner.placed()
            on_progress(
                Progress(
                    clock.seconds,
                    done,
                    tuner.tally.failed,
                    placed,
                    sum(kernel.calls * (kernel.us or 0.0) for kernel in placed),
                    tuner.trials_left,
                    max(0.0, budget_s - clock.seconds),
                )
            )
    tuner.tally.require_success()
    spent = (("build", trials.build_s), ("run", trials.run_s), ("model", choosing_s))
    return Tuning(tuner.placed(), tuner.tally.trials, tuner.tally.by_kind, clock.seconds, tuner.exhausted, spent)


class _Clock:
    """Wall time of a run, and how many trials are left in it."""

    def __init__(self, started: float, budget_s: float) -> None:
        self._started, self._budget_s = started, budget_s
        self._first = self._last = time.perf_counter()
        self._laps = 0

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.perf_counter() - self._started

    def lap(self) -> float:
        """Seconds since the last outcome."""
        now = time.perf_counter()
        self._last, since = now, now - self._last
        self._laps += 1
        return since

    def affordable(self, count: int, under_way: int) -> int:
        """Trials to begin so that all can end in time, at the pace so far; a first batch in any case."""
        room = self._budget_s - self.seconds
        if not self._laps and not under_way and self._budget_s > 0:
            return min(count, max(_FIRST, int(room / _ASSUMED_S)))
        if room <= 0:
            return 0
        pace = (self._last - self._first) / self._laps if self._laps else _ASSUMED_S
        return min(count, max(0 if under_way else 1, int(room / pace) - under_way))


def boards_of(target: CompileTarget) -> DeviceClass:
    """The class of boards that a target alone names, where no card is at hand."""
    return DeviceClass.from_target(target_name(target))


def _vector_unit(target: CompileTarget) -> VectorUnit:
    """float32 lanes from LLVM; AVX-512 and aarch64 have 32 vector registers, older x86 16."""
    width_bits = int(tvm.target.codegen.llvm_get_vector_width(tvm_target(target)))
    lanes = max(4, min(width_bits, 512) // 32)
    return VectorUnit(lanes, 32 if lanes == 16 or target.machine == "aarch64" else 16)
