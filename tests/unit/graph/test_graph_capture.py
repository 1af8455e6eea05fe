from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo.small_models import ResidualNet

from tailorbird.errors import ModelError
from tailorbird.graph import op_name, trace
from tailorbird.graph.capture import capture


def ops(model: nn.Module, *inputs: Tensor, batch: int | None = None) -> list[str]:
    graph = capture(model.eval(), inputs, batch=batch).graph
    return [op_name(node) for node in graph.nodes if node.op == "call_function"]


def test_in_place_ops_become_functional_where_nothing_else_sees_the_memory() -> None:
    names = ops(ResidualNet(), torch.randn(2, 3, 16, 16))
    assert not [name for name in names if name.endswith("_")]
    assert "relu" in names


def test_a_write_into_a_slice_becomes_a_scatter() -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            y[:, 0].add_(1.0)
            return y

    assert "add_" not in ops(Model(), torch.randn(2, 3))
    assert "select_scatter" in ops(Model(), torch.randn(2, 3))
    model = Model()
    x = torch.randn(2, 3)
    found = trace(model, (x,))
    assert found.groups == ()


def test_every_split_is_one_op_with_explicit_sizes() -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            a, b = x.chunk(2, 1)
            c, d = x.split(3, 1)
            return a + b + c + d

    assert ops(Model(), torch.randn(2, 6)).count("split_with_sizes") == 2


def test_all_arguments_are_positional_and_present() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

    graph = capture(Model().eval(), (torch.randn(1, 3, 4, 4),), batch=None).graph
    conv = next(node for node in graph.nodes if op_name(node) == "conv2d")
    assert len(conv.args) == 7
    assert conv.args[6] == 1
    assert not conv.kwargs


def test_data_dependent_control_flow_is_explained() -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(ModelError, match="cannot be captured") as caught:
        trace(Model(), (torch.randn(2, 3),))
    assert "data-dependent" in caught.value.fix


def test_a_network_that_fixes_its_batch_is_compiled_for_that_batch_with_the_reason() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 16), nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(F.relu(self.first(x)).reshape(1, 32))

    found = trace(Model().eval(), (torch.randn(2, 6),))
    assert found.batch is None
    assert found.batch_pin is not None
