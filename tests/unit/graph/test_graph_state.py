"""State that forward passes keep: tables cached for a size leave no trace of the capture behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from zoo.exactness import compiled

from tailorbird.graph import kept_state


def table(length: int) -> Tensor:
    return (torch.arange(length)[:, None] * torch.arange(1.0, 9.0) / 10).sin()


class Positions(nn.Module):
    """Adds a table of positions that it makes when it is first needed."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.first(x) + self.positions(x.shape[1]))
        return y

    def positions(self, length: int) -> Tensor:
        raise NotImplementedError


class InBuffer(Positions):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", None)

    def positions(self, length: int) -> Tensor:
        if self.table is None or len(self.table) < length:
            self.table = table(length)
        return self.table[:length]


class InAttribute(Positions):
    table: Tensor | None = None

    def positions(self, length: int) -> Tensor:
        if self.table is None or len(self.table) < length:
            self.table = table(length)
        return self.table[:length]


class InDict(Positions):
    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[int, Tensor] = {}

    def positions(self, length: int) -> Tensor:
        if length not in self.tables:
            self.tables[length] = table(length)
        return self.tables[length]


@pytest.mark.parametrize("make", [InBuffer, InAttribute, InDict])
def test_a_table_made_on_first_use_leaves_inputs_alone_and_grows(make: type[Positions]) -> None:
    model = make()
    net = compiled(model, torch.randn(2, 6, 8))
    assert [d.name for d in net.space.width] == ["first"]
    x = torch.randn(3, 9, 8)
    given = x.clone()
    smallest = net.space.smallest()
    with torch.no_grad():
        assert torch.equal(net(x), model(x))
        assert torch.equal(net.extract(smallest, (x,))(x), net(x, config=smallest))
    assert torch.equal(x, given)


def test_a_table_that_a_longer_sequence_replaces_is_the_one_of_the_sequence() -> None:
    model = InBuffer()
    model(torch.randn(1, 4, 8))
    net = compiled(model, torch.randn(2, 4, 8))
    x = torch.randn(2, 7, 8)
    with torch.no_grad():
        assert torch.equal(net(x), model(x))
    assert net.state_dict()["table"].shape == (4, 8)


def test_attributes_and_containers_are_put_back() -> None:
    model = InDict()
    with kept_state(model):
        model(torch.randn(1, 3, 8))
        model.register_buffer("later", torch.ones(2))
        assert list(model.tables) == [3]
    assert not model.tables
    assert not hasattr(model, "later")
