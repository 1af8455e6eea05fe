"""Everything measured in one context: kernels, pairs, single operations and whole subnets, through the agent."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.litert.single_op import chain_candidate, single_op_candidate
from tailorbird.compile.tvm.target import runtime_library
from tailorbird.db import Store
from tailorbird.device import Device, DevicePool
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
from tailorbird.tune.builders import Builders
from tailorbird.tune.foundry import Foundry
from tailorbird.tune.gather import distinct_kernels
from tailorbird.tune.session import tune
from tailorbird.types import Candidate, Config, Measurement, ModuleKind
from tailorbird.types.schedule import DeviceClass, ScheduleRecord
from tests.bench.latency_local.settings import Context, Suite
from tests.bench.latency_local.subjects import Subjects

_NETWORKS_FOR_PROBES = 40


@dataclass
class Measured:
    """What is known of one network in one context; times in microseconds, costs in seconds of wall time.

    operations, pairs: of LiteRT alone, for the predictor that sums single operations.
    """

    context: Context
    plan: KernelPlan
    table: KernelTable
    kernels_of: KernelsOf
    pool: list[Config]
    held_out: list[Config]
    subnets_us: dict[Config, float]
    subnet_seconds: list[float]
    listing_seconds: float
    fusions: Fusions | None = None
    operations: KernelTable | None = None
    pairs_us: dict[Pair, float] = field(default_factory=dict)
    probing_seconds: float = 0.0
    verdicts: dict[str, int] = field(default_factory=dict)


class Bench:
    """One agent, one store, one work folder."""

    def __init__(self, device: Device, store: Store, work: Path, suite: Suite) -> None:
        self.device, self.store, self.work, self.suite = device, store, work, suite

    def measure(self, subjects: Subjects, context: Context) -> Measured:
        """Measure what is missing of a network in a context."""
        pool = subjects.subnets(self.suite.pool, 0)
        held_out = [c for c in subjects.subnets(self.suite.held_out + self.suite.pool, 50_000) if c not in pool]
        held_out = held_out[: self.suite.held_out]
        measure = self._litert if context.runtime == "litert" else self._tvm
        return measure(subjects, context, pool, held_out)

    def _litert(self, subjects: Subjects, context: Context, pool: list[Config], held_out: list[Config]) -> Measured:
        kernels_of = subjects.kernels
        plan = plan_kernels(subjects.net.space, kernels_of)
        networks = [kernels_of(config) for config in subjects.subnets(_NETWORKS_FOR_PROBES, 90_000)]
        probes = fusion_probes([*networks, *map(unfused, networks)])
        singles = list({spec for s in plan.specs for spec in unfused([s])} | {s for pair in probes for s in pair})
        options = {"store": self.store, "protocol": context.kernel_protocol}
        with self.device.lease() as lease:
            table = profile_kernels(
                self.device,
                plan.specs,
                single_op_candidate,
                lease=lease,
                on_progress=note(context, "kernels"),
                **options,
            )
            operations = profile_kernels(
                self.device,
                singles,
                single_op_candidate,
                lease=lease,
                on_progress=note(context, "operations"),
                **options,
            )
            pairs = profile_chains(
                self.device, probes, chain_candidate, lease=lease, on_progress=note(context, "pairs"), **options
            )

            def build(config: Config) -> Candidate:
                subject = subjects.subject(config)
                return Candidate(ModuleKind.LITERT_MODEL, subject.model, subject.inputs, config.key)

            subnets = profile_subnets(
                self.device,
                subjects.identity,
                [*pool, *held_out],
                build,
                store=self.store,
                protocol=context.subnet_protocol,
                lease=lease,
                on_progress=note(context, "subnets"),
            )
        pairs_us = {pair: m.cpu_median_us for pair, m in pairs.items() if m.ok}
        fused_pairs = {p: us for p, us in pairs_us.items() if p[0] in table.times and p[1] in table.times}
        return self._measured(
            subjects,
            context,
            plan,
            table,
            kernels_of,
            (pool, held_out),
            subnets,
            listing_seconds=subjects.listing_seconds("litert"),
            fusions=Fusions.of(operations.times_us | table.times_us, pairs_us),
            operations=operations,
            pairs_us=pairs_us,
            probing_seconds=sum(seconds_of(m) for pair, m in pairs.items() if pair in fused_pairs),
        )

    def _tvm(self, subjects: Subjects, context: Context, pool: list[Config], held_out: list[Config]) -> Measured:
        kernels_of = subjects.programs
        plan = plan_kernels(subjects.net.space, kernels_of)
        covering = covering_subnets(subjects.net.space, kernels_of, plan.specs)
        for number, config in enumerate(covering):
            note(context, "subnets that cover all kernels")(number, len(covering))
            subjects.subject(config)
        target = CompileTarget(self.device.card.triple, context.cpu, context.threads)
        library = runtime_library(self.device.card.triple)
        records = self._schedules(subjects, library)
        with Builders(target, timeout_s=300.0) as builders:
            foundry = Foundry(builders, records, self.work / "objects")
            started = time.monotonic()
            foundry.compile(subjects.call(program) for program in plan.specs if subjects.has(program))
            compiling = time.monotonic() - started
            usable = [program for program in plan.specs if subjects.has(program) and program not in foundry.errors]
            note(context, "kernels that do not compile")(len(foundry.errors), len(plan.specs))

            def build(config: Config) -> Candidate:
                subject = subjects.subject(config)
                foundry.compile(subjects.call(p) for p in subject.functions.values() if p not in usable)
                module = foundry.network(subject.objects, subject.functions)
                return Candidate(ModuleKind.TVM_MODEL, module, subject.inputs, config.key)

            with self.device.lease() as lease:
                table = profile_kernels(
                    self.device,
                    usable,
                    foundry.candidate,
                    built_as=lambda program: foundry[program].built_as,
                    store=self.store,
                    runtime="tvm",
                    protocol=context.kernel_protocol,
                    runtime_library=library,
                    lease=lease,
                    on_progress=note(context, "kernels"),
                )
                subnets = profile_subnets(
                    self.device,
                    subjects.identity,
                    [*pool, *held_out],
                    build,
                    store=self.store,
                    runtime="tvm",
                    protocol=context.subnet_protocol,
                    runtime_library=library,
                    lease=lease,
                    on_progress=note(context, "subnets"),
                    built_as=foundry.built_as(usable),
                )
        return self._measured(
            subjects,
            context,
            plan,
            table,
            kernels_of,
            (pool, held_out),
            subnets,
            listing_seconds=self._once(context, subjects, compiling) + subjects.listing_seconds("tvm", covering),
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

    def _measured(
        self,
        subjects: Subjects,
        context: Context,
        plan: KernelPlan,
        table: KernelTable,
        kernels_of: KernelsOf,
        chosen: tuple[list[Config], list[Config]],
        subnets: dict[Config, Measurement],
        *,
        listing_seconds: float,
        **more: object,
    ) -> Measured:
        usable = {config: m for config, m in subnets.items() if m.ok}
        seconds = [seconds_of(m) + subjects.subject(c).seconds[context.runtime] for c, m in usable.items()]
        verdicts: dict[str, int] = {}
        for m in usable.values():
            verdicts[m.verdict.value] = verdicts.get(m.verdict.value, 0) + 1
        return Measured(
            context,
            plan,
            table,
            kernels_of,
            [config for config in chosen[0] if config in usable],
            [config for config in chosen[1] if config in usable],
            {config: m.cpu_median_us for config, m in usable.items()},
            seconds,
            listing_seconds,
            verdicts=verdicts,
            **more,
        )


def note(context: Context, what: str):
    """A line on stderr, overwritten."""

    def show(done: int, total: int) -> None:
        sys.stderr.write(f"\r{context.name}: {done} of {total} {what}      ")
        sys.stderr.flush()

    return show
