from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn
from zoo.small_models import ResidualNet, VisionTransformer, randomised

from tailorbird.errors import TailorbirdError, UsageError
from tailorbird.graph import Inputs
from tailorbird.supernet import AccuracyTable, SuperNet, accuracy, accuracy_table, elastic
from tailorbird.supernet.accuracy.additive import Additive, Factor
from tailorbird.supernet.accuracy.agenda import Agenda, config_of
from tailorbird.supernet.accuracy.curve import DecreasingCurve
from tailorbird.supernet.accuracy.decay import DecayCurve
from tailorbird.supernet.accuracy.kriging import Kriging
from tailorbird.supernet.accuracy.probe import Probe
from tailorbird.supernet.loader import Batch
from tailorbird.supernet.task import Task
from tailorbird.types import Config

points = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), min_size=1, max_size=12)


@given(points, st.floats(0, 12), st.floats(0, 12))
@example([(0.0, 0.0), (1.0, 0.0), (2.2250738585e-313, 0.0)], 0.0, 0.0)
def test_no_curve_rises(points: list[tuple[float, float]], a: float, b: float) -> None:
    low, high = sorted((a, b))
    for fit in (DecayCurve.fit, DecreasingCurve.fit):
        curve = fit(points)
        assert curve(low) >= curve(high) - 1e-12
    isotonic = DecreasingCurve.fit(points)
    assert all(x < y for x, y in itertools.pairwise(isotonic.xs))
    assert all(x > y for x, y in itertools.pairwise(isotonic.ys))


def test_the_isotonic_curve_goes_through_falling_points() -> None:
    curve = DecreasingCurve.fit([(0, 0.9), (1, 0.7), (2, 0.3)])
    assert [curve(x) for x in (0, 0.5, 1, 2, 4)] == pytest.approx([0.9, 0.8, 0.7, 0.3, 0.15])


def test_the_isotonic_curve_pools_points_that_rise_and_decays_beyond_the_last_point() -> None:
    curve = DecreasingCurve.fit([(0, 0.9), (1, 0.3), (3, 0.5)], floor=0.2)
    assert (curve.xs, curve.ys) == ((0, 2), (0.9, 0.4))
    assert [curve(x) for x in (2, 2.5, 3, 6)] == pytest.approx([0.4, 0.4, 0.4, 0.3])


def test_the_decay_goes_near_falling_points_and_ranks_what_lies_between_and_beyond() -> None:
    points = [(0, 0.9), (0.5, 0.85), (1, 0.7), (2, 0.4), (4, 0.2)]
    curve = DecayCurve.fit(points)
    assert curve(0) == 0.9
    assert [curve(x) for x, _ in points] == pytest.approx([y for _, y in points], abs=0.07)
    heights = [curve(x / 10) for x in range(80)]
    assert all(high > low for high, low in itertools.pairwise(heights))
    assert heights[-1] > 0


def test_the_decay_takes_metrics_below_zero_and_points_that_do_not_fall() -> None:
    explained = DecayCurve.fit([(0, 0.8), (1, 0.1), (3, -2.5)])
    assert explained(3) == pytest.approx(-2.5, abs=0.3)
    rising = DecayCurve.fit([(0, 0.5), (1, 0.6), (2, 0.55)])
    assert 0.45 < rising(2) <= rising(0) < 0.6
    assert DecayCurve.fit([(0, 1)])(0) == 1


@pytest.mark.parametrize("make", [ResidualNet, VisionTransformer])
def test_a_probe_that_reuses_the_full_networks_activations_finds_the_same_divergence(make: type[nn.Module]) -> None:
    torch.set_num_threads(1)
    net = elastic(randomised(make()).eval(), (torch.randn(1, 3, 16, 16),))
    x = torch.randn(8, 3, 16, 16)
    probe, whole = Probe(net, Batch(Inputs((x,)))), Probe(net, Batch(Inputs((x,))))
    whole._reusable = False
    assert probe.divergence(Config()) == pytest.approx(0, abs=1e-6)
    for dimension in net.space.dimensions:
        sized = Config.of({dimension.name: dimension.choices[0]})
        config = Config.of(skipped=[dimension.name]) if dimension.kind == "depth" else sized
        assert probe.divergence(config) == pytest.approx(whole.divergence(config), rel=1e-4, abs=1e-6)
        assert probe.divergence(config) > 0


