"""Fronts, rungs, deadlines and the search itself, on spaces with known answers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.errors import GateError, UsageError
from tailorbird.search import Encoding, Point, choose_rungs, evolve, pareto_front, search, slo_from
from tailorbird.supernet import Dimension, SearchSpace
from tailorbird.types import Config, Ladder, Rung


def _dead(skipped: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Skipping block b0 leaves nothing of dimension d0."""
    return (frozenset({"d0"}) if "b0" in skipped else frozenset(), frozenset())


SPACE = SearchSpace(
    (
        *(Dimension(f"d{i}", "width", 64, (8, 16, 32, 64)) for i in range(6)),
        *(Dimension(f"b{i}", "depth", 1, (0, 1)) for i in range(2)),
    ),
    _dead,
)


class Net:
    """What a search asks of a SuperNet."""

    space = SPACE

    def macs(self, config: Config) -> int:
        sizes = {f"d{i}": 64 for i in range(6)} | dict(config.sizes)
        return sum(size for name, size in sizes.items() if not (name == "d0" and "b0" in config.skipped)) * 1000

    def params(self, config: Config) -> int:
        return self.macs(config) // 10


NET = Net()


def time_us(config: Config) -> float:
    return NET.macs(config) / 100


def accuracy(config: Config) -> float:
    return 1 - 0.3 * math.exp(-NET.macs(config) / 100_000) - 0.01 * len(config.skipped)


points = st.lists(
    st.builds(
        lambda a, t: Point(Config.of({"x": round(a * 1e6)}), a, t),
        st.floats(0, 1),
        st.floats(1, 1e5),
    ),
    min_size=1,
    max_size=40,
)


@given(points)
def test_no_point_beats_one_of_the_front_and_every_other_is_beaten(sample: list[Point]):
    front = pareto_front(sample)
    for point in sample:
        beaten = any(f.accuracy >= point.accuracy and f.time_us <= point.time_us for f in front)
        assert beaten
    for one in front:
        assert not any(o.accuracy > one.accuracy and o.time_us <= one.time_us for o in sample)
        assert not any(o.accuracy >= one.accuracy and o.time_us < one.time_us for o in sample)


@given(points, st.integers(1, 8), st.floats(0.01, 1.0))
def test_rungs_rise_in_time_and_accuracy_and_keep_their_distance(sample: list[Point], rungs: int, gap: float):
    chosen = choose_rungs(sample, rungs=rungs, least=1, gap=gap)
    assert 1 <= len(chosen) <= rungs
    for lower, upper in itertools.pairwise(chosen):
        assert upper.time_us >= lower.time_us * (1 + gap) * (1 - 1e-9)
        assert upper.accuracy > lower.accuracy
    assert chosen[-1] == pareto_front(sample)[-1], "the most accurate subnet is always a rung"


@given(points, st.integers(2, 4))
def test_no_other_choice_of_rungs_has_a_larger_area(sample: list[Point], rungs: int):
    import itertools

    def area(path: tuple[Point, ...]) -> float:
        return sum(a.accuracy * math.log(b.time_us / a.time_us) for a, b in itertools.pairwise(path))

    front = pareto_front(sample)[:7]
    chosen = choose_rungs(front, rungs=rungs, least=1, gap=0.12)
    for length in range(2, rungs + 1):
        for path in itertools.combinations(front, length):
            legal = path[0] == front[0] and path[-1] == front[-1]
            spaced = all(b.time_us >= a.time_us * 1.12 for a, b in itertools.pairwise(path))
            if legal and spaced:
                assert area(path) <= area(chosen) + 1e-9


def test_rungs_below_the_floor_are_no_use():
    sample = [Point(Config.of({"x": i}), i / 10, 100.0 * 2**i) for i in range(1, 10)]
    assert min(p.accuracy for p in choose_rungs(sample, floor=0.45)) == 0.5


def test_a_front_that_is_too_short_is_a_failed_gate():
    sample = [Point(Config.of({"x": i}), i / 10, 100.0 + i) for i in range(1, 10)]
    with pytest.raises(GateError) as caught:
        choose_rungs(sample)
    assert caught.value.exit_code == 3
    assert caught.value.reason == "LADDER_TOO_SHORT"


@given(st.lists(st.integers(0, 3), min_size=6, max_size=6), st.lists(st.integers(0, 1), min_size=2, max_size=2))
def test_encoding_a_decoded_vector_gives_the_same_subnet(sizes: list[int], blocks: list[int]):
    encoding = Encoding(SPACE)
    config = encoding.decode([*sizes, *blocks])
    assert encoding.decode(encoding.encode(config)) == config
    assert SPACE.canonical(config) == config


def test_each_subnet_is_evaluated_once():
    asked: list[Config] = []

    def count(config: Config) -> float:
        asked.append(config)
        return accuracy(config)

    found = evolve(SPACE, count, time_us, population=16, generations=8)
    assert len(asked) == len(set(asked)) == len(found)
    assert [p.config for p in found[:2]] == [SPACE.full(), SPACE.smallest()]


