"""From compiled candidates to records: what the device answered, with everything a later reader may ask of it."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailorbird.compile.base import CompileTarget
from tailorbird.types import Candidate, Measurement, ModuleKind, TensorSpec, TimingProtocol
from tailorbird.types.schedule import ScheduleRecord

Measure = Callable[[Sequence[Candidate], TimingProtocol], Sequence[Measurement]]

#: Short on purpose: ranking schedules needs 2 %, and more candidates beat more repeats.
TUNING = TimingProtocol("kernel", min_runs=10, min_seconds=0.015, max_seconds=0.5)

#: Names of element types: the compiler's, ours.
ARGUMENT_TYPES = {
    "float32": "FP32",
    "float16": "FP16",
    "int64": "INT64",
    "int32": "INT32",
    "int8": "INT8",
    "uint8": "UINT8",
    "bool": "BOOL",
}
_MOST_TIMES = 100


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate that a worker has answered. draft: its record as far as known; library: what was compiled."""

    draft: ScheduleRecord
    name: str
    library: Path
    reply: dict[str, Any]


def target_name(target: CompileTarget) -> str:
    """How records name a target."""
    return f"{target.triple} {target.llvm_cpu or 'generic'} threads={target.threads}"


def timed(
    trials: Sequence[Trial], measure: Measure, protocol: TimingProtocol, target: CompileTarget, batch: str
) -> list[ScheduleRecord]:
    """Time the candidates that compiled; one record per trial, failures included. The libraries are removed."""
    built = [trial for trial in trials if "error" not in trial.reply]
    candidates = [_candidate(trial) for trial in built]
    for trial in built:
        trial.library.unlink()
    results = iter(measure(candidates, protocol) if candidates else ())
    records = []
    for trial in trials:
        error = trial.reply.get("error", "")
        outcome = Measurement(trial.name, error=error) if error else next(results)
        records.append(_record(trial, outcome, target, batch))
    return records


def _candidate(trial: Trial) -> Candidate:
    arguments = tuple(
        TensorSpec(f"arg{index}", ARGUMENT_TYPES[dtype], tuple(shape))
        for index, (dtype, shape) in enumerate(trial.reply["arguments"])
    )
    return Candidate(ModuleKind.TVM_KERNEL, trial.library.read_bytes(), arguments, trial.name)


def _record(trial: Trial, outcome: Measurement, target: CompileTarget, batch: str) -> ScheduleRecord:
    # CPU time, which other load leaves alone; on several threads only the wall shows what parallel loops gain.
    times = outcome.cpu_us if target.threads == 1 else outcome.wall_us
    draft = trial.draft
    decisions = trial.reply.get("decisions")
    return dataclasses.replace(
        draft,
        decisions_json=draft.decisions_json if decisions is None else json.dumps(decisions),
        trace_json=trial.reply.get("trace", draft.trace_json),
        cpu_us=statistics.median(times) if outcome.ok else None,
        run_us=condensed(times) if outcome.ok else (),
        verdict=outcome.verdict.value,
        error=outcome.error,
        environment=outcome.environment,
        batch=batch,
    )


def condensed(times: Sequence[float]) -> tuple[float, ...]:
    """All run times; of a kernel that ran thousands of times, means of as many consecutive runs each."""
    block = -(-len(times) // _MOST_TIMES)
    return tuple(statistics.fmean(times[start : start + block]) for start in range(0, len(times), block))
