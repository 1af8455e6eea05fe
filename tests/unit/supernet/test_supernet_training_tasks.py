"""Training and accuracy for what is not image classification: tokens, values, pixels, boxes."""

from __future__ import annotations

import math
from itertools import count

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tailorbird.errors import UsageError
from tailorbird.supernet import SuperNet, accuracy, elastic
from tailorbird.types import Config

VOCABULARY, LENGTH = 12, 6


class Tagger(nn.Module):
    """Says of each token whether it is larger than the one before; called by keyword, as those of transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 32)
        self.mix = nn.Linear(64, 64)
        self.norm = nn.LayerNorm(64)
        self.head = nn.Linear(64, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        x = self.embed(input_ids) * attention_mask[..., None]
        pair = torch.cat([x, functional.pad(x, (0, 0, 1, 0))[:, :-1]], -1)
        return {"logits": self.head(self.norm(self.mix(pair)).relu())}


def sentences(number: int, seed: int) -> list[dict[str, Tensor]]:
    """Batches as a token data set gives them: the first token and padding have label -100."""
    random = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(number):
        ids = torch.randint(1, VOCABULARY, (16, LENGTH), generator=random)
        mask = (torch.arange(LENGTH) < torch.randint(3, LENGTH + 1, (16, 1), generator=random)).long()
        labels = (ids > functional.pad(ids, (1, 0))[:, :-1]).long()
        labels[:, 0] = -100
        batches.append({"input_ids": ids, "attention_mask": mask, "labels": labels.masked_fill(mask == 0, -100)})
    return batches


def taught(model: nn.Module, batches, loss, steps: int) -> nn.Module:
    """The model as a user would have trained it."""
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(steps):
        batch = batches[step % len(batches)]
        optimiser.zero_grad()
        loss(batch).backward()
        optimiser.step()
    return model.eval()


def lifted(net: SuperNet, train, held, *, task="classification", **options) -> tuple[float, list]:
    """How much training lifts the smallest subnet; the full network must stay within its bounds."""
    small, seen = net.space.smallest(), []
    before = accuracy(net, small, held, task=task)
    done = net.fit(
        train, steps=40, ratios=(), lr=0.01, optimiser="adamw", task=task, validate=held, on_progress=seen.append
    )
    assert done.full_after >= done.full_before - 0.003
    assert accuracy(net, Config(), held, task=task) == pytest.approx(done.full_after)
    net.recalibrate(small, train)
    return accuracy(net, small, held, task=task) - before, seen


def test_a_token_network_learns_from_labels_that_count_and_speed_is_in_tokens() -> None:
    torch.manual_seed(0)
    train, held = sentences(20, 0), sentences(6, 1)
    model = Tagger()

    def loss(batch):
        scores = model(batch["input_ids"], batch["attention_mask"])["logits"]
        return functional.cross_entropy(scores.flatten(0, 1), batch["labels"].flatten())

    taught(model, train, loss, 60)
    example = {name: train[0][name][:1] for name in ("input_ids", "attention_mask")}
    net = elastic(model, example)
    with torch.no_grad():
        right = sum(
            int(((model(**inputs)["logits"].argmax(-1) == labels) & (labels != -100)).sum())
            for inputs, labels in (({k: b[k] for k in example}, b["labels"]) for b in held)
        )
    counted = sum(int((b["labels"] != -100).sum()) for b in held)
    assert accuracy(net, Config(), held) == right / counted
    gain, seen = lifted(net, train, held)
    assert gain > 0.05
    assert {now.unit for now in seen} == {"tokens"}
    net.fit(train, steps=2, clock=count().__next__, on_progress=seen.append)  # a step a second
    assert seen[-1].rate == 16 * LENGTH
    with pytest.raises(UsageError, match="nothing to evaluate"):
        accuracy(net, Config(), [b | {"labels": torch.full_like(b["labels"], -100)} for b in held])


def test_a_regression_network_is_scored_by_the_variance_it_explains() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
    x = torch.randn(640, 6)
    y = torch.stack([x[:, 0] * x[:, 1], x[:, 2] - x[:, 3].abs()], 1)
    train, held = list(zip(x[:512].split(64), y[:512].split(64), strict=True)), [(x[512:], y[512:])]
    taught(model, train, lambda batch: functional.mse_loss(model(batch[0]), batch[1]), 400)
    net = elastic(model, (x[:1],))
    with torch.no_grad():
        wanted = 1 - (model(x[512:]) - y[512:]).square().mean() / y[512:].var(unbiased=False)
    assert accuracy(net, Config(), held, task="regression") == pytest.approx(float(wanted), abs=1e-5)
    gain, seen = lifted(net, train, held, task="regression")
    assert gain > 0.05
    assert {now.unit for now in seen} == {"samples"}
    with pytest.raises(UsageError, match="one value is needed"):
        elastic(model, (x[:1],)).fit([(x[:8], y[:8, 0])], steps=1, task="regression", full="trained")


def test_a_segmentation_network_has_its_classes_on_the_second_axis() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 3, 3, padding=1))
    x = torch.randn(96, 1, 8, 8)
    blurred = functional.avg_pool2d(x, 3, 1, 1)[:, 0]
    y = (blurred > -0.15).long() + (blurred > 0.15).long()
    y[:, 0] = -100  # a border that does not count
    train, held = list(zip(x[:64].split(16), y[:64].split(16), strict=True)), [(x[64:], y[64:])]
    model.train()
    taught(model, train, lambda batch: functional.cross_entropy(model(batch[0]), batch[1]), 60)
    net = elastic(model, (x[:1],))
    gain, seen = lifted(net, train, held, task="segmentation")
    assert gain > 0.05
    assert {now.unit for now in seen} == {"images"}
    with pytest.raises(UsageError, match="segmentation has its classes on axis 1"):
        elastic(model, (x[:1],)).fit(train, steps=1, full="trained")


class Detector(nn.Module):
    """One box for each cell of a grid: where it is and whether there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(32, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU())
        self.boxes, self.objects = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(self.stem(x))
        return self.boxes(x), self.objects(x)[:, 0]


