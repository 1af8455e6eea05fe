"""One subnet trained alone: it learns, never gets worse, and its weights find their way back into the SuperNet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from zoo.stripes import HELD, TRAIN, Stripes, stripes
from zoo.stripes import trained as trained_stripes

from tailorbird.errors import InputShapeError, UsageError
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


class Unrolled(Stripes):
    """Its graph holds the size of the image as a constant."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.body(x)
        count, channels, height, width = x.shape
        return self.fc(self.drop(x.reshape(count, channels, height * width).mean(2)))


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.usefixtures("two_threads")
def test_a_subnet_learns_from_images_of_several_sizes(trained: nn.Module) -> None:
    model = Unrolled()  # without dropout it trains beside its teacher
    model.load_state_dict(trained.state_dict())
    net = elastic(model.eval(), (torch.randn(1, 1, 8, 8),), divisor=4)
    config = net.space.smallest()
    sizes = [DataLoader(stripes(256, seed, pixels), 64) for seed, pixels in ((1, 8), (3, 12), (4, 10))]
    mixed = [batch for batches in zip(*sizes, strict=True) for batch in batches]
    held = [batch for pixels in (8, 12) for batch in DataLoader(stripes(128, 2, pixels), 64)]
    net.recalibrate(config, mixed)
    shared = {name: value.clone() for name, value in net.state_dict().items()}
    before = accuracy(net, config, held)
    tuned = net.fine_tune(config, mixed, steps=36, lr=0.1, validate=held)
    assert tuned.before == before
    assert tuned.after > before + 0.1
    assert all(torch.equal(shared[name], value) for name, value in net.state_dict().items())
    net.adopt(config, tuned.module)
    assert accuracy(net, config, held) == tuned.after
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(net(x, config=config), tuned.module(x))


def test_sizes_that_the_network_does_not_take_are_named(net: SuperNet) -> None:
    with pytest.raises(InputShapeError, match=r"does not (fit|run on)[\s\S]*batch 1 of pass 1"):
        net.fine_tune(net.space.smallest(), [(torch.randn(4, 3, 8, 8), torch.zeros(4).long())], steps=1)


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
