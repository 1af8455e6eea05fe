from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from zoo.small_models import Perceptron, ResidualNet, TextEncoder, VisionTransformer, randomised

from tailorbird.errors import UsageError
from tailorbird.supernet import SuperNet, accuracy, elastic
from tailorbird.supernet.accuracy import baselines
from tailorbird.supernet.accuracy.baselines import AccuracyPredictor
from tailorbird.supernet.accuracy.baselines.mlp import Encoding
from tailorbird.supernet.accuracy.evaluation import Evaluation, Evaluations, evaluate
from tailorbird.types import Config


class Plain(nn.Module):
    """Two convolutions with batch_norm and ReLU, and a head, in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.relu(self.bn2(self.conv2(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def plain() -> tuple[Plain, SuperNet]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = randomised(Plain()).eval()
    return model, elastic(model, (torch.randn(1, 3, 6, 6),), divisor=2)


@pytest.fixture(scope="module")
def net() -> SuperNet:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return elastic(randomised(ResidualNet(8)).eval(), (torch.randn(1, 3, 8, 8),), divisor=4)


def batches(count: int = 2, size: int = 16, side: int = 8, classes: int = 10) -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, 3, side, side, generator=random), torch.randint(0, classes, (size,), generator=random))
        for _ in range(count)
    ]


# -- evaluations


def test_subnets_are_evaluated_once_each_and_the_network_is_left_as_it_was(net: SuperNet) -> None:
    data, config = batches(), net.space.sample(3)
    net.recalibrate(net.space.sample(4), data)
    before = net.recalibrated()
    seen: list[tuple[int, int]] = []
    found = evaluate(net, [config, Config(), config], data, on_progress=lambda *state: seen.append(state))
    assert [known.config for known in found.found] == [config, Config()]
    assert seen == [(1, 2), (2, 2)]
    after = net.recalibrated()
    assert [known for known, _ in after] == [known for known, _ in before]
    assert found.accuracy(Config()) == accuracy(net, Config(), data)
    net.recalibrate(config, data)
    assert found.accuracy(config) == accuracy(net, config, data)
    net.forget_statistics()


def test_statistics_are_restored_when_an_evaluation_fails(net: SuperNet) -> None:
    config = net.space.sample(3)
    with pytest.raises(UsageError, match="labels"):
        evaluate(net, [config], [x for x, _ in batches()])
    assert net.statistics(config) == {}


# -- rankings that become accuracies


def anchored(net: SuperNet, configs: Sequence[Config], accuracies: Sequence[float]) -> Evaluations:
    return Evaluations(tuple(map(Evaluation, configs, accuracies)), 2.0)


def test_anchors_turn_a_ranking_into_accuracies_and_count_as_evaluations(net: SuperNet) -> None:
    configs = sorted({net.space.sample(seed) for seed in range(5)} | {Config()}, key=net.macs)
    wanted = [0.2 + 0.1 * place for place, _ in enumerate(configs)]
    predictor = baselines.macs(net, anchored(net, configs, wanted))
    assert [predictor.predict(config) for config in configs] == pytest.approx(wanted)
    assert (predictor.calibrated, predictor.evaluations) == (True, len(configs))
    assert predictor.seconds >= 2
    bare = baselines.macs(net)
    assert (bare.calibrated, bare.evaluations) == (False, 0)
    assert bare.predict(configs[0]) == bare.score(configs[0]) == net.macs(configs[0])


def test_anchors_against_the_ranking_level_predictions_out_and_leave_the_ranking_as_it_is(net: SuperNet) -> None:
    predictor = baselines.params(net, anchored(net, [net.space.smallest(), Config()], [0.9, 0.3]))
    assert predictor.predict(Config()) == predictor.predict(net.space.smallest()) == pytest.approx(0.6)
    assert predictor.score(Config()) == net.params() > predictor.score(net.space.smallest())


def test_spread_subnets_reach_from_the_full_network_to_the_smallest(net: SuperNet) -> None:
    found = baselines.spread_subnets(net, 6, seed=0)
    assert (found[0], found[-1], len(set(found))) == (Config(), net.space.smallest(), 6)
    costs = [net.macs(config) for config in found[:-1]]
    assert costs == sorted(costs, reverse=True)
    assert found == baselines.spread_subnets(net, 6, seed=0)


# -- additive accuracy


def test_single_changes_are_all_that_differ_from_the_full_network_in_one_choice(net: SuperNet) -> None:
    found = baselines.single_changes(net.space)
    wanted = 1 + sum(len(dimension.choices) - 1 for dimension in net.space.dimensions)
    assert len(set(found)) == len(found) == wanted
    assert [net.space.canonical(config) for config in found] == found
    assert all(len(config.sizes) + len(config.skipped) == 1 for config in found[1:])


def test_additive_accuracy_adds_up_what_single_changes_cost(net: SuperNet) -> None:
    data = batches(1)
    predictor = baselines.additive(net, data)
    worst = baselines.additive(net, data, combine="max")
    singles = evaluate(net, baselines.single_changes(net.space), data)
    assert predictor.evaluations == len(singles) == len(baselines.single_changes(net.space))
    for known in singles.found:
        assert predictor.predict(known.config) == pytest.approx(known.accuracy)
    one, other = net.space.width[0], net.space.width[1]
    both = Config.of({one.name: one.choices[0], other.name: other.choices[0]})
    base = singles.accuracy(Config())
    parts = [singles.accuracy(Config.of({d.name: d.choices[0]})) for d in (one, other)]
    assert base is not None
    losses = [part - base for part in parts if part is not None]
    assert predictor.predict(both) == pytest.approx(base + sum(losses))
    assert worst.predict(both) == pytest.approx(base + min(losses))


def test_additive_accuracy_is_refused_without_all_single_changes(net: SuperNet) -> None:
    some = evaluate(net, [Config()], batches(1))
    with pytest.raises(UsageError, match="not evaluated"):
        baselines.additive(net, (), singles=some).predict(net.space.smallest())
    with pytest.raises(UsageError, match="full network"):
        baselines.additive(net, (), singles=evaluate(net, [net.space.smallest()], batches(1)))
    with pytest.raises(UsageError, match="product"):
        baselines.additive(net, (), combine="product", singles=some)


# -- an MLP


def test_the_encoding_marks_one_choice_of_each_dimension_that_has_an_effect(net: SuperNet) -> None:
    encoding = Encoding(net.space)
    places = [(d.name, choice) for d in net.space.dimensions for choice in d.choices]
    marked = {key for key, bit in zip(places, encoding(Config()).tolist(), strict=True) if bit}
    assert marked == {(d.name, d.size) for d in net.space.dimensions}
    block = net.space.depth[0].name
    skipped = net.space.canonical(Config.of(skipped=[block]))
    marked = {key for key, bit in zip(places, encoding(skipped).tolist(), strict=True) if bit}
    inside = net.space.dead(skipped)[0]
    assert inside
    assert (block, 0) in marked
    assert {name for name, _ in marked} == {d.name for d in net.space.dimensions} - inside
    configs = baselines.random_subnets(net.space, 40, seed=0)
    assert len({tuple(encoding(config).tolist()) for config in configs}) == len(configs) == 40


def test_an_mlp_learns_what_depends_on_the_configuration_and_gives_the_same_for_the_same_seed(net: SuperNet) -> None:
    def real(config: Config) -> float:
        return 0.9 - 0.5 * (1 - net.params(config) / net.params())

    def learnt(seed: int) -> AccuracyPredictor:
        return baselines.mlp(net, anchored(net, seen, [real(c) for c in seen]), seed=seed, steps=60, weight_decay=1e-3)

    configs = baselines.random_subnets(net.space, 60, seed=0)
    seen, unseen = configs[:40], configs[40:]
    predictor = learnt(0)
    errors = [predictor.predict(config) - real(config) for config in unseen]
    spread = np.std([real(config) for config in unseen])
    assert np.sqrt(np.mean(np.square(errors))) < 0.5 * spread
    assert predictor.evaluations == 40
    state = torch.random.get_rng_state()
    assert [learnt(0).predict(c) for c in unseen] == [predictor.predict(c) for c in unseen]
    assert torch.equal(state, torch.random.get_rng_state())
    assert learnt(1).predict(unseen[0]) != predictor.predict(unseen[0])
    with pytest.raises(UsageError, match="too few"):
        baselines.mlp(net, anchored(net, [Config()], [0.9]))


def test_an_mlp_chooses_its_weight_decay_on_held_out_samples(net: SuperNet) -> None:
    configs = baselines.random_subnets(net.space, 9, seed=0)
    samples = anchored(net, configs, [net.params(config) / net.params() for config in configs])
    fits = [baselines.mlp(net, samples, steps=20, weight_decay=decay) for decay in (1e-4, 1e-3, 1e-2)]
    chosen = baselines.mlp(net, samples, steps=20).predict(Config())
    assert chosen in [fit.predict(Config()) for fit in fits]


# -- zero-cost proxies, against straightforward formulas on the user's own module


def sliced(model: Plain, net: SuperNet, config: Config) -> Plain:
    """The same subnet as a module of its own."""
    subnet, part = Plain(), net.extract(config).state_dict()
    for name, module in subnet.named_children():
        for kind in ("weight", "bias"):
            setattr(module, kind, nn.Parameter(part[f"{name}.{kind}"].clone()))
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean, module.running_var = (part[f"{name}.running_{k}"].clone() for k in ("mean", "var"))
    assert torch.allclose(subnet.eval()(x := torch.randn(2, 3, 6, 6)), net(x, config=config), atol=1e-5)
    return subnet


def some_configs(net: SuperNet) -> list[Config]:
    return [Config(), net.space.smallest(), net.space.sample(1)]


def test_synflow_is_the_product_of_absolute_weights_along_all_paths(plain: tuple[Plain, SuperNet]) -> None:
    model, net = plain
    scores = baselines.synflow(net)
    for config in some_configs(net):
        subnet = sliced(model, net, config).double()
        w1, b1, w2, b2, w3, b3 = (
            getattr(module, kind).detach().abs()
            for module in (subnet.conv1, subnet.conv2, subnet.fc)
            for kind in ("weight", "bias")
        )
        w1, w2, w3 = (w.requires_grad_() for w in (w1, w2, w3))
        x = functional.conv2d(torch.ones(1, 3, 6, 6, dtype=torch.float64), w1, b1, padding=1)
        total = functional.linear(functional.conv2d(x, w2, b2, padding=1).mean((2, 3)), w3, b3).sum()
        slopes = torch.autograd.grad(total, (w1, w2, w3))
        flow = sum(float((w.detach() * slope).sum()) for w, slope in zip((w1, w2, w3), slopes, strict=True))
        assert scores.score(config) == pytest.approx(math.log10(flow), rel=1e-9)


@pytest.mark.parametrize("signed", [False, True])
def test_zico_is_the_mean_gradient_over_its_deviation(plain: tuple[Plain, SuperNet], signed: bool) -> None:
    model, net = plain
    data = batches(3, size=12, side=6, classes=4)
    scores = baselines.zico(net, data, batches=3, signed=signed)
    for config in some_configs(net):
        subnet = sliced(model, net, config).train()
        gradients: dict[str, list[np.ndarray]] = {"conv1": [], "conv2": [], "fc": []}
        for x, labels in data:
            subnet.zero_grad()
            functional.cross_entropy(subnet(x), labels).backward()
            for name, found in gradients.items():
                found.append(subnet.get_submodule(name).weight.grad.numpy().ravel().astype(np.float64))
        total = 0.0
        for found in gradients.values():
            size = np.abs(found)
            deviation = np.std(found if signed else size, axis=0)
            moving = deviation > 0
            total += np.log((size.mean(0)[moving] / deviation[moving]).sum())
        assert scores.score(config) == pytest.approx(total, rel=1e-3)
    with pytest.raises(UsageError, match="two batches"):
        baselines.zico(net, data[:1])


def test_naswot_is_the_determinant_of_how_many_rectifiers_agree(plain: tuple[Plain, SuperNet]) -> None:
    model, net = plain
    data = batches(2, size=8, side=6)
    x = torch.cat([images for images, _ in data])
    scores = baselines.naswot(net, data)
    for config in some_configs(net):
        subnet = sliced(model, net, config).train()
        with torch.no_grad():
            first = subnet.bn1(subnet.conv1(x))
            second = subnet.bn2(subnet.conv2(first.relu()))
        codes = (torch.cat([first.flatten(1), second.flatten(1)], 1) > 0).numpy()
        kernel = np.array([[codes.shape[1] - np.sum(a != b) for b in codes] for a in codes], dtype=np.float64)
        assert scores.score(config) == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-6)
    with pytest.raises(UsageError, match="compares samples"):
        baselines.naswot(net, [x[:1]])


def test_proxies_leave_the_network_as_it_was(plain: tuple[Plain, SuperNet]) -> None:
    _, net = plain
    before = {name: value.clone() for name, value in net.state_dict().items()}
    data = batches(2, side=6, classes=4)
    for predictor in (baselines.synflow(net), baselines.zico(net, data), baselines.naswot(net, data)):
        predictor.score(net.space.smallest())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not net.training


def images() -> list[tuple[Tensor, Tensor]]:
    return batches(2, side=16)


def tokens() -> list[tuple[tuple[Tensor, Tensor], Tensor]]:
    random = torch.Generator().manual_seed(0)
    return [
        ((torch.randint(0, 50, (16, 12), generator=random), torch.ones(16, 12).long()), torch.arange(16) % 3)
        for _ in range(2)
    ]


@pytest.mark.parametrize(("make", "data"), [(ResidualNet, images), (VisionTransformer, images), (TextEncoder, tokens)])
def test_every_predictor_takes_any_network(make: Callable[[], nn.Module], data: Callable[[], list]) -> None:
    torch.manual_seed(0)
    held = data()
    first = held[0][0]
    example = tuple(x[:1] for x in (first if isinstance(first, tuple) else (first,)))
    net = elastic(randomised(make()).eval(), example)
    configs = list(dict.fromkeys([Config(), net.space.smallest(), *(net.space.sample(seed) for seed in range(3))]))
    anchors = evaluate(net, configs, held)
    made: list[AccuracyPredictor] = [
        baselines.macs(net, anchors),
        baselines.params(net, anchors),
        baselines.synflow(net, anchors),
        baselines.zico(net, held, anchors),
        baselines.naswot(net, held, anchors, images=24),
        baselines.mlp(net, anchors, steps=5, weight_decay=0.0),
    ]
    low, high = (bound(known.accuracy for known in anchors.found) for bound in (min, max))
    for predictor in made[:-1]:
        assert predictor.evaluations == len(configs)
        assert len({predictor.score(config) for config in configs}) > 1
        assert all(low <= predictor.predict(config) <= high for config in configs)
        ranked = sorted(configs, key=predictor.score)
        assert all(predictor.predict(a) <= predictor.predict(b) for a, b in itertools.pairwise(ranked))
    assert len({predictor.name for predictor in made}) == len(made)
    assert not any(math.isnan(predictor.score(config)) for predictor in made for config in configs)


def test_naswot_is_refused_where_nothing_rectifies() -> None:
    class Tanh(Perceptron):
        def __init__(self) -> None:
            super().__init__()
            self.layers[1] = nn.Tanh()

    net = elastic(Tanh().eval(), (torch.randn(2, 20),))
    with pytest.raises(UsageError, match="needs rectifiers"):
        baselines.naswot(net, [torch.randn(8, 20)])