def scenes(number: int, seed: int) -> list[tuple[Tensor, list[dict[str, Tensor]]]]:
    """Images with one bright dot each; the targets are a list of mappings, as detection data sets have them."""
    random = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(number):
        places = torch.randint(0, 16, (16, 2), generator=random)
        images = 0.2 * torch.randn(16, 1, 16, 16, generator=random)
        images[torch.arange(16), 0, places[:, 0], places[:, 1]] += 3
        batches.append((images, [{"place": place} for place in places]))
    return batches


def _cells(targets):
    places = torch.stack([target["place"] for target in targets])
    rows = torch.arange(len(places))
    return rows, places[:, 0] // 4, places[:, 1] // 4, (places % 4) / 4


def detection_loss(output, targets):
    boxes, objects = output
    rows, top, left, inside = _cells(targets)
    present = torch.zeros_like(objects)
    present[rows, top, left] = 1
    return functional.binary_cross_entropy_with_logits(objects, present) + functional.mse_loss(
        boxes[rows, :, top, left], inside
    )


def detection_distance(output, wanted):
    objects = functional.binary_cross_entropy_with_logits(output[1], wanted[1].sigmoid())
    own = functional.binary_cross_entropy_with_logits(wanted[1], wanted[1].sigmoid())
    return objects - own + functional.mse_loss(output[0], wanted[0])


def detection_metric(output, targets):
    rows, top, left, _ = _cells(targets)
    found = output[1].flatten(1).argmax(1) == top * 4 + left
    return float(found.sum()), float(len(rows))


def test_a_detection_network_trains_by_its_users_own_functions() -> None:
    from tailorbird.supernet import Task

    torch.manual_seed(0)
    train, held = scenes(20, 0), scenes(6, 1)
    model = Detector()
    taught(model.train(), train, lambda batch: detection_loss(model(batch[0]), batch[1]), 60)
    net = elastic(model, (train[0][0][:1],))
    task = Task("dots", detection_loss, detection_metric, detection_distance)
    gain, _ = lifted(net, train, held, task=task)
    assert gain > 0.05
    done = net.fit(
        train, steps=2, loss=detection_loss, metric=detection_metric, distance=detection_distance, validate=held
    )
    assert math.isfinite(done.last_loss)
    assert done.full_before == pytest.approx(accuracy(net, Config(), held, task=task), abs=0.05)
