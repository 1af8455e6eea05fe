"""Carrying latencies from one real agent to another: samples, drift, devices that go away."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import tailorbird as tb
from tailorbird.db import Store
from tailorbird.device import Device, LocalAgent
from tailorbird.errors import DeviceUnreachableError, UsageError
from tailorbird.flow.identity import latency_identity
from tailorbird.flow.latency import kernels_of_net, latency_model
from tailorbird.flow.subnets import PROTOCOL, SubnetTimer
from tailorbird.flow.transfer import pool_of, transfer_latency
from tailorbird.predict.drift import Shift
from tailorbird.predict.fewshot import TransferredLatency

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # they measure the machine they run on
POOL = 12
BRIEF = dataclasses.replace(PROTOCOL, min_runs=5, min_seconds=0.01, max_seconds=0.3)


class Net(nn.Module):
    """Two elastic convolutions on pictures large enough that more channels take more time."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.body = nn.Conv2d(32, 64, 3, padding=1)
        self.head = nn.Linear(64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(torch.relu(self.stem(x)))).mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> tb.SuperNet:
    torch.manual_seed(0)
    return tb.elastic(Net().eval(), (torch.zeros(1, 3, 24, 24),))


@pytest.fixture(scope="module")
def kernels(net: tb.SuperNet):
    return kernels_of_net(net, net.example_inputs)


def start(folder: Path, name: str) -> LocalAgent:
    return LocalAgent.start(folder / name, name=name)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    agent = start(tmp_path_factory.mktemp("agents"), "proxy")
    with Device.connect(agent.control) as connected:
        yield connected
    agent.stop()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of the target: another for each test, so that none finds another's measurements."""
    return hashlib.sha256(request.node.name.encode()).hexdigest()[:8]


@pytest.fixture
def target_agent(tmp_path: Path, name: str) -> Iterator[LocalAgent]:
    agent = start(tmp_path, name)
    yield agent
    agent.stop()


