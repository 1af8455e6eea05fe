"""Capture: functional graph, folded batch norms, the subnet left alone."""

from __future__ import annotations

import pytest
import torch
from compile_models import InPlace, PreActivation, ReadTwice, ResidualNet, noise, settled
from torch import nn

from tailorbird.compile.capture import capture
from tailorbird.errors import CompileError, ModelError


def _operations(network) -> list[str]:
    return [str(node.target) for node in network.graph.nodes if node.op == "call_function"]


def _run(network, *inputs):
    with torch.no_grad():
        return network.program.module()(*inputs)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (ResidualNet(), (2, 1, 16, 16)),
        (PreActivation(), (1, 4, 6, 6)),
        (ReadTwice(), (1, 4, 6, 6)),
        (InPlace(), (1, 3, 5, 5)),
        (nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True)), (3, 4)),
        (nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, affine=False)), (1, 2, 5, 5)),
    ],
    ids=["residual", "pre-activation", "read twice", "in place", "linear", "not affine"],
)
def test_the_captured_program_computes_what_the_module_computes(module, shape) -> None:
    settled(module)
    x = noise(*shape)
    network = capture(module, (x,))
    with torch.no_grad():
        assert torch.allclose(_run(network, x), module(x), atol=1e-5)
    assert not any("batch_norm" in name or name.endswith("_.default") for name in _operations(network))


def test_folding_removes_a_batch_norm_and_adds_no_operation() -> None:
    network = capture(settled(ResidualNet()), (noise(1, 1, 16, 16),))
    assert sorted(set(_operations(network))) == [
        "aten.adaptive_avg_pool2d.default",
        "aten.add.Tensor",
        "aten.conv2d.default",
        "aten.flatten.using_ints",
        "aten.linear.default",
        "aten.relu.default",
    ]


def test_capture_leaves_the_subnet_as_it_was() -> None:
    module = settled(ResidualNet())
    module.blocks.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    capture(module, (noise(1, 1, 16, 16),))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert module.blocks.training
    assert not module.training


def test_the_signature_names_inputs_and_outputs_with_their_shapes() -> None:
    network = capture(settled(ResidualNet()), (noise(2, 1, 16, 16),))
    assert [(spec.name, spec.datatype, spec.shape) for spec in (*network.inputs, *network.outputs)] == [
        ("x", "FP32", (2, 1, 16, 16)),
        ("output_0", "FP32", (2, 10)),
    ]


def test_a_module_that_cannot_be_exported_is_the_users_to_fix() -> None:
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ModelError, match="cannot be exported"):
        capture(Branching(), (noise(2, 2),))


def test_a_datatype_without_a_name_in_the_protocol_is_refused() -> None:
    with pytest.raises(CompileError, match="cannot cross the boundary"):
        capture(nn.Identity(), (torch.zeros(2, dtype=torch.complex64),))


def test_a_batch_norm_that_two_calls_share_is_refused_with_the_fix() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.bn = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

        def forward(self, x):
            return self.bn(self.one(x)) + self.bn(self.two(x))

    with pytest.raises(CompileError, match="shares its running statistics"):
        capture(settled(Shared()), (noise(1, 2, 3, 3),))


def test_a_rectifier_of_a_rectified_value_is_dropped_and_others_are_kept() -> None:
    class Twice(nn.Module):
        def forward(self, x):
            y = torch.relu(torch.relu(x))
            return torch.relu(nn.functional.relu6(y) - 1) + torch.relu(y - 2)

    network = capture(Twice(), (torch.randn(1, 4),))
    names = [str(node.target) for node in network.graph.nodes if node.op == "call_function"]
    assert names.count("aten.relu.default") == 3
    x = 3 * torch.randn(1, 4)
    assert torch.equal(network.program.module()(x), Twice()(x))