@pytest.fixture(scope="module")
def net() -> SuperNet:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return elastic(randomised(ResidualNet(8)).eval(), (torch.randn(1, 3, 8, 8),), divisor=2)


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(40, 3, 8, 8, generator=generator), torch.randint(0, 10, (40,), generator=generator))
        for _ in range(3)
    ]


def test_a_table_covers_every_factor_records_where_it_comes_from_and_survives_json(net: SuperNet) -> None:
    before = net.recalibrated()
    seen: list[tuple[int, int]] = []
    table = accuracy_table(net, batches(), probe_images=70, seed=3, on_progress=lambda *state: seen.append(state))
    wanted = {(d.name, k) for d in net.space.dimensions for k in d.choices[:-1]}
    assert {(f.name, f.choice) for f in table.factors} == wanted
    assert table.full_accuracy == accuracy(net, Config(), batches())
    assert len(table.anchors) == 10
    assert (table.provenance.probe_images, table.provenance.evaluation_images, table.provenance.seed) == (70, 120, 3)
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert net.recalibrated() == before
    back = AccuracyTable.from_json(table.to_json(), net.space)
    assert back == table
    for seed in range(5):
        assert back.predict(net.space.sample(seed)) == table.predict(net.space.sample(seed))


def test_divergences_rise_as_more_is_cut(net: SuperNet) -> None:
    table = accuracy_table(net, batches(), anchors=0, probe_images=64)
    sizes: dict[str, int] = {}
    last = table.divergence(Config())
    assert last == 0
    for dimension in net.space.width:
        sizes[dimension.name] = dimension.choices[0]
        now = table.divergence(Config.of(sizes))
        assert now >= last
        last = now


def additive(net: SuperNet) -> Additive:
    """Every change does as much damage as any other."""
    return Additive(net.space, tuple(Factor(d.name, c, 1.0) for d in net.space.dimensions for c in d.choices[:-1]))


def test_what_the_curve_leaves_is_carried_over_to_subnets_alike(net: SuperNet) -> None:
    model = additive(net)
    configs = list(dict.fromkeys(net.space.canonical(net.space.sample(seed)) for seed in range(80)))
    blamed = net.space.width[0].name

    def left(config: Config) -> float:
        """An effect of one size, and an interaction of it with another one."""
        cut = {name for name, _ in config.sizes}
        return -0.05 * (blamed in cut) - 0.05 * ({blamed, net.space.width[1].name} <= cut)

    known, unknown = configs[:40], configs[40:]
    correction = Kriging.fit(model, known, [left(config) for config in known])
    errors = [abs(correction(config) - left(config)) for config in unknown]
    assert sum(errors) < 0.5 * sum(abs(left(config)) for config in unknown)
    assert correction(Config()) == 0


def test_noise_and_nothing_are_not_carried_over(net: SuperNet) -> None:
    model = additive(net)
    configs = list(dict.fromkeys(net.space.canonical(net.space.sample(seed)) for seed in range(60)))
    noise = torch.randn(len(configs), generator=torch.Generator().manual_seed(0)).mul(0.02).tolist()
    correction = Kriging.fit(model, configs[:30], noise[:30])
    assert sum(correction(config) ** 2 for config in configs[30:]) < 0.5 * sum(value**2 for value in noise[30:])
    for silent in (Kriging.fit(model, configs, [0.0] * len(configs)), Kriging.fit(model, [], [])):
        assert silent(configs[0]) == 0


