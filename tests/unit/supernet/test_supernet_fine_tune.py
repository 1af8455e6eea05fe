"""One subnet trained alone: it learns, never gets worse, and its weights find their way back into the SuperNet."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tailorbird.errors import UsageError
from tailorbird.supernet import SuperNet, accuracy, elastic
from tailorbird.types import Config


class Rings(nn.Module):
    """A small network with batch_norm, dropout and a residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.fc(self.drop((x + self.body(x)).mean((2, 3))))


def waves(count: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    row, column = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    fields = torch.stack([row, column, row + column, row - column])[labels]
    images = torch.sin(fields * 2.0 + torch.rand(count, 1, 1, generator=generator) * 6.28)
    return TensorDataset((images + 0.6 * torch.randn(count, 8, 8, generator=generator))[:, None], labels)


TRAIN = DataLoader(waves(512, 1), 64)
HELD = DataLoader(waves(256, 2), 128)


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Rings()
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(6):
        for x, y in TRAIN:
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimiser.step()
    return model.eval()


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
            SuperNet.load(tmp_path / "net.pt", Rings(), (torch.randn(1, 1, 8, 8),))(x, config=config), wanted
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
    teacher = Rings().train()
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
