"""Extract: a stand-alone subnet with its own weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.fx import GraphModule

from tailorbird.graph import as_module
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import Example, SuperNet


def extract(net: SuperNet, config: Config, example: Example | None = None) -> GraphModule:
    """The subnet of a configuration as a GraphModule in eval mode, bitwise equal to `net(x, config=config)`.

    It owns copies of its weights under the user's names (recalibrated statistics included), takes any batch size the
    network takes at the sizes of the example, and torch.export.export(subnet, inputs) exports it again. Frozen
    parameters stay frozen; it runs on the device the SuperNet is on. Raises: UsageError, InputShapeError.
    """
    chosen = net.space.canonical(config)
    sized = net.at_example(chosen, example)
    selection = sized.selection(chosen)
    made = sized.subgraph(chosen)
    statistics = net.statistics(chosen)
    owned = {
        name: statistics[name] if name in statistics else sized.cut(name, selection.cuts(sized.graph.stored[name]))
        for name in made.tensors
    }
    shared = {name: sized.tensor(name) for name in made.tensors}
    trains = {name: shared[name].requires_grad for name in made.tensors if isinstance(shared[name], nn.Parameter)}
    return as_module(made.graph, {name: t.detach().clone() for name, t in owned.items()}, trains, "Subnet")
