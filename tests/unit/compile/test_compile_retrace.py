"""An extracted subnet retraced is the subnet exported."""

from __future__ import annotations

import pytest
import torch
from compile_models import ResidualNet, noise, settled
from torch import fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree
from zoo.small_models import EXAMPLES

import tailorbird as tb
from tailorbird.compile.capture import capture
from tailorbird.compile.retrace import retrace
from tailorbird.errors import ModelError


def _nodes(program: ExportedProgram) -> list[tuple[object, ...]]:
    """Everything in a program that has to do with its outputs."""
    program.graph.eliminate_dead_code(lambda node: node.op in {"placeholder", "output"})
    names = {node: f"{node.op}{index}" for index, node in enumerate(program.graph.nodes)}

    def row(node: fx.Node) -> tuple[object, ...]:
        value = node.meta.get("val")
        args = fx.node.map_arg((node.args, node.kwargs), names.__getitem__)
        return (node.op, node.target, str(args), getattr(value, "shape", None), getattr(value, "dtype", None))

    return [row(node) for node in program.graph.nodes]


@pytest.mark.parametrize("name", ["mobilenet", "grouped", "shufflenet", "vit_manual", "bert"])
def test_a_retraced_subnet_is_the_exported_one(name: str) -> None:
    model, inputs = EXAMPLES[name].make().eval(), EXAMPLES[name].inputs(2)
    net = tb.elastic(model, inputs)
    for config in (net.space.smallest(), net.space.sample(1)):
        subnet = net.extract(config)
        with torch.no_grad():
            exported = torch.export.export(subnet, inputs)
        made = retrace(subnet, inputs)
        assert made is not None
        assert _nodes(made) == _nodes(exported)
        assert made.graph_signature.input_specs == exported.graph_signature.input_specs
        assert set(made.state_dict) == set(exported.state_dict)
        with torch.no_grad():
            answers = (pytree.tree_leaves(module(*inputs)) for module in (made.module(), subnet))
            assert all(map(torch.equal, *answers))


class _Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


class _Writing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.aten.add_.Tensor(x, x)


@pytest.mark.parametrize("module", [_Branching(), fx.symbolic_trace(_Branching()), fx.symbolic_trace(_Writing())])
def test_what_may_have_more_in_it_than_operations_is_left_to_torch(module: nn.Module) -> None:
    assert retrace(module, (torch.zeros(2),)) is None


def test_inputs_that_a_subnet_does_not_take_are_refused() -> None:
    net = tb.elastic(settled(ResidualNet()), (noise(1, 1, 16, 16),))
    subnet = net.extract(net.space.smallest())
    with pytest.raises(ModelError, match="cannot be exported"):
        capture(subnet, (noise(1, 2, 16, 16),))
    with pytest.raises(ModelError, match="cannot be exported"):
        capture(subnet, (noise(1, 1, 16, 16), noise(1)))
