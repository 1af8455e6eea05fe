from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
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


@pytest.mark.parametrize(
    ("width", "divisor", "choices"),
    [
        (64, None, (16, 32, 48, 64)),
        (20, None, (8, 16, 20)),
        (12, None, (4, 8, 12)),
        (8, None, (4, 8)),
        (6, None, (2, 4, 6)),
        (3, None, (1, 2, 3)),
        (2, None, (1, 2)),
        (24, 16, (8, 16, 24)),
        (24, 1, (6, 12, 18, 24)),
    ],
)
def test_every_width_can_halve(width: int, divisor: int | None, choices: tuple[int, ...]) -> None:
    model = nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, 2))
    net = elastic(model, (torch.randn(1, 5),), divisor=divisor)
    assert [d.choices for d in net.space.width] == [choices]
    assert 2 * choices[0] <= width


def test_divisors_and_choices_by_pattern() -> None:
    x = (torch.randn(1, 3, 16, 16),)
    net = elastic(ResidualNet(), x, divisor={"layer1*": 2, "*": 16}, choices={"layer2.*.conv1": [10, 20, 99]})
    assert {d.name: d.choices for d in net.space.width} == {
        "stem.0": (8, 16),
        "layer1.0.conv1": (4, 8, 12, 16),
        "layer1.1.conv1": (4, 8, 12, 16),
        "layer2.0.conv1": (10, 20, 32),
        "layer2.0.conv2": (16, 32),
        "layer2.1.conv1": (10, 20, 32),
    }
    heads = elastic(VisionTransformer(depth=1), x, divisor={"*.qkv": 2}).space.heads
    assert [d.choices for d in heads] == [(2, 4)]


@pytest.mark.parametrize("option", ["only", "freeze", "divisor", "choices"])
def test_a_pattern_that_matches_nothing_is_refused_with_what_is_near(option: str) -> None:
    value = {"only": "layer1.0.conv", "freeze": ["layer1.0.conv"], "divisor": {"layer1.0.conv": 4}}.get(option)
    with pytest.raises(UsageError, match=r"layer1\.0\.conv") as caught:
        elastic(ResidualNet(), (torch.randn(1, 3, 16, 16),), **{option: value or {"layer1.0.conv": [4]}})
    assert "layer1.0.conv1" in caught.value.why


@pytest.mark.parametrize(
    "options",
    [
        {"divisor": 0},
        {"divisor": 4.0},
        {"divisor": "4"},
        {"choices": {"stem.0": [0]}},
        {"choices": {"stem.0": []}},
        {"choices": {"stem.0": 8}},
        {"choices": {"stem.0": [17]}},
        {"choices": {"layer1.0": [0]}},
        {"only": 3},
        {"freeze": [3]},
    ],
    ids=str,
)
def test_sizes_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        elastic(ResidualNet(), (torch.randn(1, 3, 16, 16),), **options)


@pytest.mark.parametrize("config", [{"stem.0": 8}, "smallest", 3])
def test_a_configuration_of_another_type_is_refused(net: SuperNet, config: object) -> None:
    for use in (lambda c: net(torch.randn(1, 3, 16, 16), config=c), net.extract, net.macs, net.params):
        with pytest.raises(UsageError, match="a configuration is a Config") as caught:
            use(config)
        assert "net.space" in caught.value.fix
