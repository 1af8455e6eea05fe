"""Subnets of one network as files that every context measures: written once, found again by content."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.capture import capture
from tailorbird.compile.kernels import kernels_of
from tailorbird.compile.litert.backend import LitertBackend
from tailorbird.compile.tvm.api import tvm
from tailorbird.compile.tvm.objects import network_objects
from tailorbird.compile.tvm.pipeline import import_network, prepare, save
from tailorbird.compile.tvm.programs import KernelCall, kernel_calls
from tailorbird.profile import KernelsOf, learn_kernels
from tailorbird.supernet import SuperNet, elastic
from tailorbird.tune.foundry import as_workload
from tailorbird.types import Config, KernelSpec, TensorProgram, TensorSpec
from tests.bench.latency_local.settings import Network

_TARGET = CompileTarget("x86_64-linux-gnu", "x86-64-v2")  # prepared networks are the same for every x86-64


@dataclass(frozen=True, slots=True)
class Subject:
    """A subnet written for both runtimes. seconds: what capturing and writing it took, by runtime."""

    folder: Path
    inputs: tuple[TensorSpec, ...]
    kernels: tuple[KernelSpec, ...]
    functions: dict[str, TensorProgram]  # by name in the TVM module
    calls: tuple[TensorProgram, ...]
    seconds: dict[str, float]

    @property
    def model(self) -> bytes:
        """The .tflite file."""
        return (self.folder / "model.tflite").read_bytes()

    @property
    def objects(self) -> tuple[bytes, ...]:
        """The TVM network without its kernels."""
        return tuple(path.read_bytes() for path in sorted(self.folder.glob("network*.o")))


class Subjects:
    """All that is known of one network, kept in a folder. runtimes: those that subnets are written for."""

    def __init__(self, network: Network, folder: Path, runtimes: frozenset[str]) -> None:
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
        return learn_kernels(self.net.space, lambda config: self._listed("litert", config).kernels)

    @functools.cached_property
    def programs(self) -> KernelsOf:
        """TVM kernels of any subnet."""
        return learn_kernels(self.net.space, lambda config: self._listed("tvm", config).calls)

    def listing_seconds(self, runtime: str, more: Iterable[Config] = ()) -> float:
        """What writing the subnets took that kernels were learnt from, and `more`."""
        return sum(self.subject(config).seconds[runtime] for config in {*self.listed.get(runtime, set()), *more})

    def _listed(self, runtime: str, config: Config) -> Subject:
        self.listed.setdefault(runtime, set()).add(config)
        return self.subject(config)

    def call(self, program: TensorProgram) -> KernelCall:
        """A TVM kernel that some subject has."""
        mod = tvm.ir.load_json(self._program(program).read_text(encoding="utf-8"))
        return KernelCall(program.name, program, next(iter(mod.functions.values())))

    def has(self, program: TensorProgram) -> bool:
        """Whether a subject has this kernel."""
        return self._program(program).exists()

    def prepared(self, config: Config) -> object:
        """The module that tuning takes."""
        return prepare(import_network(capture(self.net.extract(config), self.network.example)), _TARGET)

    def subject(self, config: Config) -> Subject:
        """A subnet's files, written now if they are not there."""
        folder = self._folder / "subnets" / config.key
        record = folder / "subject.json"
        found = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
        if not self._runtimes.issubset(found.get("seconds", {})):
            folder.mkdir(parents=True, exist_ok=True)
            found = self._write(config, folder)
            partial = folder / "subject.part"
            partial.write_text(json.dumps(found), encoding="utf-8")
            partial.replace(record)
        functions = {name: _program(fields) for name, fields in found["functions"].items()}
        return Subject(
            folder,
            tuple(TensorSpec(name, kind, tuple(shape)) for name, kind, shape in found["inputs"]),
            tuple(_spec(fields) for fields in found["kernels"]),
            functions,
            tuple(functions[name] for name in found["calls"]),
            found["seconds"],
        )

    def _write(self, config: Config, folder: Path) -> dict[str, Any]:
        started = time.perf_counter()
        network = capture(self.net.extract(config), self.network.example)
        kernels = kernels_of(network)
        captured = time.perf_counter()
        (folder / "model.tflite").write_bytes(LitertBackend().build(network, _TARGET).module)
        seconds = {"litert": time.perf_counter() - started}
        calls: tuple[KernelCall, ...] = ()
        if "tvm" in self._runtimes:
            began = time.perf_counter()
            module = prepare(import_network(network), _TARGET)
            calls = kernel_calls(module)
            for index, code in enumerate(network_objects(module, _TARGET)):
                (folder / f"network{index}.o").write_bytes(code)
            seconds["tvm"] = captured - started + time.perf_counter() - began
        for call in calls:
            if not self.has(call.program):
                save(as_workload(call.body), self._program(call.program))
        return {
            "inputs": [(spec.name, spec.datatype, spec.shape) for spec in network.inputs],
            "kernels": [dataclasses.asdict(spec) for spec in kernels],
            "functions": {call.function: dataclasses.asdict(call.program) for call in calls},
            "calls": [call.function for call in calls],
            "seconds": seconds,
        }

    def _program(self, program: TensorProgram) -> Path:
        text = json.dumps(dataclasses.asdict(program), sort_keys=True)
        return self._folder / "programs" / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def _spec(fields: dict) -> KernelSpec:
    return KernelSpec(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


def _program(fields: dict) -> TensorProgram:
    return TensorProgram(fields["name"], fields["code"], tuple(fields["ranks"]), tuple(fields["numbers"]))
