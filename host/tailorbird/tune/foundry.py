"""Kernels with stored schedules: of each class the one whose shape is nearest, refitted.

A table of kernel times is only worth something if every network runs the kernels it was made from. So each kernel is
compiled once, by one rule (the schedule book: the best schedule known of each shape), and that code is both timed alone
and linked into networks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailorbird.compile.tvm.api import Module, tvm
from tailorbird.compile.tvm.objects import link_kernel, link_network
from tailorbird.compile.tvm.pipeline import save
from tailorbird.compile.tvm.programs import KernelCall
from tailorbird.tune.builders import Builders
from tailorbird.tune.measuring import ARGUMENT_TYPES, target_name
from tailorbird.types import Candidate, ModuleKind, TensorProgram, TensorSpec
from tailorbird.types.schedule import ScheduleRecord


@dataclass(frozen=True, slots=True)
class CastKernel:
    """A compiled kernel. built_as: digest of target and schedule, which with the program decide about its code."""

    program: TensorProgram
    symbol: str
    code: Path
    arguments: tuple[TensorSpec, ...]
    built_as: str


class Foundry:
    """Compiles kernels with the schedules of a book and links networks from them.

    records: tuning trials, of which the best of each kernel counts; folder: compiled kernels are kept here, by content.
    errors: kernels that did not compile, with the reason.
    """

    def __init__(self, builders: Builders, records: Sequence[ScheduleRecord], folder: Path) -> None:
        self._builders = builders
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._book = json.dumps(_book(records), sort_keys=True)
        self._identity = hashlib.sha256(f"{target_name(builders.target)} {self._book}".encode()).hexdigest()
        self._known: dict[TensorProgram, CastKernel] = {}
        self.errors: dict[TensorProgram, str] = {}

    def compile(self, calls: Iterable[KernelCall]) -> None:
        """Compile the kernels of these calls that are not compiled yet, in parallel."""
        wanted = {call.program: call for call in calls if call.program not in self._known}
        book = self._builders.new_file(".book.json")
        book.write_text(self._book, encoding="utf-8")
        pending = []
        for program, call in wanted.items():
            stem = self._stem(program)
            if stem.with_suffix(".json").exists():
                self._known[program] = self._stored(program)
                continue
            source = self._builders.new_file(".kernel.json")
            save(as_workload(call.body), source)
            request = {
                "do": "object",
                "kernel": str(source),
                "name": program.name,
                "book": str(book),
                "symbol": stem.name,
                "output": str(stem.with_suffix(".o")),
            }
            pending.append((program, stem, self._builders.submit(request)))
        for program, stem, future in pending:
            reply = future.result()
            if "error" in reply:
                self.errors[program] = reply["error"]
                continue
            partial = stem.with_suffix(".part")
            partial.write_text(json.dumps(reply), encoding="utf-8")
            partial.replace(stem.with_suffix(".json"))
            self._known[program] = self._stored(program)

    def __getitem__(self, program: TensorProgram) -> CastKernel:
        """A kernel that was compiled. Raises KeyError for any other."""
        return self._known[program]

    def candidate(self, program: TensorProgram) -> Candidate:
        """The kernel alone, to be timed. Raises KeyError, CompileError."""
        kernel = self._known[program]
        library = link_kernel(kernel.code, kernel.symbol, self._builders.target)
        return Candidate(ModuleKind.TVM_KERNEL, library, kernel.arguments, program.label)

    def network(self, objects: Sequence[bytes], functions: Mapping[str, TensorProgram]) -> bytes:
        """A network from its own code (objects.network_objects) and its kernels, by function.

        Raises KeyError for a kernel that was not compiled, CompileError.
        """
        kernels = {name: (self._known[p].symbol, self._known[p].code) for name, p in functions.items()}
        return link_network(objects, kernels, self._builders.target)

    def built_as(self, programs: Iterable[TensorProgram]) -> str:
        """Identity of the code of several kernels together."""
        every = sorted({self._known[program].built_as for program in programs})
        return hashlib.sha256(" ".join(every).encode()).hexdigest()[:16]

    def _stem(self, program: TensorProgram) -> Path:
        text = json.dumps([self._identity, dataclasses.asdict(program)], sort_keys=True)
        return self._folder / f"k{hashlib.sha256(text.encode()).hexdigest()[:24]}"

    def _stored(self, program: TensorProgram) -> CastKernel:
        stem = self._stem(program)
        found: dict[str, Any] = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        arguments = tuple(
            TensorSpec(f"arg{index}", ARGUMENT_TYPES[dtype], tuple(shape))
            for index, (dtype, shape) in enumerate(found["arguments"])
        )
        schedule = json.dumps([target_name(self._builders.target), found["sketch"], found["decisions"]])
        digest = hashlib.sha256(schedule.encode()).hexdigest()[:16]
        return CastKernel(program, stem.name, stem.with_suffix(".o"), arguments, digest)


def as_workload(body: Any) -> Module:
    """A kernel of a network as a module of its own, as tuning sees it: equal kernels have equal hashes."""
    return tvm.IRModule({"main": body.with_attr("global_symbol", "main").with_attr("tirx.noalias", True)})


def _book(records: Sequence[ScheduleRecord]) -> dict[str, list[tuple[list[int], int, Any]]]:
    """By kernel class, (extents, sketch, decisions) of the best schedule of each kernel."""
    best: dict[str, ScheduleRecord] = {}
    for record in records:
        known = best.get(record.workload)
        if record.cpu_us is not None and (known is None or record.cpu_us < (known.cpu_us or record.cpu_us)):
            best[record.workload] = record
    book: dict[str, list[tuple[list[int], int, Any]]] = {}
    for workload in sorted(best):
        record = best[workload]
        book.setdefault(record.kernel_class, []).append(
            (list(record.extents), record.sketch, json.loads(record.decisions_json))
        )
    return book
