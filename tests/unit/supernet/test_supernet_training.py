from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from zoo.stripes import HELD, TRAIN, Stripes, stripes
from zoo.stripes import trained as trained_stripes

from tailorbird.errors import UsageError
from tailorbird.supernet import SuperNet, accuracy, elastic
from tailorbird.types import Config
from tests.states import trained as weights_in


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return trained_stripes()


@pytest.fixture
def net(trained: nn.Module) -> SuperNet:
    return elastic(trained, (torch.randn(1, 1, 8, 8),), divisor=4)


def test_accuracy_counts_right_answers(net: SuperNet, trained: nn.Module) -> None:
    with torch.no_grad():
        right = sum(int((trained(x).argmax(1) == y).sum()) for x, y in HELD)
    assert accuracy(net, Config(), HELD) == right / 256
    assert accuracy(net, Config(), HELD, images=100) != 0


def test_recalibration_helps_a_subnet_and_leaves_the_full_network_alone(net: SuperNet) -> None:
    config = Config.of({"stem.0": 8})
    before = accuracy(net, config, HELD)
    full = {name: value.clone() for name, value in net.state_dict().items()}
    net.recalibrate(config, TRAIN, 512)
    net.recalibrate(Config(), TRAIN, 512)
    assert accuracy(net, config, HELD) >= before - 0.02
    assert all(torch.equal(full[name], value) for name, value in net.state_dict().items())
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        sub = net.extract(config)
        assert torch.equal(sub(x), net(x, config=config))
    assert not torch.equal(sub.get_buffer("stem.1.running_mean"), net.weights.stem[1].running_mean[:8])


def test_recalibrated_statistics_are_those_of_the_data(net: SuperNet) -> None:
    config = Config.of({"body.0": 4}) if "body.0" in {d.name for d in net.space.width} else Config.of({"stem.0": 4})
    everything = next(iter(DataLoader(stripes(512, 1), 512)))[0]
    net.recalibrate(config, [everything])
    kept = net.selection(config).cuts(net.graph.stored["stem.0.weight"])[0][1]
    with torch.no_grad():
        x = nn.functional.conv2d(everything, net.weights.stem[0].weight[kept], padding=1)
    found = net.statistics(config)
    torch.testing.assert_close(found["stem.1.running_mean"], x.mean((0, 2, 3)))
    torch.testing.assert_close(found["stem.1.running_var"], x.var((0, 2, 3)))


def test_recalibrating_a_network_without_batch_norm_is_no_work() -> None:
    net = elastic(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)), (torch.randn(1, 4),))
    net.recalibrate(net.space.smallest(), [])
    assert net.recalibrated() == []


def test_an_empty_loader_is_refused(net: SuperNet) -> None:
    with pytest.raises(UsageError, match="recalibrate"):
        net.recalibrate(net.space.smallest(), [])
    with pytest.raises(UsageError, match="evaluate"):
        accuracy(net, Config(), [])
    with pytest.raises(UsageError, match="no batch"):
        net.fit([], steps=1)
    with pytest.raises(UsageError, match="no labels"):
        accuracy(net, Config(), [torch.randn(2, 1, 8, 8)])


@pytest.mark.parametrize("full", ["kept", "trained"])
def test_training_lifts_the_subnets_and_keeps_the_full_network(net: SuperNet, full: str) -> None:
    probes = [net.space.smallest(), *(net.space.sample(seed) for seed in range(4))]

    def mean() -> float:
        for config in probes:
            net.recalibrate(config, TRAIN, 512)
        return sum(accuracy(net, config, HELD) for config in probes) / len(probes)

    before, seen = mean(), []
    result = net.fit(TRAIN, steps=40, lr=0.05, ratios=(), validate=HELD, on_progress=seen.append, full=full)
    assert result.stopped_by == "steps"
    assert [now.step for now in seen if now.planned == 40] == list(range(1, 41))
    assert result.full_after >= result.full_before - 0.003
    assert mean() > before + 0.1
    assert not net.training


@pytest.mark.parametrize("full", ["kept", "trained"])
def test_the_same_seed_trains_the_same_weights(trained: nn.Module, full: str) -> None:
    states = []
    for _ in range(2):
        net = elastic(trained, (torch.randn(1, 1, 8, 8),), divisor=4)
        net.fit(TRAIN, steps=3, seed=7, full=full)
        states.append(weights_in(net))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_an_update_that_ruins_the_full_network_is_taken_back(net: SuperNet) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    result = net.fit(TRAIN, steps=3, lr=50.0, validate=HELD, full="trained")
    assert result.update_kept < 1
    assert result.full_after >= result.full_before - 0.003
    assert "protect" in result.message
    if result.update_kept == 0:
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_time_ends_training(net: SuperNet) -> None:
    result = net.fit(TRAIN, epochs=1000, budget=0.2)
    assert result.stopped_by == "budget"
    assert 0 < result.steps < 1000


def test_statistics_do_not_outlive_the_weights_they_belong_to(net: SuperNet) -> None:
    net.recalibrate(net.space.smallest(), TRAIN, 64)
    assert net.recalibrated()
    net.fit(TRAIN, steps=1)
    assert not net.recalibrated()


def test_bad_options_are_refused(net: SuperNet) -> None:
    with pytest.raises(UsageError):
        net.fit(TRAIN, epochs=1, steps=1)
    with pytest.raises(UsageError):
        net.fit(TRAIN, steps=1, teacher="nobody")
    with pytest.raises(UsageError, match="not for regression"):
        net.fit(TRAIN, steps=1, task="regression", distillation="alpha")


def test_a_budget_covers_what_comes_after_the_last_step(net: SuperNet) -> None:
    scored: list[int] = []

    def validate(run: object) -> float:
        """Takes an hour, and finds that the full network gets worse."""
        scored.append(1)
        return 0.5 if len(scored) == 1 else 0.1

    hours = [0.0]

    def clock() -> float:
        hours[0] += 1
        return hours[0] + 4 * len(scored)

    result = net.fit(TRAIN, budget=300.0, clock=clock, validate=validate, full="trained")
    assert result.stopped_by == "budget"
    assert hours[0] + 4 * len(scored) <= 300
    assert result.seconds > 200


def test_a_saved_net_comes_back_whole(net: SuperNet, trained: nn.Module, tmp_path) -> None:
    net.fit(TRAIN, steps=2)
    config = net.space.sample(3)
    net.recalibrate(config, TRAIN, 128)
    net.save(tmp_path / "net.pt")
    back = SuperNet.load(tmp_path / "net.pt", Stripes(), (torch.randn(1, 1, 8, 8),))
    x = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(back(x, config=config), net(x, config=config))
        assert torch.equal(back(x), net(x))
    assert back.space.size == net.space.size


def test_a_file_of_another_network_is_refused(net: SuperNet, tmp_path) -> None:
    from tailorbird.errors import MissingFileError, ModelError

    net.save(tmp_path / "net.pt")
    other = nn.Sequential(nn.Conv2d(1, 32, 1), nn.Flatten(), nn.Linear(2048, 2))
    with pytest.raises(ModelError, match="cannot be loaded"):
        SuperNet.load(tmp_path / "net.pt", other, (torch.randn(1, 1, 8, 8),))
    with pytest.raises(MissingFileError):
        SuperNet.load(tmp_path / "nothing.pt", other, (torch.randn(1, 1, 8, 8),))
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(ModelError):
        SuperNet.load(tmp_path / "junk.pt", Stripes(), (torch.randn(1, 1, 8, 8),))
