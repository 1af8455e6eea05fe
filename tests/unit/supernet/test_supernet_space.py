from __future__ import annotations

import itertools

import pytest
import torch
from zoo.small_models import ResidualNet, VisionTransformer

from tailorbird.errors import UsageError
from tailorbird.supernet import SuperNet, elastic
from tailorbird.types import Config


@pytest.fixture(scope="module")
def net() -> SuperNet:
    torch.set_num_threads(1)
    return elastic(ResidualNet().eval(), (torch.randn(1, 3, 16, 16),))


def test_dimensions_carry_the_users_module_names(net: SuperNet) -> None:
    assert [d.name for d in net.space.width] == [
        *("stem.0", "layer1.0.conv1", "layer1.1.conv1"),
        *("layer2.0.conv1", "layer2.0.conv2", "layer2.1.conv1"),
    ]
    assert [d.name for d in net.space.depth] == ["layer1.0", "layer1.1", "layer2.1"]
    assert net.space.heads == net.space.kernel == net.space.resolution == ()


def test_choices_are_quarters_in_multiples_of_the_divisor(net: SuperNet) -> None:
    choices = {d.name: d.choices for d in net.space.width}
    assert choices["stem.0"] == (8, 16)
    assert choices["layer2.0.conv1"] == (8, 16, 24, 32)


def test_heads_are_a_kind_of_their_own_and_ignore_the_divisor() -> None:
    net = elastic(VisionTransformer(depth=1), (torch.randn(1, 3, 16, 16),))
    assert [(d.name, d.choices) for d in net.space.heads] == [("blocks.0.attn.qkv", (1, 2, 3, 4))]


def test_canonical_drops_what_has_no_effect(net: SuperNet) -> None:
    config = Config.of({"stem.0": 16, "layer1.0.conv1": 8, "layer2.0.conv1": 8}, ["layer1.0"])
    assert net.space.canonical(config) == Config.of({"layer2.0.conv1": 8}, ["layer1.0"])


def test_smallest_is_canonical_and_cheapest(net: SuperNet) -> None:
    smallest = net.space.smallest()
    assert smallest == net.space.canonical(smallest)
    assert set(smallest.skipped) == {"layer1.0", "layer1.1", "layer2.1"}
    assert all(net.macs(net.space.sample(seed)) >= net.macs(smallest) for seed in range(20))


def test_samples_are_canonical_repeatable_and_varied(net: SuperNet) -> None:
    drawn = [net.space.sample(seed) for seed in range(30)]
    assert drawn == [net.space.sample(seed) for seed in range(30)]
    assert all(config == net.space.canonical(config) for config in drawn)
    assert len(set(drawn)) > 20


def test_size_counts_every_distinct_subnet() -> None:
    small = elastic(ResidualNet().eval(), (torch.randn(1, 3, 16, 16),), only=["layer1*", "stem.0"])
    space = small.space
    every = set()
    sized = [d for d in space.dimensions if d.kind != "depth"]
    for sizes in itertools.product(*(d.choices for d in sized)):
        for count in range(len(space.depth) + 1):
            for skipped in itertools.combinations([d.name for d in space.depth], count):
                names = [d.name for d in sized]
                every.add(space.canonical(Config.of(dict(zip(names, sizes, strict=True)), list(skipped))))
    assert space.size == len(every)


@pytest.mark.parametrize(
    "config", [Config.of({"nowhere": 8}), Config.of({"stem.0": 9}), Config.of(skipped=["stem.0"])], ids=str
)
def test_configurations_of_another_network_are_refused_with_the_names_that_exist(net: SuperNet, config: Config) -> None:
    with pytest.raises(UsageError) as caught:
        net.space.validate(config)
    assert caught.value.why
    assert caught.value.fix


def test_only_and_freeze_are_patterns_on_names() -> None:
    x = (torch.randn(1, 3, 16, 16),)
    chosen = elastic(ResidualNet(), x, only=["layer2*"], freeze=["*.conv2"])
    assert [d.name for d in chosen.space.dimensions] == ["layer2.0.conv1", "layer2.1.conv1", "layer2.1"]