@pytest.fixture
def target(target_agent: LocalAgent) -> Iterator[Device]:
    with Device.connect(target_agent.control) as connected:
        yield connected


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Shared, so that the proxy is measured once; each test has a target of its own name."""
    with Store(tmp_path_factory.mktemp("store") / "s.db") as opened:
        yield opened


@pytest.fixture
def timer(store: Store, net: tb.SuperNet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SubnetTimer:
    monkeypatch.setattr("tailorbird.flow.subnets.PROTOCOL", BRIEF)
    return SubnetTimer(store, net, net.example_inputs, latency_identity(net))


def carry(timer: SubnetTimer, kernels, target: Device, proxy: Device, **options):
    return transfer_latency(timer, kernels, target, [proxy], proxy_subnets=POOL, **options)


def test_a_target_is_measured_a_few_times_and_then_predicted(timer, kernels, proxy, target, store):
    found = carry(timer, kernels, target, proxy, least=10)
    assert 10 <= found.measured == len(found.model.samples) <= POOL
    (agreed,) = found.agreements
    assert (agreed.proxy, agreed.target) == ("proxy", target.name)
    assert agreed.common >= 10
    assert agreed.srcc is not None
    assert found.drift is None
    full, smallest = timer.net.space.full(), timer.net.space.smallest()
    assert 0 < found.model(smallest) < found.model(full)

    again = carry(timer, kernels, target, proxy, least=10)
    assert again.drift is not None
    if again.drift.shift is not Shift.KERNEL_MIX:  # a machine shared with others may really have changed meanwhile
        assert again.measured == 0
    assert len(again.model.samples) >= 10


def test_no_samples_at_all_order_subnets_without_touching_the_target(timer, kernels, proxy, target):
    found = carry(timer, kernels, target, proxy, most=0)
    assert (found.measured, found.agreements[0].srcc) == (0, None)
    full, smallest = timer.net.space.full(), timer.net.space.smallest()
    assert found.model.score(smallest) < found.model.score(full)
    with pytest.raises(UsageError, match="never measured"):
        found.model(full)


def test_a_device_that_became_slower_as_a_whole_is_rescaled(timer, kernels, proxy, target, store):
    carry(timer, kernels, target, proxy, least=6, most=6)
    before = dict(timer.known(target))
    timer.rescale(target, before, 0.25)  # as if all had been four times as fast when they were measured
    found = carry(timer, kernels, target, proxy, least=6, most=6)
    assert found.drift is not None
    assert found.drift.shift is Shift.UNIFORM
    assert found.drift.scale == pytest.approx(4, rel=0.25)
    assert found.measured == 0
    now = timer.known(target)
    assert all(now[config] == pytest.approx(us, rel=0.25) for config, us in before.items())


def test_a_device_that_changed_subnet_by_subnet_is_measured_anew(timer, kernels, proxy, target):
    carry(timer, kernels, target, proxy, least=6, most=6)
    before = dict(timer.known(target))
    ordered = sorted(before, key=lambda config: before[config])
    for place, config in enumerate(ordered):
        timer.rescale(target, [config], 1 / (1 + place))
    found = carry(timer, kernels, target, proxy, least=6, most=6)
    assert found.drift is not None
    assert found.drift.shift is Shift.KERNEL_MIX
    for sample in found.model.samples:
        if sample.config in before:
            assert sample.cpu_us == pytest.approx(before[sample.config], rel=0.35)


def test_another_kernel_is_another_context_and_the_old_times_one_more_proxy(timer, kernels, proxy, target):
    found = carry(timer, kernels, target, proxy, least=5, most=5)
    target._context = "kernel=99 governor=powersave"
    assert timer.known(target) == {}
    again = carry(timer, kernels, target, proxy, least=5, most=5)
    assert again.drift is None
    assert again.measured == found.measured == 5
    assert len(timer.contexts()) >= 3


def test_what_was_measured_before_a_device_went_away_is_kept(
    timer, kernels, proxy, target, target_agent, tmp_path, name
):
    measure, calls = SubnetTimer.times_us, []

    def dying(self, device, configs, **options):
        if device is target:
            calls.append(1)
            if len(calls) == 2:
                target_agent.stop()
        return measure(self, device, configs, **options)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(DeviceUnreachableError) as caught:
        patch.setattr(SubnetTimer, "times_us", dying)
        carry(timer, kernels, target, proxy, least=10)
    assert "is kept" in caught.value.fix
    revived = start(tmp_path, name)
    try:
        with Device.connect(revived.control) as back:
            found = carry(timer, kernels, back, proxy, least=10)
            assert len(found.model.samples) >= 10
            assert found.measured <= len(found.model.samples) - 5
    finally:
        revived.stop()


def test_a_device_is_not_its_own_proxy(timer, kernels, proxy):
    with pytest.raises(UsageError, match="its own proxy"):
        carry(timer, kernels, proxy, proxy)


def test_the_public_entry_point_takes_proxies_and_refuses_what_cannot_be_known(net, proxy, target, monkeypatch):
    monkeypatch.setattr("tailorbird.flow.subnets.PROTOCOL", BRIEF)
    monkeypatch.setattr("tailorbird.flow.transfer.PROXY_SUBNETS", POOL)
    model = latency_model(net, target, proxies=[proxy], samples=5)
    assert isinstance(model, TransferredLatency)
    assert len(model.samples) == 5
    assert model(net.space.smallest()) < model(net.space.full())
    with pytest.raises(UsageError, match="0 samples tell nothing"):
        latency_model(net, target, samples=0)


def test_the_pool_is_the_same_for_every_device_and_has_both_ends(timer):
    pool = pool_of(timer, POOL)
    assert pool == pool_of(timer, POOL)
    assert len(set(pool)) == POOL
    assert pool[:2] == (timer.net.space.full(), timer.net.space.smallest())
