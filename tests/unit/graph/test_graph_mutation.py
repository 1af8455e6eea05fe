"""Writes into tensors: the captured network is the user's, and what is written stays elastic."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo.exactness import compiled

from tailorbird.graph import op_name


class Writer(nn.Module):
    def __init__(self, write: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.write = write
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        return self.last(self.write(x, self.second(x)))


def slice_write(x: Tensor, y: Tensor) -> Tensor:
    x = x * 2
    x[:, :, 1:3, ::2] = y[:, :, 1:3, ::2]
    return x


def slice_update(x: Tensor, y: Tensor) -> Tensor:
    x = x * 2
    x[:, :, :4] += y[:, :, :4]
    x[:, :, 0, 0] = 0.5
    return x


def channel_write(x: Tensor, y: Tensor) -> Tensor:
    z = x.new_zeros(x.shape[0], 8, 8, 8)
    z[:, :3] = x[:, :3]
    z[:, 3:] = y[:, 3:]
    return z


def aliased_write(x: Tensor, y: Tensor) -> Tensor:
    x = x * 2
    view = x.reshape_as(y)
    view.add_(y)
    return x


def read_through_another_name(x: Tensor, y: Tensor) -> Tensor:
    x = x * 2
    early = x[:, :, 1:]
    x[:, :, :4] = y[:, :, :4]
    return x * early.mean((2, 3), keepdim=True)


def written_view_read_again(x: Tensor, y: Tensor) -> Tensor:
    x = x * 2
    part = x[:, :, :4]
    part.mul_(y[:, :, :4])
    return x + part.mean((2, 3), keepdim=True)


@pytest.mark.parametrize("write", [slice_write, slice_update, channel_write, written_view_read_again])
def test_writes_into_slices_become_values_and_stay_elastic(write: Callable[[Tensor, Tensor], Tensor]) -> None:
    net = compiled(Writer(write), torch.randn(2, 3, 8, 8))
    assert not net.report.unknown_ops
    assert net.elastic_fraction > 0.9
    assert not any(op_name(node).endswith("_") for node in net.graph.graph.nodes if node.op == "call_function")


@pytest.mark.parametrize("write", [aliased_write, read_through_another_name])
def test_writes_that_another_name_sees_stay_writes(write: Callable[[Tensor, Tensor], Tensor]) -> None:
    net = compiled(Writer(write), torch.randn(2, 3, 8, 8))
    assert any(op_name(node).endswith("_") for node in net.graph.graph.nodes if node.op == "call_function")


def test_a_block_that_writes_can_be_skipped() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body, self.head = (nn.Linear(8, 8) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            y = self.body(x)
            y[:, 1:] = y[:, 1:] * 2
            return self.head(x + y)

    net = compiled(Block(), torch.randn(2, 5, 8))
    assert [d.name for d in net.space.depth] == ["body"]
