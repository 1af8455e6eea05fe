"""A ladder for several threads: built, tuned, timed and served with them, and nothing of it mixed with one thread's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tailorbird.device import Device, LocalAgent
from tailorbird.errors import CompileError
from tailorbird.flow.compile import BuiltLadder, build_ladder
from tailorbird.flow.deploy import deploy
from tailorbird.flow.workspace import Workspace
from tailorbird.supernet import SuperNet, elastic
from tailorbird.types import Ladder, Rung

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores"),
]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    agent = LocalAgent.start(tmp_path / "agent", name="board")
    try:
        with Device.connect(str(agent.control)) as connected:
            yield connected
    finally:
        agent.stop()


def images() -> list[torch.Tensor]:
    torch.manual_seed(3)
    return [torch.randn(1, 3, 24, 24) for _ in range(4)]


def ladder_of() -> tuple[SuperNet, Ladder]:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 4, 1)]
    net = elastic(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(), (images()[0],))
    configs = (net.space.smallest(), net.space.full())
    rungs = tuple(Rung(f"r{k}", config, 0.5 + 0.1 * k, 100.0, None, 1, 1) for k, config in enumerate(configs))
    return net, Ladder("net", "board", rungs, None)


def built(device: Device, home: Path, threads: int, **options: Any) -> tuple[BuiltLadder, Workspace]:
    net, ladder = ladder_of()
    workspace = Workspace.open({"home": str(home), "threads": threads, **options})
    return build_ladder(workspace, net, ladder, images(), device, ("tvm",), 0.5), workspace


@pytest.mark.slow
def test_a_ladder_for_two_threads_keeps_to_itself_and_answers_like_torch(device: Device, tmp_path: Path) -> None:
    for threads in (1, 2):
        made, workspace = built(device, tmp_path / "home", threads)
        with workspace:
            assert {rung.threads for rung in made.bundle.manifest.rungs} == {threads}
            tuning = made.document.tuning
            assert tuning is not None
            assert tuning.exact_hits == 0, "what one thread measured is not exact for two"
            schedules = workspace.store.schedules
            classes = {boards.threads: boards for boards in schedules.classes()}
            assert set(classes) == set(range(1, threads + 1))
            assert len({boards.name for boards in classes.values()}) == threads
            traces = [record.trace_json for record in schedules.of_class(classes[threads], "board").records()]
            assert traces
            assert any("meta_schedule.parallel" in trace for trace in traces) == (threads > 1)
    deploy(device, made.bundle)
    expected = ladder_of()[0](images()[0])
    answers = device.infer("net", {made.bundle.manifest.inputs[0].name: images()[0].numpy()}, "r1")
    found = torch.from_numpy(answers.outputs[made.bundle.manifest.outputs[0].name].copy())
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_more_threads_than_the_device_has_are_refused_with_the_number_it_has(device: Device, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=f"the device has {device.card.cores} cores"):
        built(device, tmp_path / "home", device.card.cores + 1)
