"""Tuning for real: compile, measure in another process, keep every record, build faster rungs that answer the same."""

from __future__ import annotations

import dataclasses
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from local_measure import LocalMeasure
from torch import nn

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.capture import Network, capture
from tailorbird.compile.tvm.backend import built
from tailorbird.compile.tvm.pipeline import import_network, prepare
from tailorbird.compile.verify import verify
from tailorbird.tune.builders import Builders
from tailorbird.tune.store import MemoryRecords
from tailorbird.tune.tuner import Progress, build_rungs, target_name, tune
from tailorbird.types import Candidate, Measurement, ModuleKind, TimingProtocol

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the modules are compiled for x86_64")

TARGET = CompileTarget("x86_64-linux-gnu", "x86-64-v3")


def rung(width: int) -> tuple[nn.Module, torch.Tensor, Network]:
    torch.manual_seed(width)
    layers = [nn.Conv2d(3, width, 3, 1, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU()]
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4)).eval()
    x = torch.randn(1, 3, 16, 16)
    return module, x, capture(module, (x,))


@pytest.fixture(scope="module")
def rungs():
    return [rung(16), rung(24)]


@pytest.fixture(scope="module")
def prepared(rungs):
    return [prepare(import_network(network), TARGET) for _, _, network in rungs]


@pytest.fixture(scope="module")
def builders() -> Iterator[Builders]:
    with Builders(TARGET, workers=1) as pool:
        yield pool


@pytest.fixture
def measure() -> Iterator[LocalMeasure]:
    instance = LocalMeasure()
    yield instance
    instance.close()


def test_tuned_rungs_are_faster_and_answer_the_same(rungs, prepared, builders, measure) -> None:
    records, seen = MemoryRecords(), []
    tuning = tune(prepared, measure, 3.0, records, builders, on_progress=seen.append)
    assert tuning.trials == len(records.records()) >= 8
    assert tuning.failures == sum(record.cpu_us is None for record in records.records())
    assert tuning.exact_hits == 0
    assert isinstance(seen[-1], Progress)
    assert seen[-1].trials == tuning.trials
    empty = dataclasses.replace(tuning, best=())
    plain, tuned = build_rungs(prepared, empty, builders), build_rungs(prepared, tuning, builders)
    protocol = TimingProtocol("quick", 10, 0.02, 1.0)
    for (module, x, network), (slow, _), (fast, seconds) in zip(rungs, plain, tuned, strict=True):
        assert seconds > 0
        assert verify(built(network, TARGET, fast, seconds, ()), module, [(x,), (x * 2,)]).max_error < 1e-5
        candidates = [Candidate(ModuleKind.TVM_MODEL, library, network.inputs) for library in (slow, fast)]
        before, after = measure(candidates, protocol)
        assert after.cpu_median_us < before.cpu_median_us

    again = tune(prepared, measure, 0.0, records, builders)
    assert (again.trials, again.exact_hits) == (0, len(tuning.best))
    assert {record.trace_json for record in again.best} == {record.trace_json for record in tuning.best}


def test_without_budget_and_records_the_rungs_are_built_plain(rungs, prepared, builders, measure) -> None:
    tuning = tune(prepared, measure, 0.0, MemoryRecords(), builders)
    assert (tuning.trials, tuning.best, measure.calls) == (0, (), 0)
    assert tuning.kernels > 4
    libraries = build_rungs(prepared, tuning, builders)
    module, x, network = rungs[0]
    assert verify(built(network, TARGET, libraries[0][0], 0.0, ()), module, [(x,)]).max_error < 1e-5


def test_failures_are_records_and_do_not_stop_the_tuning(prepared, builders) -> None:
    def crashing(candidates, protocol):
        return [Measurement(candidate.label, error="the device crashed") for candidate in candidates]

    records = MemoryRecords()
    tuning = tune(prepared[:1], crashing, 0.1, records, builders, batch=2)
    assert tuning.failures == tuning.trials == len(records.records()) > 0
    assert tuning.best == ()
    assert {record.error for record in records.records()} == {"the device crashed"}


def test_what_was_measured_before_the_device_went_away_is_kept(prepared, builders, measure) -> None:
    class GoneError(Exception):
        pass

    def once(candidates, protocol):
        if measure.calls:
            raise GoneError
        return measure(candidates, protocol)

    records = MemoryRecords()
    with pytest.raises(GoneError):
        tune(prepared, once, 60.0, records, builders, batch=2)
    assert records.records()


def test_records_of_another_target_are_left_alone(prepared, builders, measure) -> None:
    records = MemoryRecords()
    tune(prepared[:1], measure, 0.1, records, builders, batch=2)
    others = MemoryRecords([dataclasses.replace(r, target="elsewhere") for r in records.records()])
    assert tune(prepared[:1], measure, 0.0, others, builders).exact_hits == 0
    assert tune(prepared[:1], measure, 0.0, records, builders).exact_hits > 0
    assert records.records()[0].target == target_name(TARGET) == "x86_64-linux-gnu x86-64-v3 threads=1"


def test_a_trace_that_no_longer_applies_leaves_the_kernel_plain(rungs, prepared, builders, measure) -> None:
    records = MemoryRecords()
    tuning = tune(prepared[:1], measure, 0.1, records, builders, batch=2)
    broken = dataclasses.replace(
        tuning, best=tuple(dataclasses.replace(record, trace_json="[[],[]]x") for record in tuning.best)
    )
    library, _ = build_rungs(prepared[:1], broken, builders)[0]
    module, x, network = rungs[0]
    assert verify(built(network, TARGET, library, 0.0, ()), module, [(x,)]).max_error < 1e-5


def test_workers_never_import_torch(builders: Builders) -> None:
    builders.submit({"do": "nothing known"}).result()
    maps = Path(f"/proc/{builders.process_ids()[0]}/maps").read_text()
    assert "libtvm_compiler" in maps
    assert "libtorch" not in maps
    assert "torch" in sys.modules
