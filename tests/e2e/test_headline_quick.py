"""The headline comparison from end to end on digits: real training, real compilers, a real agent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

import tailorbird as tb
from tailorbird.demo.data import digits
from tailorbird.demo.model import ResidualNet
from tailorbird.flow.data import Batches
from tailorbird.types import TimingProtocol
from tests.bench.equal_latency import headline, ours
from tests.bench.outcome import Outcome

_OPTIONS = headline.Options(
    budget_s=0.8,
    ratios=(0.3, 0.6),
    multipliers=(0.5,),
    methods=(*headline.STANDARD, "nestdnn-nested"),
    climb=ours.Climb(rungs=3, kernels=8, samples=2, held_out=2, population=8, generations=3),
    recalibration_images=128,
    rounds=2,
    scouting=1,
    protocol=TimingProtocol("brief", min_runs=5, min_seconds=0.01, max_seconds=0.5),
)


class Records:
    """A work folder in memory: what a stage found, by name and settings, as JSON."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.made = 0

    def __call__(self, name: str, settings: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        key = json.dumps([name, settings], sort_keys=True)
        if key not in self.known:
            self.known[key] = json.dumps(make())
            self.made += 1
        return json.loads(self.known[key])


def test_every_baseline_is_trained_timed_and_compared_and_nothing_is_done_twice(tmp_path: Path) -> None:
    torch.manual_seed(0)
    splits = digits()
    train = Batches(splits.train, 32, 0, splits.augment)
    model = ResidualNet(widths=(8,), depth=2)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    for images, labels in train:
        optimiser.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimiser.step()
    model.eval()
    net = tb.elastic(model, (splits.train[0][:2],))
    net.fit(train, steps=8, lr=0.02, seed=0)
    data = headline.Data(train, Batches(splits.train, 64), Batches(splits.validation, 200), Batches(splits.test, 200))
    records = Records()
    with headline.private_device(tmp_path) as (device, store):
        found = headline.run(model, net, data, device, store, _OPTIONS, fitted={"steps": 8}, stage=records)
        made = records.made
        again = headline.run(model, net, data, device, store, _OPTIONS, fitted={"steps": 8}, stage=records)

    assert again == json.loads(json.dumps(found))
    assert records.made == made
    assert not found["failures"]
    entrants = {(e["method"], e["name"]): e for e in found["entrants"]}
    for method, names in (
        ("original", {"full"}),
        ("nestdnn", {"ratio 0.3", "ratio 0.6"}),
        ("nestdnn-nested", {"ratio 0.3", "ratio 0.6"}),
        ("uniform-width", {"width 0.5"}),
        ("depth", {"depth 1", "depth 0"}),
    ):
        assert {name for owner, name in entrants if owner == method} == names
    assert sum(owner == "ours" for owner, _ in entrants) >= 2
    for entrant in entrants.values():
        timing = entrant["timing"]
        assert sum(timing["verdicts"].values()) == _OPTIONS.rounds == len(timing["cpu_rounds_us"])
        assert timing["cpu_us"] > 1
        assert 0 <= entrant["evaluation"] <= 1
    # What is smaller is faster: the latencies belong to the networks they stand beside.
    assert entrants["depth", "depth 0"]["timing"]["cpu_us"] < entrants["original", "full"]["timing"]["cpu_us"]
    assert entrants["nestdnn", "ratio 0.6"]["macs"] < entrants["nestdnn", "ratio 0.3"]["macs"]
    trained = found["budget"]["trained_seconds"]
    assert set(trained) == set(_OPTIONS.methods)
    assert all(_OPTIONS.budget_s <= seconds for seconds in trained.values())

    for clock in ("at_cpu_time", "at_wall_time"):
        assert len(found[clock]["nestdnn"]["points"]) == len(found[clock]["depth"]["points"]) == 2
        assert set(found[clock]) == {*_OPTIONS.methods, "original", "front of all baselines"}
        for row in found[clock].values():
            for point in row["points"]:
                assert (point["gain_points"] is None) == bool(point["why_no_gain"])
                assert (point["latency_change_percent"] is None) == bool(point["why_no_change"])
    outcome = Outcome("schema", "quick")
    headline.declare(outcome)
    headline.judge(outcome, found)
    assert len(outcome.met) == 2
    assert headline.table(found).count("ratio 0.3") >= 2


def test_a_network_in_train_mode_is_refused(tmp_path: Path) -> None:
    model = ResidualNet(widths=(8,), depth=1)
    net = tb.elastic(model.eval(), (torch.zeros(1, 1, 32, 32),))
    data = headline.Data([], [], [], [])
    with (
        headline.private_device(tmp_path) as (device, store),
        pytest.raises(ValueError, match=r"call eval\(\) first"),
    ):
        headline.run(model.train(), net, data, device, store, _OPTIONS)
