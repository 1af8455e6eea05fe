"""Kernels of a prepared module as TVM sees them: tasks, sketches, traces, builds. Used by the worker processes."""

from __future__ import annotations

import importlib
import json
import math
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.api import Module, tvm
from tailorbird.compile.tvm.intrinsics import import_intrinsics
from tailorbird.compile.tvm.pipeline import export
from tailorbird.compile.tvm.target import linker, tvm_target
from tailorbird.tune.space import DEFAULT_SKETCH, Choice, Decision, Decisions, KernelSpace
from tailorbird.tune.traces import cut

import_intrinsics()  # before MetaSchedule, which would spend 45 s on them
ms: Any = importlib.import_module("tvm.s_tir.meta_schedule")

_SAMPLING = {"SamplePerfectTile": "tile", "SampleCategorical": "category", "SampleComputeLocation": "location"}


def workload_key(mod: Module) -> str:
    """Structural hash of a kernel, hexadecimal: names of variables do not matter."""
    return str(ms.utils.shash2hex(mod))


def extract_kernels(prepared: Module, target: CompileTarget) -> list[tuple[str, Module, int]]:
    """(name, module, calls per inference) of each distinct kernel of a prepared network."""
    tasks = ms.relax_integration.extract_tasks(prepared, tvm_target(target), module_equality="structural")
    return [(str(task.task_name), task.dispatched[0], int(task.weight)) for task in tasks]


class Kernel:
    """One kernel with its sketches. Decisions turn a sketch into a schedule, a schedule is built into a library."""

    def __init__(self, mod: Module, target: CompileTarget) -> None:
        self.mod = mod
        self.machine = tvm_target(target)
        self._link = linker(target)
        self._context = context_of(mod, target)

    @property
    def postprocs(self) -> Sequence[Any]:
        """MetaSchedule's postprocessing for the target."""
        return tuple(self._context.space_generator.postprocs)

    @cached_property
    def sketches(self) -> tuple[Any, ...]:
        """Traces with open choices."""
        return tuple(schedule.trace for schedule in self._context.generate_design_space())

    def space(self, name: str) -> KernelSpace:
        """The open choices of all sketches."""
        flops = float(tvm.s_tir.analysis.estimate_tir_flops(self.mod))
        sketches = tuple(tuple(_choice(*pair) for pair in _samplings(trace)) for trace in self.sketches)
        richest = max(sketches, key=len, default=())
        shape = ",".join(f"{choice.kind[0]}{choice.parts or ''}" for choice in richest)
        return KernelSpace(name, workload_key(self.mod), f"{self._anchor()} {shape}", flops, sketches)

    def schedule(self, sketch: int, decisions: Decisions) -> Any:
        """Apply decisions to a sketch; sketch DEFAULT leaves the kernel as TVM wrote it.

        Raises tvm.error.TVMError or ValueError for decisions that do not fit.
        """
        if sketch == DEFAULT_SKETCH:
            return tvm.s_tir.Schedule(self.mod)
        return self.decided(self.sketches[sketch], decisions)

    def decided(self, trace: Any, decisions: Decisions) -> Any:
        """Apply a trace with its choices decided anew, and postprocess. Raises as `schedule` does."""
        return decide(self.mod, trace, decisions, self.postprocs)

    def replay(self, trace_json: str) -> Any:
        """A schedule from its stored trace. Raises when the kernel does not take it."""
        return replay_trace(self.mod, trace_json, self.postprocs)

    def build(self, schedule: Any) -> bytes:
        """Compile and link one scheduled kernel; its function is `main` and takes all arguments, outputs last."""
        return export(tvm.driver.build(self.stripped(schedule), target=self.machine), self._link)

    @staticmethod
    def stripped(schedule: Any) -> Module:
        """The scheduled kernel without the blocks that only speak of packed weights."""
        return tvm.s_tir.transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(schedule.mod)

    def _anchor(self) -> str:
        """Name of the block that does most of the work: conv2d_nhwc, matmul, ..."""
        names = re.findall(r'sblock\("([^"]+)"\)', self.mod.script())
        ranked = [name for name in names if re.search("conv|matmul|dense|pool|sum|reduce", name)] or names[1:2] or names
        return re.sub(r"^lv\d*_|[\d_]+$", "", ranked[0]) if ranked else "none"  # Relax names some after its variables


def decisions_of(schedule: Any) -> Decisions:
    """What was decided in a schedule, including what TVM chose itself."""
    return tuple(_from_tvm(decision) for _, decision in _samplings(schedule.trace))


def decisions_json(schedule: Any) -> str:
    """`decisions_of` as records hold them."""
    return json.dumps(decisions_of(schedule))


def choices_of(trace: Any) -> tuple[Choice, ...]:
    """The choices of a trace, in order. Tiles take their extents from what is decided."""
    return tuple(_choice(*pair) for pair in _samplings(trace))


def arguments_of(schedule: Any) -> list[tuple[str, list[int]]]:
    """(datatype, shape) of a scheduled kernel's arguments. Of the scheduled one: packing changes the weight's shape."""
    infos = ms.arg_info.ArgInfo.from_entry_func(schedule.mod, remove_preproc=True)
    return [(str(info.dtype), [int(extent) for extent in info.shape]) for info in infos]


def argument_bytes(mod: Module) -> int:
    """Size of a kernel's arguments, outputs included."""
    infos = ms.arg_info.ArgInfo.from_entry_func(mod, remove_preproc=False)
    sizes = [math.prod(int(extent) for extent in info.shape) * _width(str(info.dtype)) for info in infos]
    return sum(sizes)


