"""Kernels compiled once with stored schedules: right answers, the nearest schedule, nothing compiled twice."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from local_measure import LocalMeasure
from torch import nn

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.capture import Network, capture
from tailorbird.compile.tvm.backend import built
from tailorbird.compile.tvm.objects import network_objects
from tailorbird.compile.tvm.pipeline import import_network, prepare
from tailorbird.compile.tvm.programs import KernelCall, kernel_calls
from tailorbird.compile.verify import verify
from tailorbird.tune.builders import Builders
from tailorbird.tune.foundry import Foundry, as_workload
from tailorbird.tune.kernels import Kernel, extract_kernels, workload_key
from tailorbird.tune.space import DEFAULT_SKETCH, VectorUnit, sample
from tailorbird.types import TimingProtocol
from tailorbird.types.schedule import ScheduleRecord

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the modules are compiled for x86_64")

TARGET = CompileTarget("x86_64-linux-gnu", "x86-64-v3")


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    module: nn.Module
    x: torch.Tensor
    network: Network
    prepared: object
    calls: tuple[KernelCall, ...]


def subject(width: int) -> Subject:
    torch.manual_seed(width)
    layers = [nn.Conv2d(3, width, 3, 1, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1), nn.ReLU()]
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4)).eval()
    x = torch.randn(1, 3, 12, 12)
    network = capture(module, (x,))
    prepared = prepare(import_network(network), TARGET)
    return Subject(module, x, network, prepared, kernel_calls(prepared))


@pytest.fixture(scope="module")
def narrow() -> Subject:
    return subject(8)


@pytest.fixture(scope="module")
def wide() -> Subject:
    return subject(16)


@pytest.fixture(scope="module")
def builders() -> Iterator[Builders]:
    with Builders(TARGET, workers=1) as pool:
        yield pool


@pytest.fixture(scope="module")
def records(narrow: Subject) -> list[ScheduleRecord]:
    """One schedule of the second convolution of the narrow network."""
    import random

    call = next(call for call in narrow.calls if call.program.shapes[1:2] == ((3, 3, 8, 8),))
    mod = as_workload(call.body)
    space = Kernel(mod, TARGET).space(call.function)
    sketch = max(range(len(space.sketches)), key=lambda index: len(space.sketches[index]))
    decisions = sample(space.sketches[sketch], VectorUnit(8, 16), random.Random(0))
    return [
        ScheduleRecord("", workload_key(mod), space.kernel_class, space.extents, sketch, json.dumps(decisions), "", 1.0)
    ]


@pytest.fixture(scope="module")
def foundry(builders: Builders, records, wide: Subject, tmp_path_factory: pytest.TempPathFactory) -> Foundry:
    made = Foundry(builders, records, tmp_path_factory.mktemp("objects"))
    made.compile(wide.calls)
    return made


def metadata(foundry: Foundry, call: KernelCall) -> dict:
    return json.loads(foundry[call.program].code.with_suffix(".json").read_text())


def library(foundry: Foundry, of: Subject) -> bytes:
    return foundry.network(network_objects(of.prepared, TARGET), {c.function: c.program for c in of.calls})


def test_networks_of_one_shape_have_the_same_programs_at_other_numbers(narrow: Subject, wide: Subject):
    assert [call.program.program for call in narrow.calls] == [call.program.program for call in wide.calls]
    assert [call.program for call in narrow.calls] != [call.program for call in wide.calls]
    assert kernel_calls(wide.prepared) == wide.calls
    convolution = next(call.program for call in wide.calls if call.program.shapes[1:2] == ((3, 3, 16, 16),))
    assert convolution.macs == 12 * 12 * 16 * 16 * 9
    assert convolution.weight_count == 9 * 16 * 16


def test_a_kernel_is_the_task_that_tuning_extracts(wide: Subject):
    tasks = {workload_key(mod) for _, mod, _ in extract_kernels(wide.prepared, TARGET)}
    assert {workload_key(as_workload(call.body)) for call in wide.calls} == tasks


def test_a_network_of_linked_kernels_answers_as_torch_does(foundry: Foundry, wide: Subject):
    made = built(wide.network, TARGET, library(foundry, wide), 0.0, ())
    assert verify(made, wide.module, [(wide.x,), (2 * wide.x,)]).max_error < 1e-5


def test_the_schedule_of_the_nearest_shape_is_replayed_where_there_is_one(foundry: Foundry, records, wide: Subject):
    sketches = {call.program.shapes[1:2]: metadata(foundry, call)["sketch"] for call in wide.calls}
    assert sketches[((3, 3, 16, 16),)] == records[0].sketch
    assert DEFAULT_SKETCH in sketches.values(), "classes without a schedule keep plain loops"


def test_the_kernel_alone_is_the_code_of_the_network(foundry: Foundry, wide: Subject):
    measure = LocalMeasure()
    try:
        kernels = list(dict.fromkeys(call.program for call in wide.calls))
        brief = TimingProtocol("test", 3, 0.001, 0.5)
        timed = measure([foundry.candidate(program) for program in kernels], brief)
    finally:
        measure.close()
    assert [timing.error for timing in timed] == [""] * len(kernels)
    code = foundry[kernels[1]].code.read_bytes()
    start = code.index(b"\x7fELF")
    assert start == 0
    assert kernels[1].name.encode() not in code, "it is known by its content"


def test_nothing_is_compiled_twice(foundry: Foundry, builders: Builders, records, wide: Subject):
    folder = foundry[wide.calls[0].program].code.parent
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = Foundry(builders, records, folder)
    again.compile(wide.calls)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert again.built_as(c.program for c in wide.calls) == foundry.built_as(c.program for c in wide.calls)


def test_another_schedule_is_other_code(foundry: Foundry, builders: Builders, wide: Subject, tmp_path: Path):
    plain = Foundry(builders, [], tmp_path)
    plain.compile(wide.calls)
    programs = [call.program for call in wide.calls]
    assert plain.built_as(programs) != foundry.built_as(programs)


def test_a_kernel_that_does_not_compile_is_named(builders: Builders, wide: Subject, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("tailorbird.tune.foundry.save", lambda mod, path: path.write_text("{}"))
    broken = Foundry(builders, [], tmp_path)
    broken.compile(wide.calls[:1])
    assert broken.errors[wide.calls[0].program]
    with pytest.raises(KeyError):
        broken.candidate(wide.calls[0].program)
