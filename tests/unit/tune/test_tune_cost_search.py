"""The cost model on real kernels: features, drawn schedules, collected records, and what a search does with it."""

from __future__ import annotations

import dataclasses
import json
import math
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.capture import capture
from tailorbird.compile.tvm.pipeline import import_network, prepare
from tailorbird.compile.tvm.target import compiler, runtime_library
from tailorbird.db import Store
from tailorbird.device import Devices, LocalAgent
from tailorbird.tune.builders import Builders
from tailorbird.tune.cost.adapt import Frozen, adaptation
from tailorbird.tune.cost.collect import Bench, Subject, collect
from tailorbird.tune.cost.controller import Never
from tailorbird.tune.cost.draw import draw
from tailorbird.tune.cost.features import WIDTH, store_features
from tailorbird.tune.cost.harvest import harvest
from tailorbird.tune.cost.learned import LearnedCosts
from tailorbird.tune.cost.network import CostNetwork, NetworkShape
from tailorbird.tune.kernels import Kernel, context_of, decisions_of, extract_kernels, ms, stored_trace, workload_key
from tailorbird.tune.strategy import SeededSearch
from tailorbird.types import TimingProtocol
from tailorbird.types.schedule import DeviceClass

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the kernels are of x86_64")

TARGET = CompileTarget("x86_64-linux-gnu", "x86-64-v3")
BOARDS = DeviceClass(TARGET.triple, TARGET.llvm_cpu, 1, "cpu", 2, ("avx2", "fma"))
BRIEF = TimingProtocol("kernel", min_runs=3, min_seconds=0.002, max_seconds=0.1)


@pytest.fixture(scope="module")
def mod() -> Any:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.ReLU()).eval()
    prepared = prepare(import_network(capture(network, (torch.randn(1, 4, 8, 8),))), TARGET)
    return next(found for name, found, _ in extract_kernels(prepared, TARGET) if "conv" in name)


@pytest.fixture(scope="module")
def kernel(mod: Any) -> Kernel:
    return Kernel(mod, TARGET)


@pytest.fixture(scope="module")
def drawn(kernel: Kernel) -> list[Any]:
    return [kernel.schedule(*each) for each in draw(kernel, "conv", 12, seed=1)]


def candidates(schedules: list[Any]) -> list[Any]:
    return [
        ms.search_strategy.MeasureCandidate(each, ms.arg_info.ArgInfo.from_entry_func(each.mod, remove_preproc=True))
        for each in schedules
    ]


def test_drawn_schedules_are_distinct_and_the_same_each_time(kernel: Kernel, drawn: list[Any]) -> None:
    assert len({workload_key(schedule.mod) for schedule in drawn}) == 12
    assert [decisions_of(schedule) for schedule in drawn] == [d for _, d in draw(kernel, "conv", 12, seed=1)]
    assert draw(kernel, "conv", 12, seed=2) != draw(kernel, "conv", 12, seed=1)


def test_features_hold_nothing_of_the_cpu_but_its_threads(mod: Any, drawn: list[Any]) -> None:
    here = store_features(mod, drawn, TARGET)
    assert {each.shape[1] for each in here} == {WIDTH}
    assert all(np.isfinite(each).all() and len(each) for each in here)
    old = store_features(mod, drawn, dataclasses.replace(TARGET, llvm_cpu="x86-64-v2"))
    assert all(np.array_equal(a, b) for a, b in zip(here, old, strict=True))
    assert len({each.tobytes() for each in here}) > 6
    assert store_features(mod, [], TARGET) == []


# -- in a search


def made_up_us(schedule: Any) -> float:
    tiles = [tile for tile in decisions_of(schedule) if isinstance(tile, tuple) and len(tile) == 4]
    pixels = math.prod(tile[3] for tile in tiles[:3])
    return 10.0 * (1 + abs(math.log2(tiles[3][3] / 16)) + abs(math.log2(pixels / 4)))


class Scripted:
    """Costs that know the truth, and are settled when told so."""

    def __init__(self, verify: int = 2) -> None:
        self.verify, self.settled = verify, False

    def scores(self, context: Any, candidates: Any) -> Any:
        return np.array([-made_up_us(candidate.sch) for candidate in candidates])


def searching(kernel: Kernel, strategy: SeededSearch, trials: int, batch: int, model: Any = None) -> Any:
    context = context_of(kernel.mod, TARGET, strategy)
    model = ms.cost_model.RandomModel(seed=1) if model is None else model
    context.pre_tuning(trials, batch, context.generate_design_space(), ms.database.MemoryDatabase(), model)
    return context


def small() -> Any:
    return ms.search_strategy.EvolutionarySearch(
        population_size=8, genetic_num_iters=1, init_measured_ratio=0.5, init_min_unmeasured=4
    )


def answered(context: Any, batch: Any) -> list[Any]:
    results = [ms.runner.RunnerResult([made_up_us(each.sch) * 1e-6], None) for each in batch]
    context.notify_runner_results(batch, results)
    return results


