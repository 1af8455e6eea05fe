"""Memory of an agent that serves a ladder of MobileNetV2's size, in an environment that holds the agent alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from tailorbird.device import Device
from tailorbird.device.local import LocalAgent
from tests.bench.mobilenet import InvertedResidual
from tests.bench.outcome import Outcome
from tests.bench.processes import family, pss_mib
from tests.bench.small_nets import deploy, serve_ready

SLIM = Path(__file__).parents[2] / ".venv-agent" / "bin" / "python"
_WIDTHS = (0.35, 0.5, 0.75, 0.85, 1.0)
_SIDE = 224
_REQUESTS = 50
#: Sandler et al. 2018, "MobileNetV2", table 2: expansion, channels, blocks, stride of the first.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_NEAR = "worker and MobileNetV2-size ladder, current rung and its neighbours: at most 120 MiB PSS"
_ALL = "worker and MobileNetV2-size ladder, all rungs: at most 150 MiB PSS"


def measure(outcome: Outcome, folder: Path) -> None:
    """Serve the ladder twice: with room for what is needed alone, and with room for all rungs."""
    outcome.target(_NEAR, "PSS of daemon and worker after requests, five rungs by width, --model-memory-bytes 1")
    outcome.target(_ALL, "the same with every rung in memory")
    if not SLIM.exists():
        outcome.figures["footprint"] = f"not measured: there is no {SLIM.parents[1].name}, which `make test` makes"
        return
    found = {}
    for name, options in (("near", ("--model-memory-bytes", "1")), ("all", ())):
        agent = LocalAgent.start(folder / f"footprint-{name}", python=SLIM, options=options)
        try:
            found[name] = _served(agent)
        finally:
            agent.stop()
    outcome.figures["footprint"] = found
    outcome.judge(_NEAR, met=found["near"]["pss_mib"] <= 120)
    outcome.judge(_ALL, met=found["all"]["pss_mib"] <= 150)


def _served(agent: LocalAgent) -> dict[str, object]:
    images = np.random.default_rng(0).standard_normal((4, 3, _SIDE, _SIDE), dtype=np.float32)
    with Device.connect(str(agent.control)) as device:
        served = serve_ready(
            "mobilenet",
            [mobilenet_v2(width, seed) for seed, width in enumerate(_WIDTHS)],
            images,
            device.card,
            cpu_us=[1e4 * width for width in _WIDTHS],
        )
        deploy(device, served)
        for _ in range(_REQUESTS):
            device.infer("mobilenet", {served.built[0].inputs[0].name: images[:1]})
        taken = {pid: pss_mib(pid) for pid in family(agent.pid)}
        return {
            "pss_mib": sum(taken.values()),
            "daemon_pss_mib": taken[agent.pid],
            "files_mib": [round(len(module.module) / 2**20, 2) for module in served.built],
        }


def mobilenet_v2(width: float, seed: int) -> nn.Module:
    """MobileNetV2 for 1,000 classes with weights from a seed; at width 1 it has 3.5 million, 14 MB."""
    torch.manual_seed(seed)
    channels = _wide(32, width)
    layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU6()]
    for expand, wanted, blocks, stride in _STAGES:
        for place in range(blocks):
            outputs = _wide(wanted, width)
            layers.append(InvertedResidual(channels, outputs, stride if place == 0 else 1, expand))
            channels = outputs
    last = max(1280, _wide(1280, width))
    layers += [nn.Conv2d(channels, last, 1, bias=False), nn.BatchNorm2d(last), nn.ReLU6()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, 1000)).eval()


def _wide(channels: int, width: float) -> int:
    """A multiple of eight, never below nine tenths of what is asked for."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels * width else rounded + 8
