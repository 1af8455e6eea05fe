"""One subnet trained alone: it learns, never gets worse, and its weights find their way back into the SuperNet."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zoo.stripes import HELD, TRAIN, Stripes
from zoo.stripes import trained as trained_stripes

from tailorbird.errors import UsageError
from tailorbird.supernet import SuperNet, accuracy, elastic
from tailorbird.types import Config


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return trained_stripes(dropout=0.1)


@pytest.fixture
def net(trained: nn.Module) -> SuperNet:
    return elastic(trained, (torch.randn(1, 1, 8, 8),), divisor=4)


def test_a_fine_tuned_subnet_is_better_and_the_supernet_is_as_it_was(net: SuperNet) -> None:
    config = net.space.smallest()
    net.recalibrate(config, TRAIN)
    shared = {name: value.clone() for name, value in net.state_dict().items()}
    before, untuned = accuracy(net, config, HELD), net.extract(config)
    tuned = net.fine_tune(config, TRAIN, steps=48, lr=0.1, validate=HELD)
    assert tuned.before == before
    assert tuned.after > before + 0.1
    assert tuned.config == config
    assert all(torch.equal(shared[name], value) for name, value in net.state_dict().items())
    moved = tuned.module.get_buffer("stem.1.running_mean") - untuned.get_buffer("stem.1.running_mean")
    assert moved.abs().max() > 0
    assert not any(module.training for module in tuned.module.modules())


def test_what_makes_a_subnet_worse_is_left_out(net: SuperNet) -> None:
    config = net.space.smallest()
    net.recalibrate(config, TRAIN)
    untouched = net.extract(config).state_dict()
    tuned = net.fine_tune(config, TRAIN, steps=2, lr=1000.0, clip=1e6, validate=HELD)
    assert tuned.after == tuned.before
    assert tuned.fit.update_kept == 0
    assert all(torch.equal(untouched[name], value) for name, value in tuned.module.state_dict().items())


def test_the_supernet_answers_with_adopted_weights_until_it_is_trained_again(net: SuperNet, trained, tmp_path) -> None:
    config, other = net.space.smallest(), net.space.sample(5)
    tuned = net.fine_tune(config, TRAIN, steps=4, lr=0.1)
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        elsewhere = net(x, config=other)
        net.adopt(config, tuned.module)
        wanted = tuned.module(x)
        assert torch.equal(net(x, config=config), wanted)
        assert torch.equal(net.extract(config)(x), wanted)
        assert torch.equal(net(x, config=other), elsewhere)
        net.save(tmp_path / "net.pt")
        assert torch.equal(
            SuperNet.load(tmp_path / "net.pt", Stripes(), (torch.randn(1, 1, 8, 8),))(x, config=config), wanted
        )
    net.recalibrate(config, TRAIN)
    assert torch.equal(net.extract(config).get_parameter("fc.weight"), tuned.module.get_parameter("fc.weight"))
    assert not torch.equal(
        net.extract(config).get_buffer("stem.1.running_mean"), tuned.module.get_buffer("stem.1.running_mean")
    )
    net.fit(TRAIN, steps=1)
    assert not net.recalibrated()


def test_weights_of_another_subnet_are_refused(net: SuperNet) -> None:
    with pytest.raises(UsageError, match="is not subnet"):
        net.adopt(net.space.smallest(), net.extract())
    with pytest.raises(UsageError, match="own weights"):
        net.adopt(Config(), net.extract())
    with pytest.raises(UsageError, match="no subnet"):
        net.fine_tune(Config(), TRAIN, steps=1)


def test_a_teacher_of_ones_own_is_learnt_from_and_left_alone(net: SuperNet) -> None:
    torch.manual_seed(3)
    teacher = Stripes().train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    config = net.space.smallest()
    away = [_distance(net, teacher, config)]
    net.fit(TRAIN, steps=16, lr=0.05, teacher=teacher, ratios=(), ema=0.0)
    away.append(_distance(net, teacher, config))
    assert away[1] < away[0]
    assert teacher.training
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    with pytest.raises(UsageError, match="no teacher is given"):
        net.fit(TRAIN, steps=1, teacher="given")


def _distance(net: SuperNet, teacher: nn.Module, config: Config) -> float:
    net.recalibrate(config, TRAIN)
    teacher.eval()
    with torch.no_grad():
        x = next(iter(HELD))[0]
        found = nn.functional.kl_div(
            net(x, config=config).log_softmax(1), teacher(x).log_softmax(1), log_target=True, reduction="batchmean"
        )
    teacher.train()
    return float(found)