def _width(dtype: str) -> int:
    """Bytes of an element: the bits that end the type's name, one for bool."""
    bits = re.search(r"\d+$", dtype)
    return int(bits[0]) // 8 if bits else 1


def stored_trace(schedule: Any) -> str:
    """The schedule's trace as plain JSON, up to where postprocessing begins."""
    return cut(_plain(schedule.trace.as_json()))


def postprocess(schedule: Any, postprocs: Sequence[Any]) -> Any:
    """Finish a schedule the way MetaSchedule does. Raises ValueError when that finds it invalid."""
    schedule.enter_postproc()
    for post in postprocs:
        if not post.apply(schedule):
            raise ValueError(f"{post} rejects the schedule")
    return schedule


def database(kernels: Sequence[tuple[Module, str]], target: CompileTarget) -> Any:
    """A MetaSchedule database that answers each kernel with its one trace; traces that no longer apply are left out."""
    memory = ms.database.MemoryDatabase()
    for mod, text in kernels:
        try:
            record = tuning_record(memory.commit_workload(mod), text, (1.0,), target)
        except Exception:  # noqa: S112  (made by another TVM release: the kernel keeps its default schedule)
            continue
        memory.commit_tuning_record(record)
    return memory


def tuning_record(workload: Any, trace_json: str, run_us: Sequence[float], target: CompileTarget) -> Any:
    """MetaSchedule's record of a stored trace, for one of its workloads. Raises when the kernel refuses the trace."""
    schedule = replay_trace(workload.mod, trace_json, context_of(workload.mod, target).space_generator.postprocs)
    # Of the scheduled module: packing changes the weight's shape.
    arguments = ms.arg_info.ArgInfo.from_entry_func(schedule.mod, remove_preproc=True)
    seconds = [time * 1e-6 for time in run_us]
    return ms.database.TuningRecord(schedule.trace, workload, seconds, tvm_target(target), arguments)


def decide(mod: Module, trace: Any, decisions: Decisions, postprocs: Sequence[Any]) -> Any:
    """Apply a trace with its choices decided anew, and postprocess.

    Raises tvm.error.TVMError or ValueError for decisions that do not fit.
    """
    pairs = _samplings(trace)
    if len(pairs) != len(decisions):
        raise ValueError(f"the trace has {len(pairs)} choices, not {len(decisions)}")
    values = {
        instruction: list(decision) if isinstance(decision, tuple) else decision
        for (instruction, _), decision in zip(pairs, decisions, strict=True)
        if decision is not None
    }
    fresh = tvm.s_tir.Schedule(mod, seed=1)
    type(trace)(list(trace.insts), values).apply_to_schedule(fresh, remove_postproc=True)
    return postprocess(fresh, postprocs)


def replay_trace(mod: Module, trace_json: str, postprocs: Sequence[Any]) -> Any:
    """A stored trace on a kernel; an empty one leaves its plain loops. Raises when the kernel refuses it."""
    schedule = tvm.s_tir.Schedule(mod)
    text = cut(json.loads(trace_json))  # records of earlier releases hold the postprocessing as well
    trace = json.loads(text)
    if not trace[0]:
        return schedule  # plain loops as TVM wrote them
    tvm.s_tir.schedule.Trace.apply_json_to_schedule(trace, schedule)
    return postprocess(schedule, postprocs)


def context_of(mod: Module, target: CompileTarget, strategy: Any = "replay-trace") -> Any:
    """MetaSchedule's context of a kernel: our schedule rules, and a search strategy where one is to run."""
    return ms.TuneContext(
        mod=mod,
        target=tvm_target(target),
        space_generator=ms.space_generator.PostOrderApply(sch_rules=_rules(target)),
        search_strategy=strategy,
        num_threads=1,
        rand_state=1,
    )


def _rules(target: CompileTarget) -> Any:
    """The CPU's schedule rules, but for loop marking.

    On one thread no loop is made parallel: each launch costs a call. Unrolling stops at 64 steps: 512 takes LLVM four
    times as long and was never faster in register-tiled kernels.
    """
    marking = ms.schedule_rule.ParallelizeVectorizeUnroll(
        max_jobs_per_core=16 if target.threads > 1 else -1,
        max_vectorize_extent=64,
        unroll_max_steps=[0, 16, 64],
        unroll_explicit=True,
    )
    return [
        marking if isinstance(rule, ms.schedule_rule.ParallelizeVectorizeUnroll) else rule
        for rule in ms.schedule_rule.ScheduleRule.create("llvm")
    ]


def _samplings(trace: Any) -> list[tuple[Any, Any]]:
    return [(i, trace.get_decision(i)) for i in trace.insts if str(i.kind.name) in _SAMPLING]


def _choice(instruction: Any, decision: Any) -> Choice:
    kind = _SAMPLING[str(instruction.kind.name)]
    if kind == "tile":
        factors = [int(factor) for factor in decision]
        return Choice("tile", math.prod(factors), len(factors))
    if kind == "category":
        return Choice("category", parts=len(instruction.attrs[0]))
    return Choice("location")


def _from_tvm(decision: Any) -> Decision:
    return int(decision) if not hasattr(decision, "__len__") else tuple(int(factor) for factor in decision)


def _plain(value: Any) -> Any:
    """TVM containers as Python's, for json."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (list, tuple)) or hasattr(value, "__len__"):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, tvm.tirx.IntImm) else float(value)
