"""In train mode the full configuration is the user's network: loss, gradients, statistics, randomness."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from zoo.small_models import EXAMPLES, randomised

from tailorbird.supernet import SuperNet, elastic

torch.set_num_threads(1)


class Attention(nn.Module):
    """Fused attention with dropout inside, stochastic depth around it, `F.dropout(training=self.training)` after it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out, self.head = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 4)
        self.norm = nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, t, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.3 if self.training else 0.0)
        y = self.out(y.transpose(1, 2).reshape(n, t, 16))
        if self.training:
            y = y * torch.bernoulli(torch.full((n, 1, 1), 0.7, device=y.device)) / 0.7
        return self.head(F.dropout((x + y).mean(1), 0.5, self.training))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 16, num_layers=2, dropout=0.5, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Normalised(nn.Module):
    """Batch norms that average cumulatively, update slowly, keep no statistics or have no affine part; an RReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv1d(6, 16, 3), nn.Conv1d(16, 16, 3), nn.Linear(16, 4)
        self.norms = nn.ModuleList(
            [
                nn.BatchNorm1d(16, momentum=None),
                nn.BatchNorm1d(16, momentum=0.01, affine=False),
                nn.InstanceNorm1d(16, affine=True, track_running_stats=True),
                nn.BatchNorm1d(16, track_running_stats=False),
            ]
        )
        self.drop = nn.Sequential(nn.Dropout1d(0.3), nn.AlphaDropout(0.2), nn.RReLU())

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[1](self.norms[0](self.first(x)).relu())
        y = self.drop(self.norms[3](self.norms[2](self.second(y))))
        return self.head(y.mean(2))


class Auxiliary(nn.Module):
    """One more answer while training."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.extra = nn.Linear(16, 16), nn.Linear(16, 4), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        y = self.body(x).relu().mean(1)
        return (self.head(y), self.extra(y)) if self.training else self.head(y)


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[int], tuple[Tensor, ...]]]] = {
    "attention": (Attention, lambda n: (torch.randn(n, 5, 16),)),
    "recurrent": (Recurrent, lambda n: (torch.randn(n, 5, 16),)),
    "normalised": (Normalised, lambda n: (torch.randn(n, 6, 12),)),
    "auxiliary": (Auxiliary, lambda n: (torch.randn(n, 5, 16),)),
    **{name: (example.make, example.inputs) for name, example in EXAMPLES.items()},
}


def made(make: Callable[[], nn.Module]) -> nn.Module:
    return make() if make is Normalised else randomised(make())


def loss(output: object) -> Tensor:
    return sum(leaf.float().square().mean() for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor))


@pytest.mark.parametrize("name", CASES)
def test_training_the_full_configuration_is_training_the_users_network(name: str) -> None:
    make, inputs = CASES[name]
    model = made(make)
    net = elastic(model, inputs(1), divisor=4).train()
    model.train()
    steps = [torch.optim.SGD(m.parameters(), lr=0.01) for m in (model, net)]
    for seed in range(2):
        x = inputs(6)
        losses = []
        for module, optimiser in zip((model, net), steps, strict=True):
            optimiser.zero_grad()
            torch.manual_seed(seed)
            losses.append(loss(module(*x)))
            losses[-1].backward()
        assert torch.equal(*losses)
        for (key, mine), theirs in zip(model.named_parameters(), net.weights.parameters(), strict=True):
            assert (mine.grad is None) == (theirs.grad is None), key
            assert mine.grad is None or torch.equal(mine.grad, theirs.grad), key
        for optimiser in steps:
            optimiser.step()
    theirs = net.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["attention", "recurrent", "normalised", "auxiliary"])
def test_training_a_subnet_touches_no_statistics_and_stays_in_its_weights(name: str) -> None:
    make, inputs = CASES[name]
    net = elastic(made(make), inputs(1), divisor=4).train()
    before = {key: value.clone() for key, value in net.weights.named_buffers()}
    config = net.space.smallest()
    x = inputs(6)
    loss(net(*x, config=config)).backward()
    assert all(torch.equal(value, before[key]) for key, value in net.weights.named_buffers())
    kept = dict(net.extract(config).named_parameters())
    for key, parameter in net.weights.named_parameters():
        found = 0 if parameter.grad is None else int(parameter.grad.count_nonzero())
        assert found <= (kept[key].numel() if key in kept else 0), key


def test_dropout_drops_in_subnets_too() -> None:
    net = elastic(randomised(Attention()), (torch.randn(1, 5, 16),), divisor=4).train()
    x, config = torch.randn(3, 5, 16), net.space.smallest()
    assert not torch.equal(net(x, config=config), net(x, config=config))
    answers = [seeded(net, x) for _ in range(2)]
    assert torch.equal(*answers)


def seeded(net: SuperNet, x: Tensor) -> Tensor:
    torch.manual_seed(3)
    return net(x, config=net.space.smallest())


def test_modules_the_user_keeps_in_eval_mode_stay_there() -> None:
    model = Normalised()
    net = elastic(model, (torch.randn(1, 6, 12),))
    for module in (model, net):
        module.train()
        for norm in (module.weights if isinstance(module, SuperNet) else module).norms:
            norm.eval()
    x = torch.randn(5, 6, 12)
    answers = []
    for module in (model, net):
        torch.manual_seed(0)
        answers.append(module(x))
    assert torch.equal(*answers)
    assert torch.equal(net.weights.norms[0].running_mean, copy.deepcopy(model).norms[0].running_mean)


class Wide(nn.Module):
    """Weights large enough for every way of cutting them, (N, 8, 6, 6) -> (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(8, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()
        )
        self.fc, self.head = nn.Linear(64 * 16, 256), nn.Linear(256, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fc(self.convs(x).flatten(1)).relu())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_gradients_of_large_weights_are_those_of_the_extracted_subnet_scattered(layout: torch.memory_format) -> None:
    net = elastic(randomised(Wide()).to(memory_format=layout), (torch.randn(1, 8, 6, 6),))
    x = torch.randn(5, 8, 6, 6).to(memory_format=layout)
    for config in (net.space.smallest(), net.space.sample(1), net.space.sample(2)):
        sub = net.extract(config)
        net.zero_grad(set_to_none=True)
        answers = net(x, config=config), sub(x)
        for answer in answers:
            loss(answer).backward()
        assert torch.equal(*answers)
        found = dict(sub.named_parameters())
        selection = net.selection(net.space.canonical(config))
        for key, parameter in net.weights.named_parameters():
            expected = found[key].grad
            for axis, kept in reversed(selection.cuts(net.graph.stored[key])):
                shape = [*expected.shape[:axis], parameter.shape[axis], *expected.shape[axis + 1 :]]
                expected = torch.zeros(shape).index_copy_(axis, kept, expected)
            assert torch.equal(parameter.grad, expected), key


def test_gradients_of_gradients_reach_the_shared_weights() -> None:
    net = elastic(randomised(Wide()), (torch.randn(1, 8, 6, 6),))
    config, x = net.space.smallest(), torch.randn(3, 8, 6, 6)
    sub = net.extract(config)
    second = []
    for module, weight in ((lambda: net(x, config=config), net.weights.fc.weight), (lambda: sub(x), sub.fc.weight)):
        (first,) = torch.autograd.grad(loss(module()), weight, create_graph=True)
        second.append(torch.autograd.grad(first.square().sum(), weight)[0])
    assert torch.equal(second[0][second[0] != 0], second[1][second[1] != 0])
    assert second[0].count_nonzero() > 0
