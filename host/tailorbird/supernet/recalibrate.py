"""Recalibrate: the batch_norm statistics of a subnet, measured on data.

Slicing changes what flows into every batch_norm, so the full network's running statistics do not fit a subnet
(Yu and Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019, section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.nn import functional

from tailorbird.errors import UsageError
from tailorbird.graph import Mode, op_name
from tailorbird.supernet.loader import read
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


def recalibrate(net: SuperNet, config: Config, loader: Iterable[Any], images: int = 2000) -> None:
    """Measure the batch_norm statistics of a subnet on up to `images` samples; labels are not read.

    Pass the batches the network is trained on, augmented as they are: its weights fit their statistics. On CIFAR-10
    the statistics of images without augmentation cost the subnets of a ResNet-20 two to seven points.

    `net(x, config=config)` in eval mode and `extract(config)` use them from then on. The full configuration keeps its
    running statistics, and a network without batch_norm needs none: both are left alone.

    Raises: UsageError when the loader is empty.
    """
    own = net.statistics(config)  # a fine-tuned subnet keeps its weights; of statistics only their shapes are read
    found = find_statistics(net, config, loader, images, own)
    if found:
        net.set_statistics(config, {**own, **found})


def find_statistics(
    net: SuperNet,
    config: Config,
    loader: Iterable[Any],
    images: int = 2000,
    weights: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """The batch_norm statistics of a subnet on up to `images` samples by buffer name, which the net does not keep.

    None for the full configuration and for a network without batch_norm. weights: used instead of the shared ones, by
    name. Raises: UsageError when the loader is empty.
    """
    chosen = net.space.canonical(config)
    if chosen.is_full or not has_batch_norm(net):
        return {}
    device = net.device
    found = _Averages()
    with torch.no_grad():
        for batch in read(loader, device, images):
            leaves = net.bound(batch.inputs).leaves
            sized = net.at(leaves, chosen)
            plan = sized.plan(chosen, Mode.EVAL)
            measured = _Measured(plan.module, [name for name, _ in plan.tensors], found, batch.size)
            measured.run(*sized.stored(plan, weights or {}), *leaves)
    if not found.sums:
        raise UsageError(
            "there is nothing to recalibrate on", why="the loader gave no batch", fix="pass a loader with data"
        )
    return found.means()


def has_batch_norm(net: SuperNet) -> bool:
    """Whether recalibration has anything to do: some keep no statistics and always take those of the batch."""
    return any(op_name(node) == "batch_norm" and node.args[3] is not None for node in net.graph.graph.nodes)


class _Averages:
    """Statistics averaged over batches, weighted by samples."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self._weights: dict[str, int] = {}

    def add(self, name: str, value: Tensor, weight: int) -> None:
        self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value * weight
        self._weights[name] = self._weights.get(name, 0) + weight

    def means(self) -> dict[str, Tensor]:
        return {name: total / self._weights[name] for name, total in self.sums.items()}


class _Measured(Interpreter):
    """Runs a network on the statistics of a batch and notes them."""

    def __init__(self, module: GraphModule, names: list[str], found: _Averages, samples: int) -> None:
        super().__init__(module)
        placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
        self._names = dict(zip(placeholders, names, strict=False))
        self._found, self._samples = found, samples

    def run_node(self, n: Node) -> Any:
        """As usual, but batch_norm normalises with the batch and notes its mean and variance."""
        if n.op != "call_function" or op_name(n) != "batch_norm" or n.args[3] is None:
            return super().run_node(n)
        values: Any = self.map_nodes_to_values(n.args, n)
        x, weight, bias, mean, var, _, _, eps, _ = values
        mean, var = torch.zeros_like(mean), torch.ones_like(var)
        out = functional.batch_norm(x, mean, var, weight, bias, training=True, momentum=1.0, eps=eps)
        for operand, value in zip(n.args[3:5], (mean, var), strict=True):
            self._found.add(self._names[cast("Node", operand)], value, self._samples)
        return out
