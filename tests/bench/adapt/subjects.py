"""The networks: ladders compiled for a runtime and written as plans that a serving worker can load.

CIFAR-10: the subnet of ResNet-20 with half its MACs that tests.bench.accuracy found, trained and measured on test
images that nothing else saw (results/accuracy_quick.json), ResNet-20 as measured there, and the deeper networks of its
family with the accuracies that their checkpoints record. What a network's weights are changes no latency, so the subnet
is cut from the published weights. MobileNetV2 at 96 x 96: the four published widths with the top-1 accuracies on
ImageNet that the authors' repository gives for them, and random weights.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

import tailorbird as tb
from tailorbird.compile.base import Built, CompileTarget, backend
from tailorbird.compile.capture import capture
from tailorbird.compile.tvm.target import runtime_library
from tailorbird.device import Device, LocalAgent
from tailorbird.types import Config, DeviceCard
from tailorbird_agent.runtimes import tensorfile
from tailorbird_agent.worker.plan import RungPlan, ServePlan, TensorSpec, jsonable
from tests.bench.accuracy.networks import ResNet
from tests.bench.adapt.settings import Ladder

_GOLDEN, _TOLERANCE, _MEMORY_BYTES = 4, 1e-2, 16 << 20
_RESULTS = Path(__file__).parents[1] / "results" / "accuracy_quick.json"
_RESNETS = {32: 0.9278, 44: 0.9314, 56: 0.9362}  # layers -> top-1 as recorded in the checkpoint
_MOBILENET = {0.35: 0.455, 0.5: 0.512, 0.75: 0.588, 1.0: 0.603}


@dataclass(frozen=True, slots=True)
class Subnet:
    """One rung: a network and how accurate it is, a fraction."""

    name: str
    accuracy: float
    module: nn.Module


def card(folder: Path) -> DeviceCard:
    """What this machine's agent says of it, from a short-lived agent of our own."""
    agent = LocalAgent.start(folder / "agent", name="bench")
    try:
        with Device.connect(agent.control) as device:
            return device.card
    finally:
        agent.stop()


def write(ladder: Ladder, data: Path, device: DeviceCard, folder: Path) -> Path:
    """The plan of a ladder, compiled now unless the folder has it."""
    folder = folder / "ladders" / ladder.name
    plan = folder / "plan.json"
    if not plan.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subnets, shape = _subnets(ladder, data)
        text = json.dumps(jsonable(_plan(ladder, list(subnets), shape, device, folder)))
        plan.with_suffix(".part").write_text(text)
        plan.with_suffix(".part").replace(plan)
    return plan


def _plan(ladder: Ladder, subnets: list[Subnet], shape: tuple[int, ...], device: DeviceCard, folder: Path) -> ServePlan:
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(shape, generator=generator) for _ in range(_GOLDEN)]
    target = CompileTarget.from_card(device, threads=ladder.threads)
    rungs, built = [], None
    for subnet in subnets:
        built = backend(ladder.runtime).build(capture(subnet.module, (images[0],)), target)
        rungs.append(_rung(subnet, built, images, ladder.threads, folder))
    assert built is not None
    (source,) = built.inputs
    golden = {f"input.{k}.{source.name}": image.numpy() for k, image in enumerate(images)}
    tensorfile.write(folder / "inputs", golden)
    libraries = (("tvm", runtime_library(f"{platform.machine()}-linux-gnu")),) if ladder.runtime == "tvm" else ()
    return ServePlan(
        model=ladder.name,
        inputs=_specs(built.inputs),
        outputs=_specs(built.outputs),
        rungs=tuple(rungs),
        golden_inputs=folder / "inputs",
        runtime_libraries=libraries,
        policy="two-channel",
        slo_us=None,
    )


def _rung(subnet: Subnet, built: Built, images: list[torch.Tensor], threads: int, folder: Path) -> RungPlan:
    module, golden = folder / f"{subnet.name}.module", folder / f"{subnet.name}.golden"
    module.write_bytes(built.module)
    parameters = tuple(folder / f"{subnet.name}.parameters{k}" for k in range(len(built.parameters)))
    for path, data in zip(parameters, built.parameters, strict=True):
        path.write_bytes(data)
    (output,) = built.outputs
    with torch.no_grad():
        answers = {f"output.{k}.{output.name}": _numpy(subnet.module(image)) for k, image in enumerate(images)}
    tensorfile.write(golden, answers)
    cpu_us = 1.0  # the lab calibrates
    return RungPlan(
        subnet.name,
        built.runtime,
        module,
        parameters,
        threads,
        subnet.accuracy,
        cpu_us,
        golden,
        _TOLERANCE,
        _MEMORY_BYTES,
    )


def _specs(specs: tuple[object, ...]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(each.name, each.datatype, each.shape) for each in specs)  # type: ignore[attr-defined]


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.numpy())


def _subnets(ladder: Ladder, data: Path) -> tuple[Iterator[Subnet], tuple[int, ...]]:
    if ladder.network == "resnet20":
        return _resnet20(data), (1, 3, 32, 32)
    return _mobilenetv2(), (1, 3, 96, 96)


def _resnet20(data: Path) -> Iterator[Subnet]:
    half, accuracy, full = measured()
    net = tb.elastic(_published(data, 20), (torch.randn(2, 3, 32, 32),))
    yield Subnet("r0", accuracy, net.extract(half))
    for index, (depth, known) in enumerate({20: full, **_RESNETS}.items(), start=1):
        yield Subnet(f"r{index}", known, _published(data, depth))


def _published(data: Path, depth: int) -> nn.Module:
    model = ResNet(depth)
    model.load_state_dict(load_file(data / "resnet_cifar10" / f"resnet{depth}.safetensors"), strict=False)
    return model.eval()


def measured() -> tuple[Config, float, float]:
    """The subnet of ResNet-20 with half its MACs, its accuracy on test images, and that of the full network."""
    found = json.loads(_RESULTS.read_text())["figures"]["cases"]["resnet20, 60 min"]
    half = found["tuned"]["0.5"]
    return Config.from_json(half["config"]), float(half["accuracy"]), float(found["full"]["after"])


def _mobilenetv2() -> Iterator[Subnet]:
    from tests.zoo.torchvision_schema import declare

    declare()  # before torchvision is imported
    from torchvision.models import mobilenet_v2

    for index, (width, accuracy) in enumerate(_MOBILENET.items()):
        torch.manual_seed(index)
        yield Subnet(f"r{index}", accuracy, mobilenet_v2(weights=None, width_mult=width).eval())
