"""Modules and parameters may have any name that torch takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tailorbird.supernet import elastic


class OddNames(nn.Module):
    """Names that are no Python identifiers (`block1-0`, as in torchvision's RegNet), and names that differ in a dot."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        self.layers.add_module("block1-0", nn.Linear(8, 32))
        self.layers.add_module("1 für alle", nn.ReLU())
        self.layers.add_module("2-class", nn.Linear(32, 16))
        self.a = nn.Linear(16, 16)
        self.a_weight = nn.Parameter(torch.randn(16))
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.a(self.layers(x)) * self.a_weight)


def test_names_that_are_no_identifiers_or_look_alike_compile_and_stay() -> None:
    torch.manual_seed(0)
    model = OddNames().eval()
    x = torch.randn(3, 8)
    net = elastic(model, (x,), divisor=4)
    config = net.space.smallest()
    subnet = net.extract(config)
    with torch.no_grad():
        assert torch.equal(net(x), model(x))
        assert torch.equal(net(x, config=config), subnet(x))
    assert {name for name, _ in subnet.named_parameters()} == {name for name, _ in model.named_parameters()}
    assert net.params(config) == sum(p.numel() for p in subnet.parameters()) < sum(p.numel() for p in net.parameters())
    exported = torch.export.export(subnet, (x,)).module()
    with torch.no_grad():
        assert torch.equal(exported(x), subnet(x))