def test_a_loader_without_labels_is_refused(net: SuperNet) -> None:
    with pytest.raises(UsageError, match="labels"):
        accuracy_table(net, [torch.randn(4, 3, 8, 8)])
    with pytest.raises(UsageError, match="nothing to evaluate"):
        accuracy_table(net, [])


def small_table(net: SuperNet, data: Any = None, **options: Any) -> AccuracyTable:
    settings = {"anchors": 2, "probe_images": 40, "evaluation_images": 80, "workers": 1, **options}
    return accuracy_table(net, batches() if data is None else data, **settings)


def test_the_number_of_workers_changes_nothing_and_neither_does_the_cache(net: SuperNet, tmp_path: Path) -> None:
    alone = small_table(net)
    assert small_table(net, workers=3) == alone
    first = small_table(net, cache=tmp_path)
    again = small_table(net, cache=tmp_path)
    assert alone == first == again
    assert first.provenance.remembered == 0
    assert again.provenance.remembered == again.provenance.probes + again.provenance.evaluations
    assert again.to_json() != first.to_json()  # it says what the cache saved


def test_work_goes_on_where_it_was_interrupted_and_damaged_results_are_found_again(
    net: SuperNet, tmp_path: Path
) -> None:
    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_table(net, cache=tmp_path, on_progress=stop)
    kept = sorted(tmp_path.rglob("*.json"))
    assert kept
    times = {path: path.stat().st_mtime_ns for path in kept}
    kept[0].write_bytes(kept[0].read_bytes()[:-20])
    kept[1].write_text('{"answer": {"divergence": 0.0}, "sha256": "0"}')
    whole = small_table(net, cache=tmp_path)
    assert whole == small_table(net)
    assert all((path.stat().st_mtime_ns == times[path]) == (path not in kept[:2]) for path in kept)
    assert whole.provenance.remembered >= len(kept) - 3


def test_the_cache_tells_weights_samples_and_labels_apart(net: SuperNet, tmp_path: Path) -> None:
    small_table(net, cache=tmp_path)
    (x, y), *others = batches()
    relabelled = small_table(net, [(x, (y + 1) % 10), *others], cache=tmp_path)
    assert relabelled.provenance.remembered == relabelled.provenance.probes  # labels are for anchors alone
    assert small_table(net, [(x + 1, y), *others], cache=tmp_path).provenance.remembered == 0
    other = copy.deepcopy(net)
    with torch.no_grad():
        next(other.weights.parameters()).mul_(1.5)
    assert small_table(other, cache=tmp_path).provenance.remembered == 0


def test_one_change_is_predicted_by_its_own_probe(net: SuperNet) -> None:
    table = small_table(net)
    for factor in table.factors:
        single = config_of(net.space, (factor.name, factor.choice))
        assert table.divergence(single) == pytest.approx(factor.divergence, rel=1e-3, abs=1e-6)


def test_a_budget_interpolates_choices_and_says_so(net: SuperNet) -> None:
    dimensions, choices = len(net.space.dimensions), sum(len(d.choices) - 1 for d in net.space.dimensions)
    few = small_table(net, max_evaluations=dimensions + 3)
    assert few.provenance.probes == dimensions
    assert few.provenance.probes + few.provenance.evaluations == dimensions + 3
    guessed = [factor for factor in few.factors if not factor.probed]
    assert len(guessed) == choices - dimensions
    assert any(note.startswith(f"{len(guessed)} of {choices} choices") for note in few.notes)
    for dimension in net.space.dimensions:
        found = [f.divergence for f in few.factors if f.name == dimension.name]
        assert found == sorted(found, reverse=True)
        assert few.divergence(net.space.smallest()) >= 0
    many = small_table(net, max_evaluations=choices + 3 + 5)
    assert many.provenance.probes + many.provenance.evaluations == choices + 3
    assert not any("interpolated" in note for note in many.notes)
    with pytest.raises(UsageError, match="too few"):
        small_table(net, max_evaluations=dimensions)


