from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.fx import GraphModule
from zoo.small_models import EXAMPLES, randomised

from tailorbird.graph import fold_batch_norm, op_name
from tailorbird.supernet import elastic


def norms(module: GraphModule) -> int:
    return sum(op_name(node) == "batch_norm" for node in module.graph.nodes if node.op == "call_function")


@pytest.mark.parametrize(("name", "left"), [("residual", 0), ("resnet20", 0), ("mobilenet", 0), ("densenet", 3)])
def test_folding_keeps_the_function_and_removes_every_norm_behind_a_layer(name: str, left: int) -> None:
    model = randomised(EXAMPLES[name].make()).eval()
    net = elastic(model, EXAMPLES[name].inputs(1), divisor=4)
    sub = net.extract(net.space.sample(3))
    folded = fold_batch_norm(sub)
    x = EXAMPLES[name].inputs(3)
    with torch.no_grad():
        torch.testing.assert_close(folded(*x), sub(*x), rtol=1e-4, atol=1e-4)
        program = torch.export.export(sub, x, strict=False)
        torch.testing.assert_close(fold_batch_norm(program.module())(*x), sub(*x), rtol=1e-4, atol=1e-4)
    assert norms(folded) == left
    assert norms(sub) > left


def test_a_norm_on_batch_statistics_stays() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8, track_running_stats=False)).eval()
    sub = elastic(model, (torch.randn(2, 3, 4, 4),)).extract()
    assert norms(fold_batch_norm(sub)) == 1


def test_weights_used_twice_are_left_alone() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.norm(self.conv(x)))

    model = randomised(Shared()).eval()
    sub = elastic(model, (torch.randn(2, 4, 4, 4),)).extract()
    assert norms(fold_batch_norm(sub)) == 1
