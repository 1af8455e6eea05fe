"""Subnets of one network as files that every context measures: written once, found again by content."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.capture import Network, capture
from tailorbird.compile.kernels import kernels_of
from tailorbird.compile.litert.backend import LitertBackend
from tailorbird.compile.tvm.api import Module, tvm
from tailorbird.compile.tvm.objects import network_objects
from tailorbird.compile.tvm.pipeline import import_network, prepare, save
from tailorbird.compile.tvm.programs import KernelCall, kernel_calls
from tailorbird.profile import KernelsOf, learn_kernels
from tailorbird.supernet import SuperNet, elastic
from tailorbird.tune.foundry import as_workload
from tailorbird.types import Config, KernelSpec, TensorProgram, TensorSpec
from tests.bench.latency_local.settings import Network as Example

_TARGET = CompileTarget("x86_64-linux-gnu", "x86-64-v2")  # prepared networks are the same for every x86-64


@dataclass(frozen=True, slots=True)
class Listing:
    """The kernels of a subnet for both runtimes. seconds: what finding them took, by runtime."""

    kernels: tuple[KernelSpec, ...]
    functions: dict[str, TensorProgram]  # by name in the TVM module
    calls: tuple[TensorProgram, ...]
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Subject:
    """A subnet written for both runtimes. seconds: what capturing and writing it took, by runtime."""

    folder: Path
    inputs: tuple[TensorSpec, ...]
    functions: dict[str, TensorProgram]
    seconds: dict[str, float]

    @property
    def model(self) -> bytes:
        """The .tflite file."""
        return (self.folder / "model.tflite").read_bytes()

    @property
    def objects(self) -> tuple[bytes, ...]:
        """The TVM network without its kernels."""
        return tuple(path.read_bytes() for path in sorted(self.folder.glob("network*.o")))


@dataclass(frozen=True, slots=True)
class _Trace:
    """A subnet as both compilers see it, before any code is made."""

    network: Network
    prepared: Module | None
    listing: Listing


class Subjects:
    """All that is known of one network, kept in a folder. runtimes: those that subnets are written for."""

    def __init__(self, network: Example, folder: Path, runtimes: frozenset[str]) -> None:
        self.network = network
        self._runtimes = runtimes
        self._folder = folder / network.name
        self.listed: dict[str, set[Config]] = {}
        (self._folder / "programs").mkdir(parents=True, exist_ok=True)

    @functools.cached_property
    def net(self) -> SuperNet:
        """The SuperNet."""
        torch.manual_seed(0)
        return elastic(self.network.make().eval(), self.network.example)

    @property
    def identity(self) -> str:
        """Names this network among stored measurements."""
        return f"bench {self.network.name} {self.network.pixels}"

    def subnets(self, count: int, first_seed: int) -> list[Config]:
        """Distinct random subnets; fewer where the space is small."""
        found: dict[Config, None] = {}
        for seed in range(first_seed, first_seed + 50 * count):
            found.setdefault(self.net.space.sample(seed))
            if len(found) == count:
                break
        return list(found)

    @functools.cached_property
    def kernels(self) -> KernelsOf:
        """LiteRT kernels of any subnet."""
        return learn_kernels(self.net.space, lambda config: self._learnt("litert", config).kernels)

    @functools.cached_property
    def programs(self) -> KernelsOf:
        """TVM kernels of any subnet."""
        return learn_kernels(self.net.space, lambda config: self._learnt("tvm", config).calls)

    def cover(self, runtime: str, subnets: Sequence[Config]) -> None:
        """List subnets for the sake of kernels that no other has."""
        path = self._folder / f"covering {runtime}.json"
        before = [Config.from_json(text) for text in json.loads(path.read_text())] if path.exists() else []
        for config in (*before, *subnets):
            self._learnt(runtime, config)
        path.write_text(json.dumps([config.to_json() for config in (*before, *subnets)]), encoding="utf-8")

    def listing_seconds(self, runtime: str) -> float:
        """What listing the kernels took of the subnets from which all kernels were learnt."""
        return sum(self.listing(config).seconds[runtime] for config in self.listed.get(runtime, set()))

    def _learnt(self, runtime: str, config: Config) -> Listing:
        self.listed.setdefault(runtime, set()).add(config)
        return self.listing(config)

    def call(self, program: TensorProgram) -> KernelCall:
        """A TVM kernel that some listed subnet has."""
        mod = tvm.ir.load_json(self._program(program).read_text(encoding="utf-8"))
        return KernelCall(program.name, program, next(iter(mod.functions.values())))

    def has(self, program: TensorProgram) -> bool:
        """Whether a listed subnet has this kernel."""
        return self._program(program).exists()

    def prepared(self, config: Config) -> object:
        """The module that tuning takes."""
        return prepare(import_network(capture(self.net.extract(config), self.network.example)), _TARGET)

    def listing(self, config: Config) -> Listing:
        """A subnet's kernels, found now if they are not known."""
        path = self._folder / "subnets" / config.key / "listing.json"
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if self._runtimes.issubset(found["seconds"]):
                functions = {name: _program(fields) for name, fields in found["functions"].items()}
                calls = tuple(functions[name] for name in found["calls"])
                return Listing(tuple(map(_spec, found["kernels"])), functions, calls, found["seconds"])
        return self._trace(config, path).listing

    def subject(self, config: Config) -> Subject:
        """A subnet's files, written now if they are not there."""
        folder = self._folder / "subnets" / config.key
        record = folder / "subject.json"
        found = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
        if not self._runtimes.issubset(found.get("seconds", {})):
            found = self._write(config, folder)
            _replace(record, found)
        inputs = tuple(TensorSpec(name, kind, tuple(shape)) for name, kind, shape in found["inputs"])
        return Subject(folder, inputs, self.listing(config).functions, found["seconds"])

    def _trace(self, config: Config, path: Path) -> _Trace:
        started = time.perf_counter()
        network = capture(self.net.extract(config), self.network.example)
        captured = time.perf_counter()
        kernels = kernels_of(network)
        seconds = {"litert": time.perf_counter() - started}
        prepared, calls = None, ()
        if "tvm" in self._runtimes:
            began = time.perf_counter()
            prepared = prepare(import_network(network), _TARGET)
            calls = kernel_calls(prepared)
            seconds["tvm"] = captured - started + time.perf_counter() - began
        for call in calls:
            if not self.has(call.program):
                save(as_workload(call.body), self._program(call.program))
        functions = {call.function: call.program for call in calls}
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(
            path,
            {
                "kernels": [dataclasses.asdict(spec) for spec in kernels],
                "functions": {name: dataclasses.asdict(program) for name, program in functions.items()},
                "calls": [call.function for call in calls],
                "seconds": seconds,
            },
        )
        return _Trace(
            network, prepared, Listing(tuple(kernels), functions, tuple(call.program for call in calls), seconds)
        )

    def _write(self, config: Config, folder: Path) -> dict[str, Any]:
        trace = self._trace(config, folder / "listing.json")
        seconds = dict(trace.listing.seconds)
        started = time.perf_counter()
        (folder / "model.tflite").write_bytes(LitertBackend().build(trace.network, _TARGET).module)
        written = time.perf_counter()
        seconds["litert"] += written - started
        if trace.prepared is not None:
            for index, code in enumerate(network_objects(trace.prepared, _TARGET)):
                (folder / f"network{index}.o").write_bytes(code)
            seconds["tvm"] += time.perf_counter() - written
        inputs = [(spec.name, spec.datatype, spec.shape) for spec in trace.network.inputs]
        return {"inputs": inputs, "seconds": seconds}

    def _program(self, program: TensorProgram) -> Path:
        text = json.dumps(dataclasses.asdict(program), sort_keys=True)
        return self._folder / "programs" / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def _replace(path: Path, found: dict[str, Any]) -> None:
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(found), encoding="utf-8")
    partial.replace(path)


def _spec(fields: dict) -> KernelSpec:
    return KernelSpec(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


def _program(fields: dict) -> TensorProgram:
    return TensorProgram(fields["name"], fields["code"], tuple(fields["ranks"]), tuple(fields["numbers"]))
