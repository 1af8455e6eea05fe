"""Apply stored schedules to kernels: to their own, to one with another epilogue, to one of other sizes.

A stored trace ends where MetaSchedule's postprocessing begins. What follows it is derived, full of the release's own
serialised objects, and is done again at each replay: traces stay plain JSON that a later TVM can read.

MetaSchedule's replay never refuses a tile that does not divide the new extent: it gives the whole extent to the
innermost loop. `nearest` therefore chooses the factors anew, `raw` keeps what TVM makes of them.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tailorbird.compile.tvm.api import Module, tvm
from tailorbird.tune.kernels import (
    Kernel,
    choices_of,
    decisions_json,
    decisions_of,
    ms,
    postprocess,
    stored_trace,
    workload_key,
)
from tailorbird.tune.space import DEFAULT_SKETCH, FOREIGN_SKETCH, Choice, Decisions, mutate, refit

#: How a donor's schedule is carried over. stored: the kernel's own record.
MODES = ("stored", "anchor", "nearest", "raw", "jitter")

_MAX_VECTOR = 64
_STRUCTURE = frozenset({"ReverseComputeAt", "ComputeAt", "CacheWrite", "CacheRead", "RFactor", "ComputeInline"})


@dataclass(frozen=True, slots=True)
class Replayed:
    """A schedule of a kernel: trace and decisions as JSON, sketch number, hash of the scheduled module."""

    trace_json: str
    decisions_json: str
    sketch: int
    digest: str


def replayed(kernel: Kernel, mode: str, trace_json: str, seed: int = 0, donor: Module | None = None) -> Replayed:
    """Carry a stored trace over to a kernel in one of MODES. donor: the kernel of the trace, which "anchor" needs.

    Raises ValueError or tvm.error.TVMError when the kernel does not take it.
    """
    if mode == "anchor":
        schedule = _anchored(kernel, trace_json, donor)
    elif mode == "stored":
        schedule = kernel.replay(trace_json)
    elif mode == "raw":
        schedule = _raw(kernel, trace_json, donor)
    else:
        schedule = _refitted(kernel, trace_json, None if mode == "nearest" else seed)
    return Replayed(
        stored_trace(schedule),
        decisions_json(schedule),
        sketch_of(kernel, schedule),
        workload_key(schedule.mod),
    )


def sketch_of(kernel: Kernel, schedule: Any) -> int:
    """Which of the kernel's sketches a schedule follows; FOREIGN_SKETCH when it is none of them."""
    instructions = _before_postprocessing(schedule.trace)
    if not instructions:
        return DEFAULT_SKETCH
    wanted = (_structure(instructions), _shapes(choices_of(schedule.trace)))
    for index, trace in enumerate(kernel.sketches):
        if (_structure(_before_postprocessing(trace)), _shapes(choices_of(trace))) == wanted:
            return index
    return FOREIGN_SKETCH


def _anchored(kernel: Kernel, trace_json: str, donor: Module | None) -> Any:
    if donor is None:
        raise ValueError("the kernel of the stored trace is not known")
    source = tvm.s_tir.Schedule(donor)
    tvm.s_tir.schedule.Trace.apply_json_to_schedule(json.loads(trace_json), source)
    schedule = tvm.s_tir.Schedule(kernel.mod)
    ms.trace_apply.schedule_using_anchor_trace(schedule, source.trace, kernel.machine)
    return postprocess(schedule, kernel.postprocs)


def _raw(kernel: Kernel, trace_json: str, donor: Module | None) -> Any:
    """The trace as it is; where it names blocks that this kernel lacks, TVM's own way of passing over them."""
    try:
        schedule = kernel.replay(trace_json)
    except Exception:
        if donor is None:
            raise
        schedule = _anchored(kernel, trace_json, donor)
    _refuse_degenerate(schedule, trace_json)
    return schedule


def _refitted(kernel: Kernel, trace_json: str, seed: int | None) -> Any:
    """Nearest factors in that sketch of the kernel that is most like the trace; a seed changes one or two of them.

    A trace of a form that no sketch has is replayed itself, with its factors refitted.
    """
    instructions, stored = json.loads(trace_json)
    donor = tuple(tuple(value) if isinstance(value, list) else value for _, value in stored)
    steps = Counter(_structure_names([instruction[0] for instruction in instructions]))
    likeness = {
        index: _difference(steps, Counter(_structure(_before_postprocessing(sketch))))
        for index, sketch in enumerate(kernel.sketches)
    }
    for index in sorted(likeness, key=likeness.__getitem__):
        choices = choices_of(kernel.sketches[index])
        fitted = refit(_in_range(donor, choices), choices)
        if fitted is not None:
            return kernel.schedule(index, _jittered(choices, fitted, seed))
    loose = tvm.s_tir.Schedule(kernel.mod)  # TVM's repair of the tiles tells the extents
    tvm.s_tir.schedule.Trace.apply_json_to_schedule([instructions, stored], loose)
    choices = choices_of(loose.trace)
    fitted = refit(_in_range(donor, choices), choices)
    if fitted is None:
        raise ValueError("the stored decisions do not correspond to the kernel's")
    return kernel.decided(loose.trace, _jittered(choices, fitted, seed))


def _difference(one: Counter[str], other: Counter[str]) -> int:
    return (one - other).total() + (other - one).total()


def _jittered(choices: Sequence[Choice], decisions: Decisions, seed: int | None) -> Decisions:
    return decisions if seed is None else mutate(choices, decisions, random.Random(seed))  # noqa: S311


def _in_range(decisions: Decisions, choices: Sequence[Choice]) -> Decisions:
    """Categories beyond what the kernel offers become its last one: other releases unroll further."""
    if len(decisions) != len(choices):
        return decisions
    return tuple(
        min(decision, choice.parts - 1) if choice.kind == "category" and isinstance(decision, int) else decision
        for choice, decision in zip(choices, decisions, strict=True)
    )


def _refuse_degenerate(schedule: Any, trace_json: str) -> None:
    """Raise ValueError when the vector loop took a whole extent too long for registers, or lost its vector."""
    stored = [value for _, value in json.loads(trace_json)[1] if isinstance(value, list) and len(value) > 2]
    tiles = [tile for tile in decisions_of(schedule) if isinstance(tile, tuple) and len(tile) > 2]
    if not tiles or not stored:
        return
    vector, before = tiles[-1][-1], stored[-1][-1]
    if vector > _MAX_VECTOR or (vector == 1 and before > 1):
        raise ValueError(f"its vectors of {before} become {vector}")


def _before_postprocessing(trace: Any) -> list[Any]:
    instructions = []
    for instruction in trace.insts:
        if str(instruction.kind.name) == "EnterPostproc":
            break
        instructions.append(instruction)
    return instructions


def _structure(instructions: Sequence[Any]) -> tuple[str, ...]:
    return _structure_names([str(instruction.kind.name) for instruction in instructions])


def _structure_names(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name in _STRUCTURE or name.startswith("Sample"))


def _shapes(choices: Sequence[Choice]) -> tuple[tuple[str, int], ...]:
    return tuple((choice.kind, choice.parts) for choice in choices)
