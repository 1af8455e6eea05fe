"""Networks and loaders that training must take as they come: sizes that change, half precision, norms of every kind."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tailorbird.errors import UsageError
from tailorbird.supernet import SuperNet, accuracy, elastic
from tailorbird.supernet.training import Progress
from tailorbird.supernet.training.alpha import adaptive_divergence
from tailorbird.types import Config

CLASSES = 3
DRAWN = torch.Generator().manual_seed(0)
IMAGES = torch.randn(8, 3, 6, 6, generator=DRAWN)
LABELS = torch.arange(8) % CLASSES
BATCHES = [(IMAGES, LABELS), (IMAGES + 0.1, LABELS)]


class Sequences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.places = nn.Parameter(torch.zeros(1, 12, 16))
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        mixed: Tensor = self.layer(self.embed(tokens) + self.places[:, : tokens.shape[1]])
        return self.head(mixed.mean(1))


class Pictures(nn.Module):
    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1), norm or nn.BatchNorm2d(16)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.relu(self.norm(self.stem(x))).mean((2, 3)))


def of(model: nn.Module, example: Tensor = IMAGES) -> SuperNet:
    return elastic(model, (example,), divisor=4)


def test_sequences_of_every_length_are_learnt_from_the_network_as_it_was() -> None:
    torch.manual_seed(0)
    net = of(Sequences(), torch.zeros(2, 12, dtype=torch.long))
    batches = [{"tokens": torch.randint(20, (8, length)), "labels": LABELS} for length in (12, 7, 9)]
    wanted = [net(batch["tokens"]).detach().clone() for batch in batches]
    asked: list[Tensor] = []

    def distance(output: Tensor, taught: Tensor) -> Tensor:
        asked.append(taught.clone())
        return functional.mse_loss(output, taught)

    net.fit(batches, steps=6, distance=distance, lr=0.01, precision="float32", n_random=0, full="trained")
    assert not torch.allclose(net(batches[0]["tokens"]), wanted[0], atol=1e-3)
    assert {tuple(answer.shape) for answer in asked} == {(8, CLASSES)}
    assert all(min(float((answer - one).abs().max()) for one in wanted) < 1e-5 for answer in asked)


def test_the_last_loss_is_of_the_last_step_with_the_full_network() -> None:
    told: list[Progress] = []
    done = of(Pictures()).fit(BATCHES, steps=6, full="trained", full_every=4, on_progress=told.append)
    assert done.last_loss == told[4].loss == told[5].loss != told[3].loss
    assert "nan" not in done.message


def test_a_run_whose_length_nobody_knows_is_refused() -> None:
    class Endless:
        def __iter__(self) -> Any:
            return iter(BATCHES)

    net = of(Pictures())
    with pytest.raises(UsageError, match="does not say how many batches"):
        net.fit(Endless(), epochs=2)
    assert net.fit(Endless(), epochs=2, budget="1h").steps == 4


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_networks_of_another_precision_than_single_train_in_their_own(kind: torch.dtype) -> None:
    net = of(Pictures().to(kind), IMAGES.to(kind))
    done = net.fit([(x.to(kind), y) for x, y in BATCHES], steps=2, lr=0.01)
    assert math.isfinite(done.last_loss)
    assert net.weights.get_parameter("stem.weight").dtype == kind


def test_state_that_is_no_tensor_stays_the_users_own(tmp_path: Any) -> None:
    class Told(Pictures):
        def get_extra_state(self) -> Any:
            return {"words": ["cat", "dog"]}

        def set_extra_state(self, state: Any) -> None:
            self.words = state["words"]

    net, path = of(Told()), tmp_path / "run.pt"
    net.fit(BATCHES, steps=2, validate=BATCHES, max_drop=0.0, checkpoint=path)
    assert net.fit(BATCHES, steps=4, validate=BATCHES, max_drop=0.0, checkpoint=path, resume=True).resumed_at == 2
    assert SuperNet.load(path, Told(), (IMAGES,)).weights.words == ["cat", "dog"]


def test_checks_on_the_way_look_at_the_weights_in_training_and_not_at_adopted_ones() -> None:
    def metric(output: Tensor, _labels: Tensor) -> float:
        return float(output.abs().mean())

    seen: list[float | None] = []
    for adopted in (False, True):
        torch.manual_seed(0)
        net = of(Pictures(nn.GroupNorm(1, 16)))
        if adopted:
            config = net.space.smallest()
            silent = net.extract(config)
            silent.load_state_dict({name: torch.zeros_like(value) for name, value in silent.state_dict().items()})
            net.adopt(config, silent)
        told: list[Progress] = []
        net.fit(BATCHES, steps=8, validate=BATCHES, metric=metric, max_drop=1.0, on_progress=told.append)
        seen.append(told[-1].smallest)
    assert seen[0] == seen[1] != 0.0


def test_batch_norm_without_statistics_has_nothing_to_recalibrate() -> None:
    net = of(Pictures(nn.BatchNorm2d(16, track_running_stats=False)))
    net.recalibrate(net.space.smallest(), BATCHES)
    assert not net.recalibrated()


def test_a_small_last_batch_counts_for_what_it_is_in_regression() -> None:
    net = elastic(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1)), (torch.zeros(2, 4),), divisor=4)
    x = torch.randn(33, 4, generator=DRAWN)
    y = net(x).detach() + 0.01
    score = accuracy(net, Config(), [(x[:32], y[:32]), (x[32:], y[32:])], task="regression")
    assert 0.9 < score < 1
    with pytest.raises(UsageError, match="nothing to evaluate"):
        accuracy(net, Config(), [(x[:1], y[:1])], task="regression")


def test_alpha_divergence_of_segmentation_is_over_classes() -> None:
    torch.manual_seed(0)
    net = of(nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, CLASSES, 1)))
    config = net.space.smallest()
    told: list[Progress] = []
    scores, wanted = (net(IMAGES, config=c).movedim(1, -1).reshape(-1, CLASSES) for c in (config, Config()))
    net.fit(
        [(IMAGES, torch.zeros(8, 6, 6, dtype=torch.long))],
        steps=1,
        task="segmentation",
        distillation="alpha",
        n_random=0,
        ratios=(),
        precision="float32",
        on_progress=told.append,
    )
    assert told[0].subnet_loss == pytest.approx(adaptive_divergence(scores, wanted).item(), rel=1e-4)
