"""Seeds first, then evolution, then descent: driven as MetaSchedule drives it, on a made-up device."""

from __future__ import annotations

import math
import platform

import pytest
import torch
from torch import nn

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.capture import capture
from tailorbird.compile.tvm.pipeline import import_network, prepare
from tailorbird.compile.tvm.target import tvm_target
from tailorbird.tune.kernels import Kernel, decisions_of, extract_kernels, ms, stored_trace, workload_key
from tailorbird.tune.space import Choice, neighbours
from tailorbird.tune.strategy import SeededSearch

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the kernel is of x86_64")

TARGET = CompileTarget("x86_64-linux-gnu", "x86-64-v3")


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.ReLU()).eval()
    prepared = prepare(import_network(capture(network, (torch.randn(1, 4, 8, 8),))), TARGET)
    return Kernel(next(mod for name, mod, _ in extract_kernels(prepared, TARGET) if "conv" in name), TARGET)


def made_up_s(schedule) -> float:
    """Best with 16 channels x 4 pixels in the innermost tile."""
    tiles = [tile for tile in decisions_of(schedule) if isinstance(tile, tuple) and len(tile) == 4]
    pixels = math.prod(tile[3] for tile in tiles[:3])
    return 1e-5 * (1 + abs(math.log2(tiles[3][3] / 16)) + abs(math.log2(pixels / 4)))


def driven(kernel: Kernel, strategy, trials: int, batch: int, failing: bool = False) -> list[list]:
    """Batches of schedules that the strategy proposed."""
    context = ms.TuneContext(
        mod=kernel.mod,
        target=tvm_target(TARGET),
        space_generator=ms.space_generator.PostOrderApply(),
        search_strategy=strategy,
        num_threads=1,
        rand_state=1,
    )
    spaces = context.generate_design_space()
    database = ms.database.MemoryDatabase()
    context.pre_tuning(trials, batch, spaces, database, ms.cost_model.RandomModel(seed=1))
    batches = []
    while (candidates := context.generate_measure_candidates()) is not None:
        error = "crashed" if failing else None
        times = [None if failing else [made_up_s(candidate.sch)] for candidate in candidates]
        results = [ms.runner.RunnerResult(seconds, error) for seconds in times]
        context.notify_runner_results(candidates, results)
        batches.append([candidate.sch for candidate in candidates])
        assert sum(map(len, batches)) <= trials
    context.post_tuning()
    return batches


def small() -> object:
    return ms.search_strategy.EvolutionarySearch(
        population_size=8, genetic_num_iters=1, init_measured_ratio=0.5, init_min_unmeasured=4
    )


def test_seeds_come_first_then_evolution_then_descent_improves(kernel: Kernel) -> None:
    poor = kernel.schedule(1, ((1, 1, 1, 1), (8, 1, 1, 1), (8, 1, 1, 1), (16, 1, 1, 1), (1, 3), (1, 3), (4, 1), 0, -1))
    seed = stored_trace(poor)
    strange = '[[["GetSBlock",[],["no such block","main"],["b0"]]],[]]'
    batches = driven(kernel, SeededSearch([strange, seed, seed], small(), 0.75), 24, 4)
    assert len(batches[0]) == 1
    assert decisions_of(batches[0][0]) == decisions_of(poor)
    everything = [schedule for batch in batches for schedule in batch]
    assert len(everything) == 24
    assert len({workload_key(schedule.mod) for schedule in everything}) == 24
    evolved, descended = everything[:6], everything[6:]
    assert min(map(made_up_s, descended)) < min(map(made_up_s, evolved))


def test_without_seeds_or_luck_it_ends(kernel: Kernel) -> None:
    batches = driven(kernel, SeededSearch([], small(), 0.5), 8, 4, failing=True)
    assert sum(map(len, batches)) == 4  # nothing ran, so there is nothing to descend from


def test_neighbours_differ_by_one_step_and_stay_whole() -> None:
    sketch = (Choice("tile", 12, 3), Choice("category", parts=3), Choice("location"))
    start = ((2, 2, 3), 1, 4)
    near = neighbours(sketch, start)
    assert {d[1] for d in near if d[0] == start[0]} == {0, 2}
    tiles = [d[0] for d in near if d[1] == 1]
    assert len(set(near)) == len(near)
    assert all(math.prod(tile) == 12 and tile != start[0] for tile in tiles)
    assert {(1, 4, 3), (4, 1, 3), (2, 1, 6), (6, 2, 1), (2, 6, 1), (1, 2, 6)} == set(tiles)
    assert all(d[2] == 4 for d in near)
    assert neighbours((Choice("tile", 128, 2),), ((2, 64),)) == [((4, 32),)]
