from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from zoo.small_models import ResidualNet, VisionTransformer, randomised

from tailorbird.errors import UsageError
from tailorbird.graph import Inputs
from tailorbird.supernet import AccuracyTable, SuperNet, accuracy, accuracy_table, elastic
from tailorbird.supernet.accuracy.curve import DecreasingCurve
from tailorbird.supernet.accuracy.probe import Probe
from tailorbird.supernet.loader import Batch
from tailorbird.types import Config


@given(
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), min_size=1, max_size=12), st.floats(0, 12), st.floats(0, 12)
)
def test_the_curve_never_rises(points: list[tuple[float, float]], a: float, b: float) -> None:
    curve = DecreasingCurve.fit(points)
    assert all(x < y for x, y in itertools.pairwise(curve.xs))
    assert all(x > y for x, y in itertools.pairwise(curve.ys))
    low, high = sorted((a, b))
    assert curve(low) >= curve(high) - 1e-12


def test_the_curve_goes_through_falling_points() -> None:
    curve = DecreasingCurve.fit([(0, 0.9), (1, 0.7), (2, 0.3)])
    assert [curve(x) for x in (0, 0.5, 1, 2, 4)] == pytest.approx([0.9, 0.8, 0.7, 0.3, 0.15])


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
    assert len(table.anchors) == 8
    assert (table.provenance.probe_images, table.provenance.evaluation_images, table.provenance.seed) == (70, 120, 3)
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert net.recalibrated() == before
    back = AccuracyTable.from_json(table.to_json(), net.space)
    assert back == table
    for seed in range(5):
        assert back.predict(net.space.sample(seed)) == table.predict(net.space.sample(seed))


def test_predictions_fall_as_more_is_cut(net: SuperNet) -> None:
    table = accuracy_table(net, batches(), probe_images=64)
    whole = Config()
    sizes: dict[str, int] = {}
    last = table.predict(whole)
    for dimension in net.space.width:
        sizes[dimension.name] = dimension.choices[0]
        now = table.predict(Config.of(sizes))
        assert now <= last
        last = now


def test_a_loader_without_labels_is_refused(net: SuperNet) -> None:
    with pytest.raises(UsageError, match="labels"):
        accuracy_table(net, [torch.randn(4, 3, 8, 8)])
    with pytest.raises(UsageError, match="nothing to evaluate"):
        accuracy_table(net, [])
