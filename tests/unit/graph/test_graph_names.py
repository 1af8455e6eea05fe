"""Modules may be called what generated code cannot write."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tailorbird.graph.names import argument, attribute_path
from tailorbird.supernet import elastic


class Named(nn.Module):
    """A network whose modules are called by the given name, and by a number after a hyphen."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.stem = nn.Sequential()
        self.stem.add_module("block1-0", nn.Linear(8, 32))
        self.heads = nn.ModuleDict({name: nn.Linear(32, 4)})
        self.register_buffer("lambda", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        scale: Tensor = getattr(self, "lambda")
        return self.heads[self.name](torch.relu(self.stem(x))) * scale


@pytest.mark.parametrize("name", ["class", "import", "0", "with space"])
def test_modules_with_any_name_are_elastic_and_keep_it_in_the_state_dict(name: str) -> None:
    torch.manual_seed(0)
    model, x = Named(name).eval(), torch.randn(2, 8)
    net = elastic(model, (x,))
    config = net.space.smallest()
    with torch.no_grad():
        assert torch.equal(net(x), model(x))
        sub = net.extract(config)
        assert torch.equal(net(x, config=config), sub(x))
        again = torch.export.export(sub, (x,), strict=False).module()
        assert torch.equal(again(x), sub(x))
    assert net.params(config) == sum(p.numel() for p in sub.parameters()) < net.params()
    Named(name).load_state_dict(net.state_dict())


def test_names_are_changed_only_where_they_must() -> None:
    assert attribute_path("heads.class.weight") == "heads.class_.weight"
    assert attribute_path("heads.classes.weight") == "heads.classes.weight"
    assert argument(7, "trunk.block1-0.weight") == "w7_trunk_block1_0_weight"
