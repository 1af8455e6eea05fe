"""From an outcome to what the store keeps of it."""

from __future__ import annotations

import json

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.target import compiler
from tailorbird.tune.measuring import condensed, target_name
from tailorbird.tune.trials import Outcome
from tailorbird.types.schedule import ScheduleRecord


def recorded(outcome: Outcome, target: CompileTarget, kernel_class: str, extents: tuple[int, ...]) -> ScheduleRecord:
    """The record of a trial, good or failed. kernel_class, extents: of its kernel."""
    measured, plan = outcome.measurement, outcome.plan
    times: tuple[float, ...] = ()
    if measured is not None and outcome.us is not None:
        times = measured.cpu_us if target.threads == 1 else measured.wall_us
    notes = () if measured is None else measured.environment
    if outcome.drift:
        notes = (*notes, ("incumbent_drift", f"{outcome.drift:+.4f}"))
    return ScheduleRecord(
        target=target_name(target),
        workload=plan.workload,
        kernel_class=kernel_class,
        extents=extents,
        sketch=plan.sketch,
        decisions_json=json.dumps(outcome.decisions or plan.decisions),
        trace_json=outcome.trace or plan.trace,
        cpu_us=outcome.us,
        verdict=measured.verdict.value if measured is not None else "ok",
        error="" if outcome.failure is None else str(outcome.failure),
        compiler=compiler(),
        run_us=condensed(times) if times else (),
        environment=notes,
        batch=outcome.batch,
        source=plan.source,
    )
