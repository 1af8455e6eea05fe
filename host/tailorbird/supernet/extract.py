"""Extract: a stand-alone subnet with its own weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.fx import GraphModule

from tailorbird.graph import as_module, specialise
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


def extract(net: SuperNet, config: Config) -> GraphModule:
    """The subnet of a configuration as a GraphModule in eval mode, bitwise equal to `net(x, config=config)`.

    It owns copies of its weights under the user's names (recalibrated statistics included), takes any batch size the
    network takes, and torch.export.export(subnet, inputs) exports it again. Frozen parameters stay frozen; it runs on
    the device the SuperNet is on. Raises: UsageError.
    """
    chosen = net.space.canonical(config)
    selection = net.selection(chosen)
    made = specialise(net.graph, selection.sizes, selection.skipped, device=net.moved_to)
    statistics = net.statistics(chosen)
    owned = {
        name: statistics[name] if name in statistics else net.cut(name, selection.cuts(net.graph.stored[name]))
        for name in made.tensors
    }
    shared = {name: net.tensor(name) for name in made.tensors}
    trains = {name: shared[name].requires_grad for name in made.tensors if isinstance(shared[name], nn.Parameter)}
    return as_module(made.graph, {name: t.detach().clone() for name, t in owned.items()}, trains, "Subnet")
