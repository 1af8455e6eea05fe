from __future__ import annotations

import torch
from torch import Tensor, nn

from tailorbird.graph import Inputs
from tailorbird.supernet import SuperNet, elastic
from tailorbird.supernet.loader import Batch
from tailorbird.supernet.training.ranks import Alone
from tailorbird.supernet.training.statistics import Statistics


def made() -> SuperNet:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
    return elastic(model.eval(), (torch.randn(2, 4),))


def batches(count: int = 4) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [Batch(Inputs((3 * torch.randn(32, 4, generator=generator) + 1,))) for _ in range(count)]


def test_statistics_are_those_of_the_weights_on_the_batches() -> None:
    net = made()
    norm = net.weights[1]
    before = norm.num_batches_tracked.clone()
    Statistics(net, batches, Alone()).refresh()
    with torch.no_grad():
        parts: list[Tensor] = [net.weights[0](batch.inputs.args[0]) for batch in batches()]
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean(0) for x in parts]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([x.var(0) for x in parts]).mean(0))
    assert norm.momentum == 0.1
    assert torch.equal(norm.num_batches_tracked, before)
    assert not net.training


def test_batches_are_read_once_and_no_more_of_them_than_needed() -> None:
    net, given = made(), []

    def read() -> list[Batch]:
        given.append(1)
        return batches(500)

    statistics = Statistics(net, read, Alone())
    statistics.refresh()
    first = net.weights[1].running_mean.clone()
    statistics.refresh()
    assert given == [1]
    assert torch.equal(net.weights[1].running_mean, first)
    wanted = torch.cat([net.weights[0](batch.inputs.args[0]) for batch in batches(64)]).mean(0)
    torch.testing.assert_close(first, wanted.detach())


def test_frozen_norms_and_networks_without_data_stay_as_they_are() -> None:
    net = made()
    before = net.weights[1].running_mean.clone()
    Statistics(net, list, Alone()).refresh()
    assert torch.equal(net.weights[1].running_mean, before)
    net.weights[1].track_running_stats = False
    Statistics(net, batches, Alone()).refresh()
    assert torch.equal(net.weights[1].running_mean, before)
