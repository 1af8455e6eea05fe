"""ZiCo: how steady the gradients of a network are over batches of data.

Li et al., "ZiCo: Zero-shot NAS via inverse Coefficient of Variation on Gradients", ICLR 2023, section 3.3:

    ZiCo = sum over layers l of log( sum over weights w of l of  E|dL/dw| / sqrt(Var |dL/dw|) )

with mean and variance over batches, two at least, in train mode. As in the authors' code, layers are convolutions and
linear layers, the variance is that of the population, and weights without variance are left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tailorbird.errors import UsageError
from tailorbird.supernet.accuracy.baselines.predictor import Scored
from tailorbird.supernet.accuracy.baselines.subnet import call, layer_weights, trainable
from tailorbird.supernet.accuracy.evaluation import Evaluations
from tailorbird.supernet.loader import Batch, read
from tailorbird.supernet.task import Task
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


def zico(
    net: SuperNet,
    loader: Iterable[Any],
    anchors: Evaluations | None = None,
    *,
    batches: int = 2,
    signed: bool = False,
    task: str | Task = "classification",
) -> Scored:
    """Ranks by ZiCo on the first `batches` batches of (inputs, labels); with anchors, predicts accuracy.

    signed: the deviation of the gradients themselves, as in the authors' code, instead of that of their absolute
    values, as in the paper. Raises: UsageError for fewer than two batches.
    """
    held = list(itertools.islice(read(loader, net.device), batches))
    if len(held) < 2:
        raise UsageError(
            f"ZiCo needs gradients of two batches, not {len(held)}",
            why="it divides by their deviation",
            fix="pass smaller batches, or a larger `batches`",
        )
    judge = Task.of(task)
    return Scored("zico", net.space, lambda config: _score(net, config, held, judge, signed), anchors)


def _score(net: SuperNet, config: Config, held: list[Batch], task: Task, signed: bool) -> float:
    subnet = trainable(net, config)
    weights = layer_weights(subnet)
    gradients: dict[str, list[Tensor]] = {name: [] for name in weights}
    for batch in held:
        subnet.zero_grad(set_to_none=True)
        task.loss(call(subnet, net.bound(batch.inputs)), batch.known()).backward()
        for name, weight in weights.items():
            if weight.grad is not None:
                gradients[name].append(weight.grad.detach())
    layers = [_layer(torch.stack(found).double(), signed) for found in gradients.values() if found]
    return math.fsum(math.log(layer) for layer in layers if layer > 0)


def _layer(gradients: Tensor, signed: bool) -> float:
    """Sum over a layer's weights of mean over deviation; gradients: (batches, *weight)."""
    size = gradients.abs()
    deviation = (gradients if signed else size).std(0, correction=0)
    varies = deviation > 0
    return float((size.mean(0)[varies] / deviation[varies]).sum())
