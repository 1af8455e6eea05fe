"""What users feed to training by mistake: one clear error each, and a network that is what it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tailorbird.errors import InputShapeError, UsageError
from tailorbird.supernet import SuperNet, elastic
from tailorbird.supernet.training.failure import TrainingError
from tests.states import trained

CLASSES, FEATURES = 3, 6
X, Y = torch.randn(8, FEATURES, generator=torch.Generator().manual_seed(0)), torch.arange(8) % CLASSES
GOOD = [(X, Y), (X + 1, Y)]


@pytest.fixture(scope="module")
def compiled() -> SuperNet:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES))
    return elastic(model.eval(), (X[:2],), divisor=4)


@pytest.fixture
def net(compiled: SuperNet) -> Iterator[SuperNet]:
    before = {name: value.clone() for name, value in compiled.state_dict().items()}
    yield compiled
    compiled.load_state_dict(before)  # what subnets learnt goes with it
    compiled.requires_grad_(True)


def unchanged(net: SuperNet, before: dict[str, Tensor]) -> bool:
    return not net.training and all(torch.equal(value, before[name]) for name, value in trained(net).items())


def refused(net: SuperNet, loader: Any, kind: type[Exception] = UsageError, **options: Any) -> str:
    """The message of the error; nothing of the network may have changed."""
    before = trained(net)
    with pytest.raises(kind) as raised:
        net.fit(loader, **({"epochs": 2, "precision": "float32", "full": "trained"} | options))
    assert unchanged(net, before)
    return str(raised.value)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ((torch.randn(8, FEATURES + 1), Y), "does not run on float32 (8, 7)"),
        ((torch.randn(8, 2, 2, FEATURES), Y), "expected float32 (N, 6), got float32 (8, 2, 2, 6)"),
        ((X.double(), Y), "expected float32 (N, 6), got float64 (8, 6)"),
        (((X, X), Y), "does not take these inputs"),
    ],
    ids=["size", "axes", "type", "count"],
)
def test_inputs_that_do_not_fit_the_network(net: SuperNet, batch: Any, words: str) -> None:
    message = refused(net, [batch], InputShapeError)
    assert words in message
    assert "batch 1 of pass 1" in message


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (Y + 4, "label 6 is out of range: the network has 3 classes"),
        (torch.where(Y == 0, -1, Y), "label -1 is out of range: the network has 3 classes"),
        (Y.float(), "labels (8,) of torch.float32 do not fit scores (8, 3)"),
        (Y[:5], "labels (5,) of torch.int64 do not fit scores (8, 3)"),
        (Y.tolist(), "labels (list) do not fit"),
        (None, "no labels"),
    ],
    ids=["too large", "negative", "type", "count", "list", "none"],
)
def test_labels_that_do_not_fit_the_network(net: SuperNet, labels: Any, words: str) -> None:
    assert words in refused(net, [(X, labels)])


def test_labels_of_the_validation_data_count_as_well(net: SuperNet) -> None:
    assert "label 6 is out of range" in refused(net, GOOD, validate=[(X, Y + 4)])


def test_labels_that_are_marked_as_left_out_are_no_mistake(net: SuperNet) -> None:
    assert net.fit([(X, torch.where(Y == 0, -100, Y))], epochs=1).steps == 1


def test_a_loader_that_changes_what_it_gives(net: SuperNet) -> None:
    with pytest.raises(UsageError, match=r"no labels[\s\S]*batch 2 of pass 1"):
        net.fit([(X, Y), X], epochs=1, full="trained")
    with pytest.raises(UsageError, match="something other than"):
        net.fit([(X, Y), (X, Y, Y)], epochs=1, full="trained")


def test_data_that_are_not_finite_are_named_and_do_not_reach_the_weights(net: SuperNet) -> None:
    broken = X.clone()
    broken[3, 2] = torch.nan
    message = refused(net, [(broken, Y)], TrainingError)
    assert "the loss of the full network is nan" in message
    assert "the inputs of this batch hold values that are not finite, in step 1: batch 1 of pass 1" in message


def test_a_subnet_whose_loss_is_not_finite_is_named(net: SuperNet) -> None:
    config = net.space.smallest()

    def distance(output: Tensor, wanted: Tensor) -> Tensor:
        return (output - wanted).square().mean() / 0

    message = refused(net, GOOD, TrainingError, distance=distance, n_random=0, ratios=())
    assert f"the loss of subnet {config.key} is inf" in message


def test_a_later_batch_that_is_not_finite_leaves_the_weights_of_the_step_before(net: SuperNet) -> None:
    start = trained(net)
    settings: dict[str, Any] = {"steps": 2, "lr": 0.1, "ema": 0.0, "warm_up": 0.0, "full": "trained"}
    seen: list[dict[str, Tensor]] = []

    def note(_now: Any) -> None:
        seen.append(trained(net))

    with pytest.raises(TrainingError, match="in step 2"):
        net.fit([GOOD[0], (X * torch.nan, Y)], on_progress=note, **settings)
    assert unchanged(net, seen[0])
    assert not unchanged(net, start)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda output, y: nn.functional.cross_entropy(output, y, reduction="none"), "returned float32 (8,)"),
        (lambda output, y: nn.functional.cross_entropy(output, y).item(), "returned float, not a scalar"),
        (lambda output, y: (output.argmax(1) == y).sum(), "returned int64 ()"),
        (lambda output, y: nn.functional.cross_entropy(output.detach(), y), "without a gradient"),
    ],
    ids=["many", "number", "integer", "detached"],
)
def test_a_loss_that_cannot_be_minimised(net: SuperNet, loss: Any, words: str) -> None:
    message = refused(net, GOOD, loss=loss)
    assert "the loss function" in message
    assert words in message


def test_a_distance_that_cannot_be_minimised(net: SuperNet) -> None:
    assert "the distance function returned float32 (8, 3)" in refused(net, GOOD, distance=lambda a, b: a - b)


def test_what_the_users_own_functions_raise_passes_through_with_the_batch_it_was_about(net: SuperNet) -> None:
    def loss(_output: Tensor, _labels: Tensor) -> Tensor:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine") as raised:
        net.fit(GOOD, epochs=1, loss=loss, full="trained")
    assert raised.value.__notes__ == ["fit: in step 1: batch 1 of pass 1"]


def test_validation_data_are_looked_at_before_anything_is_trained(net: SuperNet) -> None:
    assert "nothing to evaluate" in refused(net, GOOD, validate=[])
    assert "nothing to evaluate" in refused(net, GOOD, validate=iter([]))
    assert "the score of the network is nan before training" in refused(net, GOOD, validate=lambda f: torch.nan)
    assert "validate returned a NoneType, not a score" in refused(net, GOOD, validate=lambda f: None)
    assert "validate returned a Tensor, not a score" in refused(net, GOOD, validate=lambda f: f(X))

    def broken(_function: Any) -> float:
        raise LookupError("mine")

    assert "mine" in refused(net, GOOD, LookupError, validate=broken)


def test_a_score_that_becomes_nan_counts_as_lost(net: SuperNet) -> None:
    before = trained(net)
    scores = iter([0.5])
    result = net.fit(GOOD, epochs=4, validate=lambda f: next(scores, torch.nan), full="trained")
    assert (result.update_kept, result.full_after) == (0.0, 0.5)
    assert result.backed_off > 0
    assert unchanged(net, before)


def test_loaders_that_give_nothing(net: SuperNet) -> None:
    assert "gave no batch\nwhy: it is empty" in refused(net, [])
    assert "without samples" in refused(net, [(X[:0], Y[:0])])
    with pytest.raises(UsageError, match=r"no batch in pass 2[\s\S]*used up after one pass"):
        net.fit(iter(GOOD), steps=5)
    assert net.fit(iter(GOOD), steps=2).steps == 2


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"budget": "0s"}, "budget is 0"),
        ({"epochs": 2.5}, "epochs is 2.5"),
        ({"n_random": 1.5}, "n_random is 1.5"),
        ({"lr": "0.1"}, "lr is '0.1'"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"validate": 5}, "validate is a int"),
        ({"ratios": 0.5}, "ratios are 0.5"),
        ({"ratios": ("0.5",)}, "ratios are ('0.5',)"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"seed": 2**70}, "seed is 1180591620717411303424"),
        ({"task": 5}, "the task is a int"),
        ({"loss": 5}, "the loss is a int"),
        ({"metric": "acc"}, "the metric is a str"),
        ({"teacher": 5}, "a teacher cannot be 5"),
        ({"on_progress": 5}, "on_progress is 5"),
        ({"clock": None}, "clock is None"),
        ({"checkpoint": 5}, "the checkpoint is 5"),
        ({"weight_decay": "x"}, "weight_decay is 'x'"),
        ({"hard": None}, "hard is None"),
        ({"clip": None}, "clip is None"),
        ({"n_random": None}, "n_random is None"),
        ({"seed": True}, "seed is True"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_settings_that_make_no_sense(net: SuperNet, setting: dict[str, Any], words: str) -> None:
    assert words in refused(net, GOOD, **setting)


def test_a_batch_of_one_sample_is_too_small_for_batch_norm(net: SuperNet) -> None:
    message = refused(net, [(X[:1], Y[:1])])
    assert "cannot normalise a batch of 1" in message
    assert "drop_last" in message


def test_a_network_that_is_frozen_altogether(net: SuperNet) -> None:
    net.requires_grad_(False)
    assert "nothing to train" in refused(net, GOOD)


def test_a_network_that_is_frozen_in_part_trains_the_rest(net: SuperNet) -> None:
    net.requires_grad_(False)
    net.weights[3].bias.requires_grad_()
    before = trained(net)
    net.fit(GOOD, epochs=3, ema=0.0)
    changed = [name for name, value in trained(net).items() if not torch.equal(value, before[name])]
    assert changed == ["3.bias"]


def test_random_states_outside_stay_as_they_were(net: SuperNet) -> None:
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    net.fit(GOOD, epochs=1, validate=GOOD)
    assert torch.equal(torch.randn(3), expected)
