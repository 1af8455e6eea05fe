"""Subnets that were trained beside the full network, which stays the user's own."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from zoo.stripes import HELD, TRAIN
from zoo.stripes import trained as trained_stripes

from tailorbird.errors import ModelError, UsageError
from tailorbird.supernet import SuperNet, elastic
from tailorbird.supernet.accuracy.identity import net_digest
from tailorbird.supernet.accuracy.probe import Probe
from tailorbird.supernet.learnt import Learnt
from tailorbird.supernet.loader import read
from tailorbird.types import Config
from tests.states import trained

X = torch.randn(4, 1, 8, 8)
#: Steps of everything, at rates that show.
SHORT: dict[str, Any] = {"lr": 0.05, "ratios": (), "ema": 0.0, "warm_up": 0.0}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return trained_stripes()


@pytest.fixture
def net(model: nn.Module) -> SuperNet:
    return elastic(model, (torch.randn(1, 1, 8, 8),), divisor=4)


def answers(net: SuperNet, config: Config) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = net(X, config=config)
    return found


def test_the_full_network_stays_the_users_to_the_last_bit(net: SuperNet, model: nn.Module) -> None:
    smallest = net.space.smallest()
    before, small = net_digest(net), answers(net, smallest)
    told: list[Any] = []
    result = net.fit(TRAIN, steps=12, validate=HELD, on_progress=told.append, **SHORT)
    with torch.no_grad():
        assert torch.equal(net(X), model(X))
    own = model.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in net.state_dict().items())
    assert result.full_kept
    assert result.full_before == result.full_after
    assert {now.full for now in told} == {None, result.full_before}
    assert "as before" in result.message
    assert told[-1].subnet_loss < told[0].subnet_loss
    assert not torch.equal(answers(net, smallest), small)
    assert net_digest(net) != before


def test_weights_lie_between_the_users_and_those_learnt(net: SuperNet) -> None:
    net.fit(TRAIN, steps=4, **SHORT)
    learnt = net.learnt
    assert learnt is not None
    for config in itertools.chain([net.space.smallest()], (net.space.sample(seed) for seed in range(6))):
        share = Learnt.share(net.macs(config), net.macs())
        subnet, selection = net.extract(config), net.selection(config)
        for name, value in subnet.named_parameters():
            ends = [net.tensor(name), learnt.get(name)]
            for axis, kept in selection.cuts(net.graph.stored[name]):
                ends = [end.index_select(axis, kept) for end in ends]
            torch.testing.assert_close(value, torch.lerp(*ends, share))
        with torch.no_grad():
            assert torch.equal(subnet(X), answers(net, config))


def test_the_share_of_what_was_learnt_grows_with_what_is_gone() -> None:
    shares = [Learnt.share(macs, 1000) for macs in (1000, 999, 900, 700, 500, 10)]
    assert shares == sorted(shares)
    assert (shares[0], *shares[-2:]) == (0.0, 1.0, 1.0)
    assert 0 < shares[1] < 0.1
    assert Learnt.share(0, 0) == 1.0


def test_saving_keeps_both(net: SuperNet, model: nn.Module, tmp_path: Path) -> None:
    net.fit(TRAIN, steps=2, **SHORT)
    net.save(tmp_path / "net.pt")
    back = SuperNet.load(tmp_path / "net.pt", model, (X[:1],))
    assert net_digest(back) == net_digest(net)
    for config in (Config(), net.space.sample(3), net.space.smallest()):
        assert torch.equal(answers(back, config), answers(net, config))
    data = torch.load(tmp_path / "net.pt", weights_only=True)
    data["learnt"]["stem.0.weight"] = torch.zeros(1)
    torch.save(data, tmp_path / "bad.pt")
    with pytest.raises(ModelError, match="stem"):
        SuperNet.load(tmp_path / "bad.pt", model, (X[:1],))


def test_a_run_that_was_stopped_goes_on_with_what_subnets_learnt(
    net: SuperNet, model: nn.Module, tmp_path: Path
) -> None:
    whole = elastic(model, (X[:1],), divisor=4)
    whole.fit(TRAIN, steps=6, checkpoint=tmp_path / "whole.pt")
    asked = iter([False] * 3)

    def stop(now: Any) -> None:
        if next(asked, True):
            raise OSError("the disk went away")

    with pytest.raises(OSError, match="went away"):
        net.fit(TRAIN, steps=6, checkpoint=tmp_path / "run.pt", every=1, on_progress=stop)
    again = elastic(model, (X[:1],), divisor=4)
    result = again.fit(TRAIN, steps=6, checkpoint=tmp_path / "run.pt", resume=True)
    assert 0 < result.resumed_at < 6
    assert all(torch.equal(value, trained(whole)[name]) for name, value in trained(again).items())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    found = SuperNet.load(tmp_path / "run.pt", model, (X[:1],))
    assert torch.equal(answers(found, net.space.smallest()), answers(again, net.space.smallest()))


def test_a_second_run_goes_on_where_the_first_ended(net: SuperNet, model: nn.Module) -> None:
    net.fit(TRAIN, steps=8, **SHORT)
    first = trained(net)
    result = net.fit(TRAIN, steps=1, validate=HELD, **(SHORT | {"lr": 1e-4}))
    moved = max(float((value - first[name]).abs().max()) for name, value in trained(net).items())
    from_user = max(float((value - first[name]).abs().max()) for name, value in model.state_dict().items())
    assert 0 < moved < from_user / 10
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in net.state_dict().items())
    assert result.full_after == result.full_before


def test_what_fails_leaves_the_full_network_and_what_was_learnt(net: SuperNet, model: nn.Module) -> None:
    with pytest.raises(UsageError):
        net.fit([], steps=1)
    assert net.learnt is None
    with pytest.raises(KeyError):
        net.fit(TRAIN, steps=4, on_progress=lambda now: {}[now.step] if now.step == 2 else None, **SHORT)
    assert net.learnt is not None
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in net.state_dict().items())


def test_training_all_together_needs_one_set_of_weights(net: SuperNet) -> None:
    net.fit(TRAIN, steps=1)
    with pytest.raises(UsageError, match="weights of their own from an earlier fit"):
        net.fit(TRAIN, steps=1, full="trained")
    with pytest.raises(UsageError, match="cannot be kept as it is"):
        net.fit(TRAIN, steps=1, full="kept", teacher="in-place")
    net.load_state_dict(net.state_dict())
    assert net.learnt is None
    assert not net.fit(TRAIN, steps=1, full="trained").full_kept


def test_gradients_of_a_subnet_flow_into_what_was_learnt(net: SuperNet) -> None:
    net.fit(TRAIN, steps=1)
    net.train()
    net(X, config=net.space.smallest()).sum().backward()
    assert net.learnt is not None
    grads = [value.grad for value in net.learnt.parameters()]
    assert any(grad is not None and grad.abs().sum() > 0 for grad in grads)


def test_what_was_learnt_follows_the_network_to_another_precision(net: SuperNet) -> None:
    net.fit(TRAIN, steps=1)
    net.double()
    subnet = net.extract(net.space.smallest())
    assert {value.dtype for value in subnet.parameters()} == {torch.float64}


def test_probes_compare_what_was_learnt_with_itself(net: SuperNet, model: nn.Module) -> None:
    net.fit(TRAIN, steps=8, **SHORT)
    assert net.learnt is not None
    alone = elastic(model, (X[:1],), divisor=4)
    net.learnt.put_into(alone.weights)
    batch = next(read(HELD, net.device, 64))
    here, there = Probe(net, batch), Probe(alone, batch)
    for config in (net.space.sample(1), net.space.smallest(), Config.of({"stem.0": 8})):
        assert here.divergence(config) == there.divergence(config) > 0
