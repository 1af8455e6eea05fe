"""What must hold for every network: nothing is guessed, nothing is nearly right."""

from __future__ import annotations

import functools
import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from zoo.small_models import EXAMPLES, randomised

from tailorbird.supernet import SuperNet, elastic
from tailorbird.types import Config

SEEDS = (1, 2, 3)

# Dimensions that feed a normalisation over channels: there a zeroed channel still counts, so zeroing is no oracle.
NORMALISED = {"grouped": {"grouped"}, "vit": {"patch"}, "vit_manual": {"patch"}, "bert": {"words"}}


@functools.cache
def compiled(name: str) -> tuple[nn.Module, SuperNet]:
    torch.set_num_threads(1)
    model = randomised(EXAMPLES[name].make()).eval()
    return model, elastic(model, EXAMPLES[name].inputs(1), divisor=4)


def outputs(value: object) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def identical(left: object, right: object) -> bool:
    return all(torch.equal(a, b) for a, b in zip(outputs(left), outputs(right), strict=True))


def configurations(net: SuperNet) -> list[Config]:
    return [net.space.smallest(), *(net.space.sample(seed) for seed in SEEDS)]


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("batch", [1, 7])
def test_full_configuration_is_bitwise_the_users_network_at_any_batch(name: str, batch: int) -> None:
    model, net = compiled(name)
    x = EXAMPLES[name].inputs(batch)
    with torch.no_grad():
        assert identical(model(*x), net(*x))
        assert identical(model(*x), net(*x, config=net.space.full()))
        assert identical(model(*x), net.extract()(*x))
    assert net.report.any_batch
    assert type(net(*x)) is type(model(*x))


@pytest.mark.parametrize("name", EXAMPLES)
def test_extracted_subnet_is_bitwise_the_supernet_at_its_configuration(name: str) -> None:
    _, net = compiled(name)
    with torch.no_grad():
        for config in configurations(net):
            sub = net.extract(config)
            for batch in (1, 5):
                x = EXAMPLES[name].inputs(batch)
                assert identical(net(*x, config=config), sub(*x)), config
            assert net.params(config) == sum(p.numel() for p in sub.parameters())


