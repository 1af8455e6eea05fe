"""Everything measured in one context: kernels, pairs, single operations and whole subnets, through the agent."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.litert.single_op import chain_candidate, single_op_candidate
from tailorbird.compile.tvm.target import runtime_library
from tailorbird.db import Store
from tailorbird.device import Device, DevicePool, Lease
from tailorbird.profile import (
    Fusions,
    KernelPlan,
    KernelsOf,
    KernelTable,
    covering_subnets,
    fusion_probes,
    plan_kernels,
    profile_chains,
    profile_kernels,
    profile_subnets,
    seconds_of,
)
from tailorbird.profile.fusion import Pair, unfused
from tailorbird.profile.run import Profiler, kernel_subject
from tailorbird.tune.builders import Builders
from tailorbird.tune.foundry import Foundry
from tailorbird.tune.gather import distinct_kernels
from tailorbird.tune.session import tune
from tailorbird.types import Candidate, Config, Kernel, ModuleKind
from tailorbird.types.schedule import DeviceClass, ScheduleRecord
from tests.bench.latency_local.settings import Context, Suite
from tests.bench.latency_local.subjects import Subjects

_NETWORKS_FOR_PROBES = 40
#: Entries measured of a table without deduplication: from their mean its cost is extrapolated.
ENTRIES = 120
#: How often each kernel is measured: see profile.run.Profiler.
ROUNDS = 3


@dataclass
class Measured:
    """What is known of one network in one context; times in microseconds, costs in seconds of wall time.

    operations, pairs: of LiteRT alone, for the predictor that sums single operations; entries: seconds of each entry
    that was measured of a table without deduplication.
    """

    context: Context
    plan: KernelPlan
    table: KernelTable
    kernels_of: KernelsOf
    pool: list[Config]
    held_out: list[Config]
    subnets_us: dict[Config, float]
    subnet_seconds: list[float]
    entry_seconds: list[float]
    listing_seconds: float
    verdicts: dict[str, int]
    fusions: Fusions | None = None
    operations: KernelTable | None = None
    pairs_us: dict[Pair, float] = field(default_factory=dict)
    probing_seconds: float = 0.0


@dataclass
class _Way:
    """How the kernels and subnets of a network become modules for one runtime.

    kernels: those that can be built; operations: what a table without deduplication has entries for, of a subnet.
    """

    kernels_of: KernelsOf
    plan: KernelPlan
    kernels: Sequence[Kernel]
    kernel: Callable[[Any], Candidate]
    subnet: Callable[[Config], Candidate]
    operations: Callable[[Config], Sequence[Kernel]]
    listing_seconds: float
    library: Path | None = None
    kernel_as: Callable[[Any], str] | None = None
    subnet_as: str = ""


class Bench:
    """One agent, one store, one work folder."""

    def __init__(self, device: Device, store: Store, work: Path, suite: Suite) -> None:
        self.device, self.store, self.work, self.suite = device, store, work, suite

    def measure(self, subjects: Subjects, context: Context) -> Measured:
        """Measure what is missing of a network in a context."""
        pool = subjects.subnets(self.suite.pool, 0)
        held_out = [c for c in subjects.subnets(self.suite.held_out + self.suite.pool, 50_000) if c not in pool]
        held_out = held_out[: self.suite.held_out]
        prepared = self._litert if context.runtime == "litert" else self._tvm
        with prepared(subjects, context) as way, self.device.lease() as lease:
            options = {"store": self.store, "runtime": context.runtime, "lease": lease, "runtime_library": way.library}
            table = profile_kernels(
                self.device,
                way.kernels,
                way.kernel,
                built_as=way.kernel_as,
                rounds=ROUNDS,
                protocol=context.kernel_protocol,
                on_progress=note(context, "kernels"),
                **options,
            )
            entries = self._entries(subjects, way, context, held_out, lease)
            subnets = profile_subnets(
                self.device,
                subjects.identity,
                [*pool, *held_out],
                way.subnet,
                protocol=context.subnet_protocol,
                built_as=way.subnet_as,
                on_progress=note(context, "subnets"),
                **options,
            )
            more = self._fusions(subjects, context, way, table, lease) if context.runtime == "litert" else {}
        usable = {config: m for config, m in subnets.items() if m.ok}
        return Measured(
            context,
            way.plan,
            table,
            way.kernels_of,
            [config for config in pool if config in usable],
            [config for config in held_out if config in usable],
            {config: m.cpu_median_us for config, m in usable.items()},
            [seconds_of(m) + subjects.subject(c).seconds[context.runtime] for c, m in usable.items()],
            entries,
            way.listing_seconds,
            dict(Counter(m.verdict.value for m in usable.values())),
            **more,
        )

    def _entries(
        self, subjects: Subjects, way: _Way, context: Context, subnets: Sequence[Config], lease: Lease
    ) -> list[float]:
        """Seconds of entries of a table without deduplication: operations of subnets, equal ones measured anew."""
        every = [spec for config in subnets for spec in way.operations(config)]
        drawn = random.Random(0).choices(every, k=ENTRIES)
        profiler = Profiler(
            self.device,
            self.store,
            context.runtime,
            "entry",
            lambda item: way.kernel(item[1]),
            lambda item: f"{context.name} {subjects.identity} {item[0]} {kernel_subject(item[1])}",
            context.kernel_protocol,
            way.library,
        )
        found = profiler.measure(list(enumerate(drawn)), lease=lease, on_progress=note(context, "entries"))
        return [seconds_of(measurement) for measurement in found.values() if measurement.ok]

    @contextmanager
    def _litert(self, subjects: Subjects, context: Context) -> Iterator[_Way]:
        def build(config: Config) -> Candidate:
            subject = subjects.subject(config)
            return Candidate(ModuleKind.LITERT_MODEL, subject.model, subject.inputs, config.key)

        plan = plan_kernels(subjects.net.space, subjects.kernels)
        yield _Way(
            subjects.kernels,
            plan,
            plan.specs,
            single_op_candidate,
            build,
            lambda config: unfused(subjects.kernels(config)),
            subjects.listing_seconds("litert"),
        )

    def _fusions(
        self, subjects: Subjects, context: Context, way: _Way, table: KernelTable, lease: Lease
    ) -> dict[str, Any]:
        """Pairs of kernels and of single operations, and those alone: what fusing saves, and AutoTailor's table."""
        networks = [way.kernels_of(config) for config in subjects.subnets(_NETWORKS_FOR_PROBES, 90_000)]
        probes = fusion_probes([*networks, *map(unfused, networks)])
        singles = list({spec for s in way.plan.specs for spec in unfused([s])} | {s for pair in probes for s in pair})
        options = {"store": self.store, "protocol": context.kernel_protocol, "lease": lease}
        operations = profile_kernels(
            self.device, singles, single_op_candidate, on_progress=note(context, "operations"), **options
        )
        pairs = profile_chains(self.device, probes, chain_candidate, on_progress=note(context, "pairs"), **options)
        pairs_us = {pair: m.cpu_median_us for pair, m in pairs.items() if m.ok}
        ours = [m for (first, second), m in pairs.items() if {first, second} <= table.times.keys()]
        return {
            "fusions": Fusions.of(operations.times_us | table.times_us, pairs_us),
            "operations": operations,
            "pairs_us": pairs_us,
            "probing_seconds": sum(map(seconds_of, ours)),
        }

    @contextmanager
    def _tvm(self, subjects: Subjects, context: Context) -> Iterator[_Way]:
        plan = plan_kernels(subjects.net.space, subjects.programs)
        missing = [program for program in plan.specs if not subjects.has(program)]
        covering = covering_subnets(subjects.net.space, subjects.programs, missing)
        subjects.cover("tvm", covering)
        target = CompileTarget(self.device.card.triple, context.cpu, context.threads)
        library = runtime_library(self.device.card.triple)
        records = self._schedules(subjects, library)
        with Builders(target, timeout_s=300.0) as builders:
            foundry = Foundry(builders, records, self.work / "objects")
            started = time.monotonic()
            foundry.compile(subjects.call(program) for program in plan.specs if subjects.has(program))
            compiling = self._once(context, subjects, time.monotonic() - started)
            usable = [program for program in plan.specs if subjects.has(program) and program not in foundry.errors]
            note(context, "kernels that do not compile")(len(foundry.errors), len(plan.specs))

            def build(config: Config) -> Candidate:
                subject = subjects.subject(config)
                foundry.compile(subjects.call(p) for p in subject.functions.values() if p not in usable)
                module = foundry.network(subject.objects, subject.functions)
                return Candidate(ModuleKind.TVM_MODEL, module, subject.inputs, config.key)

            yield _Way(
                subjects.programs,
                plan,
                usable,
                foundry.candidate,
                build,
                lambda config: [program for program in subjects.programs(config) if program in usable],
                subjects.listing_seconds("tvm") + compiling,
                library,
                lambda program: foundry[program].built_as,
                foundry.built_as(usable),
            )

    def _schedules(self, subjects: Subjects, library: Path) -> list[ScheduleRecord]:
        """Schedules for the full and the smallest network, searched once for this machine's own CPU."""
        card = self.device.card
        target = CompileTarget(card.triple, card.llvm_cpu, 1, card.isa_features)
        boards = DeviceClass.of_card(card, 1)
        done = self.work / subjects.network.name / "tuned"
        modules = [subjects.prepared(config) for config in (subjects.net.space.full(), subjects.net.space.smallest())]
        with Builders(target, timeout_s=300.0) as builders:
            if not done.exists():
                with DevicePool([self.device.name], lambda _: Device.connect(str(self.device.address))) as pool:
                    options = {"runtime_library": library, "budget_s": self.suite.tune_s}
                    tuning = tune(pool, modules, self.store.schedules, boards, builders, **options)
                done.write_text(f"{tuning.trials} trials, {tuning.seconds:.1f} s\n")
            wanted = {kernel.key for kernel in distinct_kernels(modules, builders)}
        records = self.store.schedules.of_class(boards, self.device.name).records()
        return [record for record in records if record.workload in wanted]

    def _once(self, context: Context, subjects: Subjects, seconds: float) -> float:
        """Seconds that compiling this context's kernels took when they were compiled."""
        path = self.work / subjects.network.name / f"compiling {context.name}"
        known = float(path.read_text()) if path.exists() else 0.0
        total = max(known, seconds)
        path.write_text(str(total))
        return total


def note(context: Context, what: str):
    """A line on stderr, overwritten."""

    def show(done: int, total: int) -> None:
        sys.stderr.write(f"\r{context.name}: {done} of {total} {what}      ")
        sys.stderr.flush()

    return show