def test_seeds_and_descent_are_ordered_by_the_cost_model(kernel: Kernel, drawn: list[Any]) -> None:
    seeds = [stored_trace(schedule) for schedule in drawn]
    context = searching(kernel, SeededSearch(seeds, small(), 1.0, cost=Scripted()), 40, 4)
    times = []
    for _ in range(4):
        batch = context.generate_measure_candidates()
        times.append([made_up_us(each.sch) for each in batch])
        answered(context, batch)
    assert times[0] + times[1] + times[2] == sorted(made_up_us(schedule) for schedule in drawn)
    plain = searching(kernel, SeededSearch(seeds[:1], small(), 1.0), 40, 4)
    answered(plain, plain.generate_measure_candidates())
    assert min(times[3]) <= min(made_up_us(each.sch) for each in plain.generate_measure_candidates())


def test_a_settled_kernel_gets_the_last_word_of_its_model_and_ends(kernel: Kernel, drawn: list[Any]) -> None:
    costs = Scripted(verify=2)
    context = searching(kernel, SeededSearch([stored_trace(drawn[0])], small(), 0.2, cost=costs), 100, 4)
    answered(context, context.generate_measure_candidates())
    costs.settled = True
    last = context.generate_measure_candidates()
    assert len(last) == 2
    answered(context, last)
    assert context.generate_measure_candidates() is None


def test_nothing_is_verified_where_nothing_is_wanted(kernel: Kernel) -> None:
    costs = Scripted(verify=0)
    costs.settled = True
    assert searching(kernel, SeededSearch([], small(), cost=costs), 100, 4).generate_measure_candidates() is None


def test_learning_from_batches_orders_the_rest(kernel: Kernel, drawn: list[Any]) -> None:
    costs = LearnedCosts(BOARDS, adaptation("scratch", shape=NetworkShape(64)), Never)
    mine = costs.kernel("k")
    assert mine is costs.kernel("k")
    context, found = context_of(kernel.mod, TARGET), candidates(drawn)
    before = mine.scores(context, found)
    assert np.array_equal(before, mine.model.predict(context, found))
    results = [ms.runner.RunnerResult([made_up_us(each) * 1e-6], None) for each in drawn[:10]]
    results += [ms.runner.RunnerResult(None, "crashed"), ms.runner.RunnerResult([math.nan], None)]
    mine.model.update(context, found, results)
    after = mine.scores(context, found)
    assert costs.records == 12
    assert np.all((after > 0) & (after < 1))
    assert np.corrcoef(after[:10], [-made_up_us(each) for each in drawn[:10]])[0, 1] > 0.5
    assert max(after[10:]) < np.median(after)  # failures sink
    assert costs.model_s > 0


def test_a_search_runs_on_the_learned_model(kernel: Kernel) -> None:
    costs = LearnedCosts(BOARDS, Frozen(CostNetwork(NetworkShape(16))))
    mine = costs.kernel(workload_key(kernel.mod))
    context = searching(kernel, SeededSearch([], small(), 0.5, cost=mine), 8, 4, mine.model)
    tried = 0
    while (batch := context.generate_measure_candidates()) is not None:
        mine.model.update(context, batch, answered(context, batch))
        tried += len(batch)
    assert tried == 8 == costs.records


# -- collected on a real agent


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAgent]:
    started = LocalAgent.start(tmp_path_factory.mktemp("agent"), name="a")
    yield started
    started.stop()


def test_collecting_goes_on_where_it_ended_and_gives_a_corpus(mod: Any, agent: LocalAgent, tmp_path: Path) -> None:
    counts = []
    with Store(tmp_path / "s.db") as store, Builders(TARGET, workers=1, timeout_s=90.0) as builders:
        devices = Devices(store)
        devices.add("a", str(agent.control), ())
        with devices.pool("a", linger_s=0.1) as pool:
            bench = Bench(builders, BOARDS, pool, runtime_library(TARGET.triple))
            options: dict[str, Any] = {"board": "a", "protocol": BRIEF, "seed": 1}
            subject = Subject("tiny", "conv", mod)
            counts = [collect([subject], [bench], store.schedules, count=n, **options) for n in (3, 5, 5)]
        assert counts == [4, 3, 0]  # plain loops beside the first three, and again beside the other two
        records = store.schedules.of_class(BOARDS, "a").records()
        corpus = harvest(store.schedules)
        assert harvest(store.schedules, lambda boards: boards.threads == 2).tasks == ()
    (task,) = corpus.tasks
    assert (task.network, task.boards, len(task.features)) == ("tiny", BOARDS, 5)
    scheduled = {record.trace_json: record.cpu_us for record in records if json.loads(record.trace_json)[0]}
    assert sorted(task.times_us) == sorted(scheduled.values())
    assert corpus.compiler == compiler()


def test_records_of_another_tvm_are_left_out(mod: Any, drawn: list[Any], tmp_path: Path) -> None:
    from tailorbird.tune.database import with_module
    from tailorbird.types.schedule import ScheduleRecord

    with Store(tmp_path / "s.db") as store:
        store.schedules.put_workloads([with_module(mod, "tiny/conv")])
        schedules = store.schedules.of_class(BOARDS, "a")
        for number, schedule in enumerate(drawn[:6]):
            release = compiler() if number < 4 else "apache-tvm 0.15"
            trace = '[[["GetSBlock",[],["absent","main"],["b0"]]],[]]' if number == 3 else stored_trace(schedule)
            schedules.add(
                ScheduleRecord("t", workload_key(mod), "", (), 0, "[]", trace, 5.0 + number, compiler=release)
            )
        (task,) = harvest(store.schedules).tasks
    assert task.times_us.tolist() == [5.0, 6.0, 7.0]