def test_anchors_take_the_room_of_a_budget_before_further_choices(net: SuperNet) -> None:
    dimensions, choices = len(net.space.dimensions), sum(len(d.choices) - 1 for d in net.space.dimensions)

    def spent(runs: int) -> tuple[int, int]:
        agenda = Agenda.of(net.space, runs, None)
        assert len(agenda.singles) + agenda.anchors + 1 == runs
        return len(agenda.singles), agenda.anchors

    assert spent(dimensions + 11) == (dimensions, 10)
    assert spent(3 * dimensions + 1 + 1) == (dimensions + 1, max(10, 2 * dimensions))
    assert spent(choices + 500) == (choices, 499)
    assert Agenda.of(net.space, None, 3).anchors == 3


def test_a_table_ranks_without_labels_when_no_anchors_are_wanted(net: SuperNet) -> None:
    table = small_table(net, [x for x, _ in batches()], anchors=0)
    assert (table.anchors, table.provenance.evaluations) == ((), 0)
    assert any("no accuracies" in note for note in table.notes)
    configs = [net.space.sample(seed) for seed in range(10)]
    by_merit = sorted(configs, key=table.predict, reverse=True)
    assert [table.divergence(c) for c in by_merit] == sorted(table.divergence(c) for c in configs)


def test_samples_that_were_trained_on_are_reported(net: SuperNet) -> None:
    held = batches()
    seen = held[0][0]
    table = small_table(net, held, training=[(seen[:20], torch.zeros(20)), (seen[20:24] + 1, torch.zeros(4))])
    assert table.provenance.overlap == pytest.approx(20 / 80)
    assert any(note.startswith("25% of the held-out samples") for note in table.notes)
    assert small_table(net, held, training=[(seen + 1, torch.zeros(40))]).provenance.overlap == 0


def test_a_net_is_left_as_it_was(net: SuperNet) -> None:
    mine = copy.deepcopy(net).train()
    config = mine.space.sample(3)
    mine.recalibrate(config, batches())
    before, random_state = mine.recalibrated(), torch.random.get_rng_state()
    weights = {name: value.clone() for name, value in mine.state_dict().items()}
    shuffled = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*(torch.cat(column) for column in zip(*batches(), strict=True))),
        batch_size=40,
        shuffle=True,
    )
    small_table(mine, shuffled)
    assert mine.training
    assert [c for c, _ in mine.recalibrated()] == [c for c, _ in before]
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert all(torch.equal(value, weights[name]) for name, value in mine.state_dict().items())