@pytest.mark.parametrize("name", EXAMPLES)
def test_extracted_subnet_exports_again(name: str) -> None:
    _, net = compiled(name)
    x = EXAMPLES[name].inputs(3)
    config = net.space.sample(5)
    sub = net.extract(config)
    with torch.no_grad():
        again = torch.export.export(sub, x, strict=False).module()
        assert identical(again(*x), net(*x, config=config))


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "unusual"])
def test_a_subnet_computes_what_the_users_network_computes_with_the_dropped_channels_zeroed(name: str) -> None:
    model, net = compiled(name)
    x = EXAMPLES[name].inputs(4)
    for seed in SEEDS:
        drawn = net.space.sample(seed)
        sizes = {n: k for n, k in drawn.sizes if n not in NORMALISED.get(name, ())}
        config = Config.of(sizes)
        oracle = zeroed(net, EXAMPLES[name].make(), config)
        with torch.no_grad():
            for a, b in zip(outputs(oracle(*x)), outputs(net(*x, config=config)), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert model is not net.weights


def zeroed(net: SuperNet, fresh: nn.Module, config: Config) -> nn.Module:
    """The user's network with every dropped index set to zero in every parameter that stores it."""
    fresh.load_state_dict(net.state_dict())
    selection = net.selection(config)
    stored = dict(fresh.named_parameters())
    with torch.no_grad():
        for name, dims in net.graph.stored.items():
            for axis, kept in selection.cuts(dims):
                if name in stored:
                    dropped = sorted(set(range(stored[name].shape[axis])) - set(kept.tolist()))
                    stored[name].index_fill_(axis, torch.tensor(dropped, dtype=torch.int64), 0.0)
    return fresh.eval()


@pytest.mark.parametrize("name", EXAMPLES)
def test_keep_sets_nest_and_costs_rise_with_every_size(name: str) -> None:
    _, net = compiled(name)
    smallest = net.space.smallest()
    assert net.params(smallest) <= net.params()
    assert net.macs(smallest) < net.macs()
    for dimension in net.space.dimensions:
        if dimension.kind == "depth":
            skipped = Config.of(skipped=(dimension.name,))
            assert net.params(skipped) < net.params()
            assert net.macs(skipped) < net.macs()
            continue
        order = net.orders[dimension.name].tolist()
        assert sorted(order) == list(range(dimension.size))
        configs = [Config.of({dimension.name: size}) for size in dimension.choices]
        kept = [set(next(iter(net.selection(c).kept.values())).tolist()) for c in configs]
        assert all(a < b for a, b in itertools.pairwise(kept))
        costs = [(net.params(net.space.canonical(c)), net.macs(c), net.peak_activation_bytes(c)) for c in configs]
        for small, large in itertools.pairwise(costs):
            assert small[0] < large[0]
            assert small[1] <= large[1]
            assert small[2] <= large[2]


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "unusual"])
def test_gradients_of_a_subnet_are_those_of_the_extracted_one_scattered(name: str) -> None:
    _, net = compiled(name)
    config = net.space.sample(2)
    x = EXAMPLES[name].inputs(3)
    sub = net.extract(config)
    net.zero_grad(set_to_none=True)
    sum(y.square().sum() for y in outputs(net(*x, config=config))).backward()
    sum(y.square().sum() for y in outputs(sub(*x))).backward()
    grads = dict(sub.named_parameters())
    selection = net.selection(net.space.canonical(config))
    for full_name in net.graph.parameters:
        weight = net.tensor(full_name)
        if full_name not in grads:
            assert weight.grad is None
            continue
        expected = grads[full_name].grad
        for axis, kept in reversed(selection.cuts(net.graph.stored[full_name])):
            shape = list(expected.shape)
            shape[axis] = weight.shape[axis]
            expected = torch.zeros(shape).index_copy_(axis, kept, expected)
        assert torch.equal(weight.grad, expected), full_name
    net.zero_grad(set_to_none=True)


@pytest.mark.parametrize("name", EXAMPLES)
def test_train_mode_runs_at_any_batch_and_normalises_with_the_batch(name: str) -> None:
    model = randomised(EXAMPLES[name].make())
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    net = elastic(model, EXAMPLES[name].inputs(1), divisor=4).train()
    for module in net.weights.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            before = module.running_mean.clone()
    x = EXAMPLES[name].inputs(6)
    for config in configurations(net):
        value = sum(y.square().mean() for y in outputs(net(*x, config=config)))
        value.backward()
        assert math.isfinite(value.item())
    norms = [m for m in net.weights.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    if norms:
        assert torch.equal(norms[-1].running_mean, before), "a subnet must not touch the running statistics"
    with torch.no_grad():
        assert identical(model.train()(*x), net(*x))
    if norms:
        assert torch.equal(norms[-1].running_mean, dict(model.named_buffers())[_name_of(net.weights, norms[-1])])


def _name_of(root: nn.Module, module: nn.Module) -> str:
    return next(f"{name}.running_mean" for name, found in root.named_modules() if found is module)


@pytest.mark.parametrize("name", EXAMPLES)
def test_as_much_is_elastic_as_the_structure_allows(name: str) -> None:
    _, net = compiled(name)
    assert net.elastic_fraction >= EXAMPLES[name].elastic


def test_an_op_without_a_rule_is_pinned_with_its_name_and_the_rest_stays_elastic() -> None:
    _, net = compiled("unusual")
    assert {op.split(":")[0] for op in net.report.unknown_ops} == {"renorm"}
    pinned = {p.name: p for p in net.report.pinned}
    assert pinned["first.weight[0]"].op == "cumsum"
    assert "before it" in pinned["first.weight[0]"].reason
    assert pinned["third.weight[0]"].op == "renorm"
    assert [d.name for d in net.space.width] == ["second"]
