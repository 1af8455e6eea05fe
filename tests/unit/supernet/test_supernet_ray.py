"""Ray Train as a launcher: a real cluster of this machine with two workers."""

from __future__ import annotations

import importlib.util
import os
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tailorbird.errors import EnvironmentFaultError, TailorbirdError, UsageError
from tailorbird.supernet import SuperNet, elastic
from tailorbird.supernet.training.ray import fit_on_ray

HAS_RAY = importlib.util.find_spec("ray") is not None
NEEDS_RAY = pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed: pip install 'tailorbird[ray]'")


def parts() -> tuple[Any, Any]:
    """Functions that workers can be sent: they are made here, so they travel as code."""

    def make_net() -> SuperNet:
        torch.manual_seed(os.getpid())  # rank 0's weights are taken
        layers = [nn.Linear(6, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 3)]
        return elastic(nn.Sequential(*layers).eval(), (torch.randn(2, 6),), divisor=4)

    def make_loader() -> DataLoader[Any]:
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(128, 6, generator=generator)
        return DataLoader(TensorDataset(x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()), 16)

    return make_net, make_loader


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray would write one into the user's home
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "300")  # of a busy machine
    ray = importlib.import_module("ray")
    ray.init(num_cpus=3, include_dashboard=False, _node_ip_address="127.0.0.1")
    yield ray
    ray.shutdown()


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_without_ray_it_says_how_to_get_it() -> None:
    with pytest.raises(EnvironmentFaultError, match=r"tailorbird\[ray\]"):
        fit_on_ray(*parts())


def test_no_workers_are_refused() -> None:
    with pytest.raises(UsageError, match="workers"):
        fit_on_ray(*parts(), workers=0)


@NEEDS_RAY
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")  # Ray's
def test_two_ray_workers_train_and_bring_the_network_back(cluster: Any, tmp_path) -> None:
    make_net, make_loader = parts()
    net, result = fit_on_ray(
        make_net, make_loader, make_validation=make_loader, workers=2, storage=tmp_path, epochs=4, lr=0.02
    )
    assert (result.steps, result.images, result.stopped_by) == (32, 512, "steps")
    assert result.last_loss < result.first_loss
    assert result.full_after == pytest.approx(net_accuracy(net, make_loader()))
    assert cluster.is_initialized()  # what was there before stays
    with pytest.raises(TailorbirdError, match=r"no setting|hurry"):
        fit_on_ray(make_net, make_loader, workers=2, storage=tmp_path, hurry=True)


def net_accuracy(net: SuperNet, loader: Any) -> float:
    with torch.no_grad():
        right = [float((net(x).argmax(1) == y).sum()) for x, y in loader]
    return sum(right) / 128
