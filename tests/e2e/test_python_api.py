"""The public names, in the order a user meets them, against a real agent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tailorbird as tb
from tailorbird.demo.data import digits
from tailorbird.errors import InputShapeError


class Net(nn.Module):
    """Small, but with something to shrink and something to skip."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(self.stem(x))
        y = y + self.block(y)
        return self.head(y.mean((2, 3)))


@pytest.fixture
def board(private_home: Path) -> Iterator[tb.Board]:
    device = tb.local()
    try:
        yield device
    finally:
        device.close()
        assert device.agent is not None
        device.agent.stop()


def test_from_a_model_to_a_served_ladder_in_the_public_names(board: tb.Board) -> None:
    torch.manual_seed(0)
    splits = digits()
    model = Net().eval()
    net = tb.elastic(model, (splits.train[0][:1],))
    assert torch.equal(net(splits.test[0][:5]), model(splits.test[0][:5]))
    train = DataLoader(TensorDataset(*splits.train), batch_size=64)
    validation = DataLoader(TensorDataset(*splits.validation), batch_size=200)
    net.fit(train, steps=12, lr=0.05, seed=0, teacher="in-place")  # the network knows nothing yet

    accuracy = tb.accuracy_table(net, validation, recalibration=train, anchors=4, probe_images=64)
    latency = tb.latency_model(net, board, samples=3, kernels=20)
    ladder = tb.search(
        net,
        accuracy=accuracy,
        latency=latency,
        validation=validation,
        recalibration=train,
        slo="50ms",
        rungs=3,
        population=12,
        generations=4,
    )
    served = board.deploy(ladder, inputs=splits.validation[0][:4], policy="static-large")

    times = [rung.measured_us or 0.0 for rung in ladder]
    assert times == sorted(times)
    assert times[0] > 0.0
    assert served.deployment.slo_us == 50_000
    largest = ladder.rungs[-1]
    for image in splits.test[0][:3]:
        with torch.no_grad():
            expected = net.extract(largest.config)(image[None])
        np.testing.assert_allclose(served(image[None]), expected, atol=1e-3)
    assert served.why() == ()
    with pytest.raises(InputShapeError, match=r"takes \(1, 1, 32, 32\), not \(2, 1, 32, 32\)"):
        served(splits.test[0][:2])
    with pytest.raises(InputShapeError, match="at least 4 inputs"):
        board.deploy(ladder, inputs=splits.validation[0][:2])


def test_devices_are_boards_one_can_deploy_to(board: tb.Board) -> None:
    tb.devices.add("mine", str(board.address))
    with tb.devices["mine"] as same:
        assert isinstance(same, tb.Board)
        assert same.card.triple == board.card.triple
    assert "mine" in tb.devices