def test_the_same_seed_finds_the_same_points():
    first, again, other = (evolve(SPACE, accuracy, time_us, generations=6, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_evolution_beats_random_choice_at_equal_cost(seed: int):
    def area(found) -> float:
        front = pareto_front(found)
        ends = [*(point.time_us for point in front[1:]), time_us(SPACE.full())]
        return sum(p.accuracy * math.log(end / p.time_us) for p, end in zip(front, ends, strict=True))

    # Accuracy depends on two dimensions alone: a good search shrinks the others.
    def picky(config: Config) -> float:
        sizes = dict(config.sizes)
        return 0.5 + 0.002 * (sizes.get("d1", 64) + sizes.get("d2", 64)) + 1e-5 * sizes.get("d3", 64)

    found = evolve(SPACE, picky, time_us, seed=seed)
    draws = (SPACE.sample(10_000 * seed + number) for number in range(3000))
    random = list(dict.fromkeys([SPACE.full(), SPACE.smallest(), *draws]))[: len(found)]
    assert area(found) > area([Point(config, picky(config), time_us(config)) for config in random])


def test_a_space_without_choices_has_one_point():
    space = SearchSpace((), _dead)
    assert evolve(space, lambda _: 0.5, lambda _: 10.0) == (Point(Config(), 0.5, 10.0),)


def test_a_search_ends_in_a_ladder_that_rises():
    generations: list[int] = []
    result = search(NET, accuracy, time_us, model="net", on_generation=lambda number, _: generations.append(number))
    ladder = result.ladder
    assert 4 <= len(ladder.rungs) <= 6
    assert [rung.name for rung in ladder.rungs] == [f"r{i}" for i in range(len(ladder.rungs))]
    assert ladder.rungs[-1].config.is_full
    assert all(rung.measured_us is None for rung in ladder.rungs)
    assert [rung.macs for rung in ladder.rungs] == [NET.macs(rung.config) for rung in ladder.rungs]
    assert generations == list(range(1, 17))


def test_measured_times_decide_when_there_are_any():
    asked: list[Config] = []

    def measured(configs: Sequence[Config]) -> dict[Config, float]:
        asked.extend(configs)
        return {config: time_us(config) ** 1.2 for config in configs if not config.is_full}  # which does not run there

    result = search(NET, accuracy, time_us, measure=measured)
    assert SPACE.full() in asked
    assert len(asked) == len(set(asked)) <= 14
    assert SPACE.full() not in [rung.config for rung in result.ladder.rungs]
    for rung in result.ladder.rungs:
        assert rung.measured_us == time_us(rung.config) ** 1.2
        assert rung.predicted_us == time_us(rung.config)


@pytest.mark.parametrize(("rungs", "least"), [(3, 4), (0, 0), (6, 0)])
def test_an_impossible_number_of_rungs_is_refused(rungs: int, least: int):
    with pytest.raises(UsageError):
        search(NET, accuracy, time_us, rungs=rungs, least=least)


def ladder(*times: float) -> Ladder:
    return Ladder("net", "d", tuple(Rung(f"r{i}", Config(), 0.5, 1.0, time, 0, 0) for i, time in enumerate(times)))


def test_the_deadline_lets_the_largest_rung_pass_only_on_a_quiet_device():
    slo_us = slo_from(ladder(100.0, 400.0, 1000.0))
    assert 1000 < slo_us < 2 * 1000
    assert slo_us > 2 * 100


def test_predicted_times_serve_where_nothing_was_measured():
    rung = Rung("r0", Config(), 0.5, 200.0, None, 0, 0)
    wide = Ladder("net", "d", (rung, Rung("r1", Config(), 0.6, 1000.0, None, 0, 0)))
    assert slo_from(wide, factor=1.2) == pytest.approx(1200)


def test_a_ladder_too_narrow_to_adapt_is_a_failed_gate():
    with pytest.raises(GateError) as caught:
        slo_from(ladder(900.0, 1000.0))
    assert caught.value.reason == "LADDER_TOO_NARROW"


@pytest.mark.parametrize("factor", [1.0, 2.0, 5.0])
def test_a_factor_outside_quiet_and_busy_is_refused(factor: float):
    with pytest.raises(ValueError, match="factor"):
        slo_from(ladder(100.0, 1000.0), factor=factor)


def test_rungs_are_chosen_by_what_was_measured_where_candidates_are_confirmed():
    asked: list[Config] = []

    def confirm(configs: Sequence[Config]) -> list[float]:
        asked.extend(configs)
        return [accuracy(config) - 0.2 * config.is_full for config in configs]  # the full network disappoints

    found = search(NET, accuracy, time_us, rungs=4, least=2, confirm=confirm)
    assert len(asked) == len(set(asked)) <= 14
    assert SPACE.full() in asked
    assert SPACE.full() not in [rung.config for rung in found.ladder.rungs]
    assert {rung.config for rung in found.ladder.rungs} <= set(asked)
    assert all(rung.accuracy == accuracy(rung.config) for rung in found.ladder.rungs)
