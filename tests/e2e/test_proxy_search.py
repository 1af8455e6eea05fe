"""`search --proxy` with two real agents: the proxy's Pareto set where both order alike, a second search where not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailorbird.cli.main import main
from tailorbird.device import Device, LocalAgent
from tailorbird.errors import DeviceError
from tailorbird.flow.data import Splits, load_splits
from tailorbird.flow.inputs import InputSpec
from tailorbird.flow.network import Network, build_supernet
from tailorbird.flow.search import SearchOptions, search_ladder
from tailorbird.flow.source import Source
from tailorbird.flow.train import train
from tailorbird.flow.workspace import Workspace
from tailorbird.supernet.training import Recipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        y = self.body(self.stem(x))
        return self.head((y + self.block(y)).mean((2, 3)))

def make():
    torch.manual_seed(0)
    return Net()
"""
#: What XNNPACK and TVM's plain loops take does not go together: TVM needs a hundred times as long for the convolutions
#: of `dense`, and a third of the time for the pools of `light`.
TWO_KINDS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        pools = (nn.MaxPool2d(3, 1, 1) for _ in range(3))
        self.light = nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(), *pools)
        self.shrink = nn.Conv2d(1, 32, 4, stride=4)
        self.dense = nn.Sequential(
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()
        )
        self.heads = nn.ModuleList([nn.Linear(64, 10), nn.Linear(64, 10)])

    def forward(self, x):
        first, second = self.light(x), self.dense(self.shrink(x))
        return self.heads[0](first.mean((2, 3))) + self.heads[1](second.mean((2, 3)))

def make():
    torch.manual_seed(0)
    return Net()
"""
#: Takes LiteRT away from an agent that is started with it on its path.
WITHOUT_LITERT = """
import importlib.metadata as metadata

_version = metadata.version

def version(name):
    if name in {"ai-edge-litert", "tflite-runtime"}:
        raise metadata.PackageNotFoundError(name)
    return _version(name)

metadata.version = version
"""
DATA = "tailorbird.demo.data:digits"
OPTIONS = SearchOptions(
    rungs=3, least=2, kernels=16, samples=3, held_out=2, population=12, generations=4, shortlist=5, proxy_subnets=14,
    most_loss=0.9, evaluation_images=200,
)  # fmt: skip


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[dict[str, LocalAgent]]:
    started = {name: LocalAgent.start(tmp_path / name, name=name) for name in ("proxy", "target")}
    yield started
    for agent in started.values():
        agent.stop()


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    with Workspace.open() as opened:
        yield opened


@pytest.fixture
def plain_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAgent]:
    """A board that has TVM and nothing else."""
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "sitecustomize.py").write_text(WITHOUT_LITERT)
    with monkeypatch.context() as changed:
        changed.setenv("PYTHONPATH", str(tmp_path / "without"), prepend=os.pathsep)
        agent = LocalAgent.start(tmp_path / "plain", name="plain")
    yield agent
    agent.stop()


@pytest.fixture
def trained(workspace: Workspace, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Network, Splits]:
    (tmp_path / "model.py").write_text(getattr(request, "param", MODEL))
    made = build_supernet(workspace, Source.parse(f"{tmp_path}/model.py:make"), [InputSpec((1, 1, 32, 32))])
    splits = load_splits(DATA)
    network, _ = train(workspace, made, splits, Recipe(steps=60, lr=0.05), named=DATA)
    return network, splits


def test_a_proxy_that_orders_alike_serves_and_one_that_does_not_is_adapted(boards, workspace, trained, capsys):
    network, splits = trained
    with Device.connect(boards["proxy"].control) as proxy, Device.connect(boards["target"].control) as target:
        reused = search_ladder(workspace, network, splits, target, OPTIONS, proxy=proxy, regret=True)
        found = reused.document.transferred
        assert found is not None
        assert found.reused, found
        assert found.srcc is not None
        assert found.srcc >= 0.9
        assert found.common >= 10
        assert all(rung.measured_us is not None for rung in reused.ladder.rungs)
        assert found.own is not None
        assert found.own.kernels > 0
        assert abs(found.own.mean_regret) < 0.2

        doubtful = SearchOptions(**{name: getattr(OPTIONS, name) for name in OPTIONS.__slots__} | {"serves": 1.01})
        adapted = search_ladder(workspace, network, splits, target, doubtful, proxy=proxy)
        other = adapted.document.transferred
        assert other is not None
        assert not other.reused
        assert other.own is None
        for shown in (found, other):
            assert shown.predicted.error is not None
            assert shown.predicted.fastest > 0
        times = [rung.measured_us for rung in adapted.ladder.rungs]
        assert times == sorted(times)

    for name in ("proxy", "target"):
        assert main(["devices", "add", name, str(boards[name].control.parent)]) == 0
    capsys.readouterr()
    assert main(["devices", "srcc", "--json"]) == 0
    served = {row["target"]: row for row in json.loads(capsys.readouterr().out)["served"]}
    assert served["target"]["proxy"] == "proxy"
    ladder = str(adapted.result.folder)
    assert main(["devices", "drift", ladder, "--device", "target", "--json"]) == 0
    drifted = json.loads(capsys.readouterr().out)
    assert drifted["shift"] in {"nothing", "uniform", "kernel mix"}
    assert all(rung["ratio"] > 0 for rung in drifted["rungs"])
    assert main(["search", str(network.result.folder), "--device", "target", "--proxy", "target", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["reason"] == "SAME_DEVICE"


@pytest.mark.parametrize("trained", [TWO_KINDS], indirect=True)
def test_a_board_that_orders_subnets_otherwise_gets_a_search_of_its_own(
    boards, plain_board, workspace, trained, capsys
):
    network, splits = trained
    with Device.connect(boards["proxy"].control) as proxy, Device.connect(plain_board.control) as target:
        assert target.card.runtime_version("litert") is None
        found = search_ladder(workspace, network, splits, target, OPTIONS, proxy=proxy).document.transferred
        assert found is not None
        assert found.srcc is not None
        assert found.srcc < 0.9, "plain loops and XNNPACK have to disagree about this network"
        assert not found.reused
        # The proxy's own set is slow or inaccurate there: its predictor knows another device's trade-off.
        assert found.predicted.worst_regret >= 0.0
        with pytest.raises(DeviceError, match="cannot time litert"):
            search_ladder(workspace, network, splits, target, OPTIONS)
    assert main(["devices", "add", "plain", str(plain_board.control.parent)]) == 0
    assert main(["devices", "add", "proxy", str(boards["proxy"].control.parent)]) == 0
    capsys.readouterr()
    assert main(["devices", "srcc", "--json"]) == 0
    assert "plain" in capsys.readouterr().out
