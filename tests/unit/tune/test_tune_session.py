"""Tuning for real: compile, measure on an agent, keep every record, build faster rungs that answer the same."""

from __future__ import annotations

import dataclasses
import platform
import sys
from pathlib import Path

import pytest
import torch
from local_measure import LocalMeasure
from torch import nn
from tuning_rig import BRIEF, TARGET, pool_on

from tailorbird.compile.capture import Network, capture
from tailorbird.compile.tvm.backend import built
from tailorbird.compile.tvm.pipeline import import_network, prepare
from tailorbird.compile.tvm.target import runtime_library
from tailorbird.compile.verify import verify
from tailorbird.db import Store
from tailorbird.device import LocalAgent
from tailorbird.errors import DeviceError
from tailorbird.tune.assemble import build_rungs
from tailorbird.tune.builders import Builders
from tailorbird.tune.cost.adapt import adaptation
from tailorbird.tune.cost.controller import Seen
from tailorbird.tune.cost.learned import LearnedCosts
from tailorbird.tune.cost.saved import load
from tailorbird.tune.kernels import ms
from tailorbird.tune.session import Progress, boards_of, tune
from tailorbird.tune.space import FOREIGN_SKETCH
from tailorbird.types import Candidate, ModuleKind, TimingProtocol

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the modules are compiled for x86_64")

BOARDS = boards_of(TARGET)


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


def records_of(store: Store):
    return store.schedules.of_class(BOARDS, "board").records()


def test_tuned_rungs_are_faster_and_answer_the_same(rungs, prepared, builders, tuning, store) -> None:
    seen: list[Progress] = []
    found = tuning(prepared, store, most_trials=24, on_progress=seen.append)
    records = records_of(store)
    assert found.trials == len(records) > 24, "the plain loops of every kernel come on top"
    assert found.failed == sum(record.cpu_us is None for record in records)
    assert found.count("exact") == 0
    assert (seen[-1].trials, seen[-1].trials_left) == (found.trials, 0)
    assert found.total_us < found.untuned_us / 2
    assert all(kernel.us <= kernel.untuned_us for kernel in found.kernels)
    plain, tuned = build_rungs(prepared, (), builders), build_rungs(prepared, found.best, builders)
    measure, protocol = LocalMeasure(), TimingProtocol("quick", 10, 0.02, 1.0)
    for (module, x, network), (slow, _), (fast, seconds) in zip(rungs, plain, tuned, strict=True):
        assert seconds > 0
        assert verify(built(network, TARGET, fast, seconds, ()), module, [(x,), (x * 2,)]).max_error < 1e-5
        candidates = [Candidate(ModuleKind.TVM_MODEL, library, network.inputs) for library in (slow, fast)]
        before, after = measure(candidates, protocol)
        assert after.cpu_median_us < before.cpu_median_us
    measure.close()

    again = tuning(prepared, store, budget_s=0.0)
    assert again.trials == 0
    assert again.count("exact") > 0
    # Of schedules that are as fast as each other, noise decides.
    assert again.total_us == pytest.approx(found.total_us, rel=0.2)
    elsewhere = tuning(prepared, store, budget_s=0.0, boards=dataclasses.replace(BOARDS, cpu_model="another"))
    assert elsewhere.best == ()


def test_without_budget_and_records_the_rungs_are_built_plain(rungs, prepared, builders, tuning, store) -> None:
    found = tuning(prepared, store, budget_s=0.0)
    assert (found.trials, found.best) == (0, ())
    assert len(found.kernels) > 4
    library, _ = build_rungs(prepared, found.best, builders)[0]
    module, x, network = rungs[0]
    assert verify(built(network, TARGET, library, 0.0, ()), module, [(x,)]).max_error < 1e-5


def small_evolution():
    return ms.search_strategy.EvolutionarySearch(population_size=8, genetic_num_iters=1, init_min_unmeasured=4)


def test_the_search_goes_on_from_the_records_and_repeats_none(prepared, tuning, store) -> None:
    first = tuning(prepared[:1], store, most_trials=12, batch=4)
    second = tuning(prepared[:1], store, most_trials=16, opening_trials=2, evolution=small_evolution)
    assert second.total_us <= first.total_us
    records = records_of(store)
    assert sum(record.source == "search" for record in records) >= 16
    evolved = [(record.workload, record.trace_json) for record in records if record.sketch == FOREIGN_SKETCH]
    drawn = {(record.workload, record.trace_json) for record in records if record.sketch != FOREIGN_SKETCH}
    assert evolved
    assert len(set(evolved)) == len(evolved)
    assert not drawn & set(evolved)


def test_a_learned_cost_model_takes_part_and_ends_kernels_it_is_settled_about(prepared, tuning, store) -> None:
    class AtOnce:
        verify = 1

        def observe(self, batch: Seen) -> bool:
            return len(batch.times_us) > 0

    costs = LearnedCosts(BOARDS, adaptation("fine-tune", load().network), AtOnce)
    options = {"opening_trials": 2, "most_trials": 200, "least_gain": 0.0, "evolution": small_evolution}
    found = tuning(prepared[:1], store, cost=costs, **options)
    assert costs.records > 0
    assert found.trials < 200  # each kernel ended after a batch and its model's last word
    evolved = [record for record in records_of(store) if record.sketch == FOREIGN_SKETCH]
    assert len(evolved) >= costs.records


def test_it_stops_when_nothing_promises_enough(prepared, tuning, store) -> None:
    found = tuning(prepared[:1], store, least_gain=1e6)
    assert found.exhausted
    assert found.trials <= 64


def test_what_was_measured_before_the_device_went_away_is_kept(prepared, builders, store, tmp_path: Path) -> None:
    mortal = LocalAgent.start(tmp_path / "mortal", name="mortal")
    options = {"runtime_library": runtime_library(TARGET.triple), "protocol": BRIEF, "batch": 2, "budget_s": 60.0}

    def kill(_: Progress) -> None:
        mortal._process.kill()

    with pytest.raises(DeviceError), pool_on(mortal, store, patience_s=0.5) as pool:
        tune(pool, prepared, store.schedules, BOARDS, builders, on_progress=kill, **options)
    mortal.stop()
    assert records_of(store)


def test_a_trace_that_no_longer_applies_leaves_the_kernel_plain(rungs, prepared, builders, tuning, store) -> None:
    found = tuning(prepared[:1], store, most_trials=2)
    broken = [dataclasses.replace(record, trace_json="[[],[]]x") for record in found.best]
    library, _ = build_rungs(prepared[:1], broken, builders)[0]
    module, x, network = rungs[0]
    assert verify(built(network, TARGET, library, 0.0, ()), module, [(x,)]).max_error < 1e-5


def test_workers_never_import_torch(builders: Builders) -> None:
    builders.submit({"do": "nothing known"}).result()
    maps = Path(f"/proc/{builders.process_ids()[0]}/maps").read_text()
    assert "libtvm_compiler" in maps
    assert "libtorch" not in maps
    assert "torch" in sys.modules
