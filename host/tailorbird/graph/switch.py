"""Switch: an op that does one thing in training and another in evaluation, as its module's mode says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from torch import nn
from torch.fx import GraphModule

from tailorbird.graph.op import op_name
from tailorbird.graph.subgraph import TRAINING


class Switch(nn.Module):
    """Calls an op with its `train` argument as `self.training`. batch_norm then updates the running statistics."""

    def __init__(self, op: Callable[..., Any], position: int) -> None:
        super().__init__()
        self._op, self._position = op, position

    def forward(self, *args: Any) -> Any:
        """The op's result."""
        at = self._position
        return self._op(*args[:at], self.training, *args[at + 1 :])


def follow_mode(module: GraphModule) -> GraphModule:
    """Let a captured module follow `train()` and `eval()`, in place: batch_norm, dropout and recurrent layers.

    Its parameters, buffers and their names stay; in eval mode it computes what it did.
    """
    for node in list(module.graph.nodes):
        position = TRAINING.get(op_name(node)) if node.op == "call_function" else None
        if position is None or len(node.args) <= position or node.args[position] is not False:
            continue
        name = f"switch_{node.name}"
        made = Switch(cast("Callable[..., Any]", node.target), position)
        module.add_submodule(name, made.train(module.training))
        with module.graph.inserting_after(node):
            switch = module.graph.call_module(name, node.args)
        node.replace_all_uses_with(switch)
        switch.meta = dict(node.meta)
        module.graph.erase_node(node)
    module.recompile()
    return module
