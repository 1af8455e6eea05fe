from __future__ import annotations

import pytest
import torch
from torch import nn

from tailorbird.supernet.training.ema import Average, copied
from tailorbird.supernet.training.guard import Guard


def guarded(module: nn.Linear, max_drop: float = 0.1) -> Guard:
    """The score falls as the weight moves from where it started."""
    start = copied(module)
    return Guard(lambda: 1 - float((module.weight.detach() - start["weight"]).abs().max()), max_drop, start, 1.0)


def moved(module: nn.Linear, by: float) -> None:
    with torch.no_grad():
        module.weight += by


def test_what_is_within_bounds_is_kept_whole() -> None:
    module = nn.Linear(1, 1)
    guard = guarded(module)
    moved(module, 0.05)
    end = copied(module)
    score, kept = guard.settle(module, lambda: None)
    assert kept == 1
    assert score == pytest.approx(0.95)
    assert torch.equal(module.weight, end["weight"])


def test_weights_move_back_as_far_as_needed_and_no_further() -> None:
    module = nn.Linear(1, 1)
    guard = guarded(module)
    moved(module, 0.4)
    score, kept = guard.settle(module, lambda: None)
    assert score == pytest.approx(1 - 0.4 * kept)
    assert 0.21 < kept <= 0.25


def test_what_cannot_be_saved_is_restored_bit_for_bit() -> None:
    module = nn.Linear(3, 3)
    start = copied(module)
    guard = Guard(lambda: 1.0 if torch.equal(module.weight, start["weight"]) else 0.0, 0.1, start, 1.0)
    moved(module, 0.1)
    assert guard.settle(module, lambda: None) == (1.0, 0.0)
    assert all(torch.equal(value, start[name]) for name, value in module.state_dict().items())


def test_training_backs_off_when_the_full_network_suffers() -> None:
    module = nn.Linear(1, 1)
    guard = guarded(module)
    moved(module, 0.29)
    assert guard.check(0.1) == pytest.approx(0.71)
    assert (guard.rate, guard.weight, guard.backed_off) == (1.0, 1.0, 0)
    moved(module, 0.02)
    guard.check(0.9)
    assert (guard.rate, guard.weight, guard.backed_off) == (0.5, 2.0, 1)
    other = guarded(nn.Linear(1, 1))
    other.load(guard.state())
    assert other.state() == guard.state()


def test_the_average_follows_what_is_trained_and_comes_and_goes() -> None:
    module = nn.BatchNorm1d(2)
    average = Average(module, 0.9)
    with torch.no_grad():
        for _ in range(200):
            module.weight += 0.01
            module.running_mean += 1
            module.num_batches_tracked += 1
            average.update()
    live = copied(module)
    with average.applied():
        assert torch.all(module.weight < live["weight"] - 0.05)
        assert torch.all(module.running_mean < live["running_mean"] - 5)
        assert int(module.num_batches_tracked) == 200
    assert all(torch.equal(value, live[name]) for name, value in module.state_dict().items())
    average.apply()
    assert torch.all(module.weight < live["weight"])
