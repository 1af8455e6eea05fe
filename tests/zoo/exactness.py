"""What every compiled network must satisfy, for tests that compile small modules of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from zoo.small_models import randomised

from tailorbird.graph import Mode
from tailorbird.supernet import SuperNet, elastic
from tailorbird.supernet.selection import Selection, cut
from tailorbird.types import Config


def compiled(model: nn.Module, *inputs: Any, divisor: int = 1) -> SuperNet:
    """Compile a module with random weights and prove it exact: see `assert_exact`."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = randomised(model).eval()
    net = elastic(model, inputs, divisor=divisor)
    assert_exact(model, net, *inputs)
    return net


def assert_exact(model: nn.Module, net: SuperNet, *inputs: Any) -> None:
    """Full is the model, extracted is sliced (both bitwise), and no group depends on the order of its indices."""
    with torch.no_grad():
        expected = tensors(model(*inputs))
        assert_same(tensors(net(*inputs)), expected)
        for config in (net.space.smallest(), narrowest(net), *map(net.space.sample, (1, 2, 3))):
            sub = net.extract(config)
            assert_same(tensors(sub(*inputs)), tensors(net(*inputs, config=config)))
            assert net.params(config) == sum(p.numel() for p in sub.parameters())
        for permuted in (permuted_outputs(net, seed, *inputs) for seed in (1, 2)):
            for a, b in zip(permuted, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()), equal_nan=True)


def narrowest(net: SuperNet) -> Config:
    """Every width at its smallest choice, every block kept."""
    sizes = {d.name: d.choices[0] for d in net.space.dimensions if d.kind != "depth"}
    return net.space.canonical(Config.of(sizes))


def permuted_outputs(net: SuperNet, seed: int, *inputs: Any) -> list[Tensor]:
    """Outputs of the full network after permuting the indices of every group in every tensor that stores it.

    Permuting is the identity exactly where the tensors of a group are cut along matching axes and no op depends on the
    order of its indices; unlike zeroing, that holds across normalisations, too.
    """
    draw = torch.Generator().manual_seed(seed)
    orders = {g.atom: torch.randperm(g.atom.size, generator=draw) for g in net.graph.groups}
    selection = Selection(orders, ())
    plan = net.sizes.base.plan(Config(), Mode.EVAL)
    stored = [cut(net.tensor(name), selection.cuts(net.graph.stored[name])) for name, _ in plan.tensors]
    return tensors(plan.module(*stored, *inputs))


def tensors(value: object) -> list[Tensor]:
    """The tensors of a structured output."""
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def assert_same(left: list[Tensor], right: list[Tensor]) -> None:
    """Bitwise equality."""
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