class TwoInputs(nn.Module):
    """Adds what it makes of an image and of a vector; answers (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3))
        self.vector = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, image: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        return cast("torch.Tensor", self.head(self.image(image).mean((2, 3)) + self.vector(vector)))


def gap(output: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return (output - wanted).abs().mean()


def closeness(output: torch.Tensor, target: torch.Tensor) -> float:
    return 1 - float((output - target).abs().mean())


@pytest.mark.parametrize("task", ["classification", "regression", "multilabel", "own"])
def test_every_task_and_inputs_by_name_have_a_table(task: str) -> None:
    torch.manual_seed(2)
    example = {"image": torch.randn(1, 3, 8, 8), "vector": torch.randn(1, 5)}
    net = elastic(randomised(TwoInputs()).eval(), example, divisor=4)
    image, vector = torch.randn(30, 3, 8, 8), torch.randn(30, 5)
    with torch.no_grad():
        answers = net(image, vector)
    targets = {"classification": answers.argmax(-1), "multilabel": (answers > 0).float()}.get(task, answers)
    own = Task("closeness", gap, closeness, gap)
    judged = Task.of(task) if task != "own" else own
    named = [{"image": image, "vector": vector, "labels": targets}]
    table = small_table(net, named, task=judged, probe_images=30, evaluation_images=30)
    assert table.full_accuracy == pytest.approx(1)
    assert table.predict(net.space.smallest()) < 1
    assert all(factor.divergence > 0 for factor in table.factors)
    assert small_table(net, [((image, vector), targets)], task=judged, probe_images=30, evaluation_images=30) == table
    assert AccuracyTable.from_json(table.to_json(), net.space, judged) == table


def test_confirmed_candidates_have_the_accuracy_and_the_statistics_that_recalibration_gives(
    net: SuperNet, tmp_path: Path
) -> None:
    mine, other = copy.deepcopy(net), copy.deepcopy(net)
    table = small_table(mine)
    candidates = [Config(), *(mine.space.sample(seed) for seed in (1, 2, 1))]
    found = table.confirm(mine, candidates, batches(), recalibration=batches()[:1], workers=2, cache=tmp_path)
    assert [confirmed.config for confirmed in found] == candidates
    for confirmed in found:
        other.recalibrate(confirmed.config, batches()[:1])
        assert confirmed.accuracy == accuracy(other, confirmed.config, batches())
        assert accuracy(mine, confirmed.config, batches()) == confirmed.accuracy
    assert table.confirm(mine, candidates, iter(batches()), recalibration=batches()[:1], cache=tmp_path) == found


@pytest.mark.parametrize(
    ("data", "options", "match"),
    [
        ([], {}, "nothing to evaluate"),
        ([(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 10]))], {}, "10 classes"),
        ([(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, -1]))], {}, "from -1 to 2"),
        ([(torch.randn(4, 3, 8, 8), torch.randn(4))], {}, "do not fit"),
        ([(torch.randn(4, 3, 8), torch.zeros(4, dtype=torch.long))], {}, "does not fit"),
        (None, {"recalibration": []}, "recalibrate on"),
        (None, {"training": []}, "nothing to compare"),
        (None, {"anchors": -1}, "-1 anchors"),
        (None, {"probe_images": 0}, "0 images"),
        (None, {"task": "guessing"}, "no task"),
        (None, {"task": Task("own", gap, closeness, lambda _a, _b: 1 / 0)}, "cannot compare"),
    ],
)
def test_bad_input_is_refused(net: SuperNet, data: Any, options: dict[str, Any], match: str) -> None:
    with pytest.raises(TailorbirdError, match=match):
        small_table(net, data, **options)


def test_a_table_of_another_space_and_a_text_that_is_no_table_are_refused(net: SuperNet) -> None:
    table = small_table(net, anchors=0)
    smaller = elastic(randomised(ResidualNet(8)).eval(), (torch.randn(1, 3, 8, 8),), divisor=4)
    with pytest.raises(UsageError, match="another search space"):
        AccuracyTable.from_json(table.to_json(), smaller.space)
    with pytest.raises(UsageError, match="no accuracy table"):
        AccuracyTable.from_json('{"anchors": []}', net.space)


def test_a_budget_goes_into_anchors_where_subnets_have_weights_of_their_own() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = elastic(randomised(ResidualNet(8)).eval(), (torch.randn(1, 3, 8, 8),), divisor=2)
    net.fit(batches(), steps=2, precision="float32")
    table = accuracy_table(net, batches(), max_evaluations=14, evaluation_images=80)
    assert (table.provenance.probes, table.provenance.evaluations, table.provenance.probe_images) == (0, 14, 0)
    assert any("No change was probed" in note for note in table.notes)
    changes = {(f.name, f.choice): f.divergence for f in table.factors}
    assert len(changes) == sum(len(d.choices) - 1 for d in net.space.dimensions)
    for dimension in net.space.dimensions:
        found = [changes[dimension.name, choice] for choice in dimension.choices[:-1]]
        assert found == sorted(found, reverse=True)
        assert 0 < found[0] < 1
    back = AccuracyTable.from_json(table.to_json(), net.space)
    assert back == table
    assert back.predict(net.space.smallest()) == table.predict(net.space.smallest())
    # Asked for a number of anchors, or for none, it probes.
    assert small_table(net, anchors=1).provenance.probes > 0
    with pytest.raises(UsageError, match="too few"):
        accuracy_table(net, batches(), max_evaluations=10)
