"""Ops of the user's own (torch.library) have no rule: pinned, reported by name, exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tailorbird.supernet import elastic

torch.set_num_threads(1)


@torch.library.custom_op("tailorbird_test::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return x * 2


@torch.library.custom_op("tailorbird_test::halves", mutates_args=())
def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    return x / 2, x / 4


@torch.library.custom_op("tailorbird_test::copies", mutates_args=())
def copies(x: Tensor, count: int) -> list[Tensor]:
    return [x + index for index in range(count)]


@torch.library.custom_op("tailorbird_test::shift", mutates_args={"x"})
def shift(x: Tensor) -> None:
    x.add_(1)


twice.register_fake(torch.empty_like)
halves.register_fake(lambda x: (torch.empty_like(x), torch.empty_like(x)))
copies.register_fake(lambda x, count: [torch.empty_like(x) for _ in range(count)])


def several(x: Tensor) -> Tensor:
    a, b = halves(x)
    return a - b


def changed(x: Tensor) -> Tensor:
    y = x.clone()
    shift(y)
    return y


STEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "twice": twice,
    "halves": several,
    "copies": lambda x: copies(x, 3)[1],
    "shift": changed,
}


@pytest.mark.parametrize("op", STEPS)
def test_an_unknown_op_is_pinned_reported_by_name_and_exact(op: str) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.third(self.second(STEPS[op](self.first(x))).relu())

    model = Model().eval()
    net = elastic(model, (torch.randn(1, 8),), divisor=4)
    assert [name for name in net.report.unknown_ops if f"tailorbird_test::{op}" in name]
    assert [d.name for d in net.space.width] == ["second"]
    x, config = torch.randn(5, 8), net.space.smallest()
    with torch.no_grad():
        assert torch.equal(net(x), model(x))
        sub = net.extract(config)
        assert torch.equal(net(x, config=config), sub(x))
        again = torch.export.export(sub, (x,), strict=False).module()
        assert torch.equal(again(x), sub(x))
