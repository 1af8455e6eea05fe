"""The baselines of the headline comparison are what they claim to be."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import tailorbird as tb
from tailorbird.compile.base import CompileTarget
from tailorbird.demo.model import ResidualNet
from tailorbird.demo.resnet20 import ResNet20
from tests.bench.equal_latency import baselines_pruned, baselines_sliced
from tests.bench.equal_latency.contest import Options
from tests.bench.equal_latency.entrant import Entrant, Judges
from tests.bench.equal_latency.finetune import Batch, Trainer, Tuning
from tests.bench.equal_latency.projections import projected


def batches(count: int, size: int, channels: int = 1, pixels: int = 16) -> list[Batch]:
    """Images whose class is the quarter that is bright."""
    random = torch.Generator().manual_seed(3)
    found = []
    for _ in range(count):
        labels = torch.randint(0, 4, (size,), generator=random)
        images = 0.3 * torch.randn(size, channels, pixels, pixels, generator=random)
        half = pixels // 2
        for image, label in zip(images, labels.tolist(), strict=True):
            image[:, half * (label // 2) :][:, :half, half * (label % 2) :][..., :half] += 1
        found.append((images, labels))
    return found


def ticking() -> Iterator[float]:
    """A clock that shows one second more each time it is read."""
    return itertools.count(0.0, 1.0)


@pytest.fixture
def trainer() -> Trainer:
    clock = ticking()
    return Trainer(batches(4, 32), batches(4, 32), 64, lambda: next(clock), Tuning())


@pytest.fixture
def judges() -> Judges:
    held = batches(2, 32)
    return Judges(held, held, held[0][0][:1], CompileTarget("x86_64-linux-gnu", ""))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return ResidualNet(classes=4, widths=(8, 16), depth=2).eval()


def test_shortcuts_written_as_convolutions_change_nothing() -> None:
    torch.manual_seed(0)
    net = ResNet20().eval()
    twin = projected(net)
    images = torch.randn(3, 3, 32, 32)
    assert torch.equal(net(images), twin(images))
    assert not any("shortcut" in name for name, _ in net.named_modules())
    assert sum("shortcut" in name for name, _ in twin.named_modules()) == 2


def test_pruning_scales_every_stage_of_a_network_with_padded_shortcuts() -> None:
    torch.manual_seed(0)
    twin = projected(ResNet20()).eval()
    made = baselines_pruned.pruned(twin, 0.5, batches(1, 8, channels=3, pixels=32), 8)
    assert set(baselines_pruned.widths(made)) == {8, 16, 32}
    assert made(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert set(baselines_pruned.widths(twin)) == {16, 32, 64}


def test_pruning_takes_the_channels_that_do_not_matter() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12), nn.ReLU()
    )
    model.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4)]).eval()
    with torch.no_grad():
        for place, dead in ((0, [0, 2, 3, 7]), (3, [1, 2, 5, 6, 8, 11])):
            for layer in (model[place], model[place + 1]):
                layer.weight[dead] = 0
                layer.bias[dead] = 0
    images = batches(1, 16)[0][0]
    made = baselines_pruned.pruned(model, 0.5, batches(1, 16), 16)
    assert baselines_pruned.widths(made) == [4, 6]
    torch.testing.assert_close(made(images), model(images))


def test_a_descendant_of_a_descendant_lacks_the_share_it_is_named_by(
    model: nn.Module, trainer: Trainer, judges: Judges
) -> None:
    family = baselines_pruned.Pruned(nested=True)
    _, half = baselines_pruned.descend("m", model, 0.5, family, None, None, trainer, 3.0, judges)
    parent = baselines_pruned.Parent(baselines_pruned.unpacked(baselines_pruned.packed(half)), 0.5)
    quarter, _ = baselines_pruned.descend("m", model, 0.75, family, parent, None, trainer, 3.0, judges)
    assert set(quarter.details["widths"]) == {2, 4}
    assert quarter.details["tuned"]["steps"] == 2


def test_a_budget_is_counted_on_the_given_clock(model: nn.Module, trainer: Trainer) -> None:
    found = trainer.tune(model.train(), model.parameters(), 12.0)
    assert found.steps == 11  # the clock is read once before the first step and once before each
    assert found.images == 11 * 32
    assert trainer.tune(model, model.parameters(), 0.0).steps == 0


def test_fine_tuning_learns_from_labels_and_from_a_teacher(model: nn.Module, judges: Judges) -> None:
    clock = ticking()
    trainer = Trainer(batches(8, 32), batches(8, 32), 256, lambda: next(clock), Tuning())
    before, _ = baselines_pruned.descend("m", model, 0.25, baselines_pruned.Pruned(), None, None, trainer, 0.0, judges)
    after, taught = baselines_pruned.descend(
        "m", model, 0.25, baselines_pruned.Pruned(), None, None, trainer, 40.0, judges
    )
    distilled, _ = baselines_pruned.descend(
        "m", model, 0.5, baselines_pruned.Pruned(), None, taught, trainer, 40.0, judges
    )
    assert after.validation > before.validation + 0.2
    assert after.validation > 0.9
    assert distilled.validation > 0.9


def test_settled_statistics_are_those_of_the_images(model: nn.Module, trainer: Trainer) -> None:
    seen: list[Tensor] = []
    model.stem[0].register_forward_hook(lambda _layer, _inputs, out: seen.append(out))
    trainer.settle(model)
    mean = torch.stack([out.mean((0, 2, 3)) for out in seen]).mean(0)
    torch.testing.assert_close(model.stem[1].running_mean, mean.detach())
    assert sum(len(out) for out in seen) == 64
    assert model.stem[1].momentum == 0.1
    assert not model.training


def test_uniform_subnets_keep_one_share_of_every_width(model: nn.Module) -> None:
    net = tb.elastic(model, (torch.randn(1, 1, 16, 16),), divisor=4)
    (name, config), *_ = baselines_sliced.uniform_widths(net, (0.5,))
    assert name == "width 0.5"
    assert {(d.size, dict(config.sizes)[d.name]) for d in net.space.width} == {(8, 4), (16, 8)}
    assert not config.skipped
    assert baselines_sliced.uniform_widths(net, (1.0,)) == ()


def test_truncated_subnets_keep_the_first_layers_deepest_first() -> None:
    net = tb.elastic(ResidualNet(widths=(8, 16), depth=4).eval(), (torch.randn(1, 1, 16, 16),))
    found = baselines_sliced.truncated_depths(net)
    assert [name for name, _ in found] == ["depth 3-2", "depth 2-2", "depth 1-1", "depth 0-0"]
    assert found[-1][1].skipped == net.space.smallest().skipped
    assert not any(config.sizes for _, config in found)
    assert [name for name, _ in baselines_sliced.truncated_depths(net, most=2)] == ["depth 3-2", "depth 0-0"]


def test_a_sliced_subnet_is_trained_alone_and_leaves_the_others_as_they_were(
    model: nn.Module, trainer: Trainer, judges: Judges
) -> None:
    net = tb.elastic(model, (judges.example,), divisor=4)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    (name, config), *_ = baselines_sliced.uniform_widths(net, (0.5,))
    made = baselines_sliced.slice_off("m", net, name, config, None, trainer, 30.0, judges)
    assert made.validation > 0.6
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not net.statistics(config)
    assert made.params == net.params(config)
    assert not net.training


def test_an_entrant_survives_its_record(model: nn.Module, trainer: Trainer, judges: Judges) -> None:
    family = baselines_pruned.Pruned()
    made, _ = baselines_pruned.descend("m", model, 0.25, family, None, None, trainer, 2.0, judges)
    assert Entrant.from_json(made.to_json()).to_json() == made.to_json()
    assert made.candidate.label == "m/ratio 0.25"
    assert made.max_error < 1e-3


def test_what_does_not_exist_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="no baseline is called 'prune'"):
        Options(1.0, methods=("nestdnn", "prune"))
    with pytest.raises(ValueError, match="not by 'everyone'"):
        Options(1.0, sharing="everyone")
