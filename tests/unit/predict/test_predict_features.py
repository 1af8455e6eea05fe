"""Features of a real SuperNet's subnets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tailorbird.compile.kernels import kernels_of
from tailorbird.predict import FeatureMap, KernelSum, features
from tailorbird.profile import KernelTable, KernelTime, learn_kernels
from tailorbird.supernet import SuperNet, elastic
from tailorbird.types import Config, Verdict

X = (torch.zeros(1, 3, 8, 8),)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(16, 32, 3, padding=1)
        self.outer = nn.Conv2d(32, 16, 1)

    def forward(self, x):
        return x + self.outer(torch.relu(self.inner(x)))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.blocks(torch.relu(self.stem(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> SuperNet:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return elastic(Net().eval(), X)


@pytest.fixture(scope="module")
def learnt(net: SuperNet):
    return learn_kernels(net.space, lambda config: kernels_of(net.extract(config), X))


@pytest.fixture(scope="module")
def mapped(net: SuperNet, learnt) -> FeatureMap:
    return FeatureMap(net, learnt)


def column(mapped: FeatureMap, name: str, config: Config) -> float:
    return float(mapped([config])[0, mapped.names.index(name)])


def test_every_column_has_a_name_and_every_subnet_a_row(net: SuperNet, mapped: FeatureMap):
    configs = [net.space.sample(seed) for seed in range(20)]
    matrix = mapped(configs)
    assert matrix.shape == (20, len(mapped.names))
    assert len(set(mapped.names)) == len(mapped.names)
    assert np.isfinite(matrix).all()
    assert mapped([]).shape == (0, len(mapped.names))


def test_different_subnets_have_different_rows(net: SuperNet, mapped: FeatureMap):
    configs = list({net.space.sample(seed) for seed in range(200)})
    assert len(np.unique(mapped(configs), axis=0)) == len(configs)


def test_a_block_is_in_exactly_one_of_its_configurations_or_in_none(net: SuperNet, mapped: FeatureMap):
    for block in net.space.depth:
        wholes = [index for index, name in enumerate(mapped.names) if name.startswith(f"{block.name}:")]
        assert len(wholes) > 1
        for seed in range(20):
            config = net.space.sample(seed)
            assert mapped([config])[0, wholes].sum() == float(block.name not in config.skipped)


def test_sizes_within_a_skipped_block_leave_no_trace(net: SuperNet, mapped: FeatureMap):
    block = net.space.depth[0].name
    inner = next(d for d in net.space.dimensions if d.name.startswith(block) and d.kind == "width")
    rows = mapped([Config.of({inner.name: size}, [block]) for size in inner.choices])
    assert (rows == rows[0]).all()


def test_work_and_path_are_those_of_the_network(net: SuperNet, mapped: FeatureMap):
    config = net.space.sample(3)
    assert column(mapped, "macs", config) == net.macs(config)
    assert column(mapped, "longest path, macs", config) == net.macs(config), "a chain of blocks is its own longest path"
    assert column(mapped, "launches", net.space.full()) > column(mapped, "launches", net.space.smallest())


def test_a_kernel_table_adds_its_sum(net: SuperNet, learnt):
    config = net.space.sample(3)
    times = {spec: KernelTime(2.0, 0.0, Verdict.OK) for c in (config, net.space.full()) for spec in learnt(c)}
    table = KernelTable("pi", "litert", times, {})
    summed = {"pi": table, "the same": KernelSum(table, learnt)}
    assert features(net, [config], learnt, summed)[0, -2:] == pytest.approx(2.0 * len(learnt(config)))
