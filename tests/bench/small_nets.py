"""Networks and bundles the agent benchmarks serve. All are ordinary PyTorch, compiled for LiteRT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from tailorbird.bundle import BuiltRung, Bundle, pack
from tailorbird.compile.base import Built, CompileTarget, backend
from tailorbird.compile.capture import capture
from tailorbird.types import Config, DeviceCard


@dataclass(frozen=True)
class Served:
    """A compiled network, the bundle around it, and what torch answers for each image."""

    name: str
    bundle: Bundle
    built: tuple[Built, ...]
    images: np.ndarray
    answers: dict[str, np.ndarray]  # rung name -> (images, ...) of torch outputs
    tolerance: float


def affine(shape: Sequence[int]) -> nn.Module:
    """Pools an input of the shape (N, C, H, W) and mixes the channels: next to no computation, so transport shows."""
    channels = shape[1]
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)).eval()


def classifier(width: int, seed: int, stride: int = 2) -> nn.Module:
    """A small convolutional classifier of 32x32 grey images with weights from a seed."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, width, 3, stride=stride, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, stride=stride, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    )
    # Answers of order one, so that two nets differ by far more than any tolerance.
    net[-1].weight.data.mul_(20)
    return net.eval()


def digit_images(count: int) -> np.ndarray:
    """Real handwritten digits, (count, 1, 32, 32) float32 in [-1, 1]."""
    from tailorbird.demo.data import digits

    return digits().test[0][:count].numpy()


def serve_ready(
    name: str,
    nets: Sequence[nn.Module],
    images: np.ndarray,
    card: DeviceCard,
    *,
    slo_us: float | None = None,
    cpu_us: Sequence[float] = (100.0, 200.0),
) -> Served:
    """Compile the nets for LiteRT and pack them as the rungs r0, r1, ... with torch's outputs as golden answers."""
    example = (torch.from_numpy(images[:1]),)
    built, rungs, answers = [], [], {}
    tolerance = 1e-3
    for index, net in enumerate(nets):
        module = backend("litert").build(capture(net, example), CompileTarget.from_card(card))
        with torch.no_grad():
            expected = np.concatenate([net(torch.from_numpy(image[None])).numpy() for image in images])
        answers[f"r{index}"] = expected
        built.append(module)
        rungs.append(
            BuiltRung(
                name=f"r{index}",
                config=Config(skipped=(f"{name}-{index}",)),
                runtime="litert",
                module=module.module,
                accuracy=0.5 + 0.1 * index,
                cpu_us=cpu_us[index],
                golden=tuple({module.outputs[0].name: expected[k : k + 1]} for k in range(min(6, len(images)))),
                tolerance=tolerance,
            )
        )
    bundle = pack(
        name,
        rungs,
        inputs=built[0].inputs,
        outputs=built[0].outputs,
        golden_inputs=tuple({built[0].inputs[0].name: images[k : k + 1]} for k in range(min(6, len(images)))),
        card=card,
        slo_us=slo_us,
    )
    return Served(name, bundle, tuple(built), images, answers, tolerance)


def deploy(device: object, served: Served) -> None:
    """Push, stage, activate and commit, as `tailorbird deploy` does."""
    from tailorbird.flow.deploy import deploy as deploy_bundle

    deploy_bundle(device, served.bundle)  # type: ignore[arg-type]
