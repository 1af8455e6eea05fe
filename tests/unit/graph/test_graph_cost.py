from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from zoo.small_models import EXAMPLES

from tailorbird.graph import Shapes, count_macs, count_parameters, critical_path, peak_activation_bytes, trace


@pytest.mark.parametrize("name", ["residual", "mobilenet", "grouped", "densenet", "vit_manual", "mlp"])
def test_macs_are_half_the_flops_torch_counts(name: str) -> None:
    model, x = EXAMPLES[name].make().eval(), EXAMPLES[name].inputs(1)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(*x)
    assert 2 * count_macs(Shapes(trace(model, x), {})) == counter.get_total_flops()


def test_shared_parameters_count_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x))

    assert count_parameters(Shapes(trace(Tied().eval(), (torch.randn(1, 8),)), {})) == 64 + 16


def test_peak_activations_are_input_and_output_of_the_widest_layer() -> None:
    model = nn.Sequential(nn.Linear(4, 100), nn.ReLU(), nn.Linear(100, 2)).eval()
    shapes = Shapes(trace(model, (torch.randn(1, 4),)), {})
    assert peak_activation_bytes(shapes) == 2 * 100 * 4
    assert peak_activation_bytes(Shapes(shapes.source, {}, batch=3)) == 3 * 2 * 100 * 4


def test_the_longest_path_leaves_the_shorter_branch_out() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.short, self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(4, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.short(x) + self.second(torch.relu(self.first(x)))

    shapes = Shapes(trace(Branches().eval(), (torch.randn(1, 8),)), {})
    path = critical_path(shapes)
    assert path.operations == 4  # linear, relu, linear, add
    assert path.macs == 64  # both branches have 64
    assert count_macs(shapes) == 128
