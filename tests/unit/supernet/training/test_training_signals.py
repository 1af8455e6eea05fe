"""Signals that arrive while a network trains in this very process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tailorbird.supernet import SuperNet, elastic
from tailorbird.supernet.training import FitResult
from tests.states import trained

X, Y = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
DATA = [(X + number, Y) for number in range(4)]


@pytest.fixture
def net() -> SuperNet:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 3))
    return elastic(model.eval(), (X[:2],), divisor=8)


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def at(step: int, number: signal.Signals, then: Callable[[], None] = lambda: None) -> Callable[[Any], None]:
    def on_progress(now: Any) -> None:
        if now.step == step:
            os.kill(os.getpid(), number)
            then()

    return on_progress


def test_without_a_checkpoint_an_interrupt_ends_training_between_two_steps(net: SuperNet) -> None:
    before, seen = handlers(), []

    def note() -> None:
        seen.append(trained(net))

    with pytest.raises(KeyboardInterrupt):
        net.fit(DATA, epochs=9, on_progress=at(3, signal.SIGINT, note))
    assert handlers() == before
    assert not net.training
    assert all(torch.equal(value, seen[0][name]) for name, value in trained(net).items())


def test_an_interrupt_within_a_step_waits_for_its_end(net: SuperNet, tmp_path: Path) -> None:
    calls = []

    def loss(output: Tensor, labels: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return nn.functional.cross_entropy(output, labels)

    before = handlers()
    result = net.fit(DATA, epochs=9, loss=loss, full="trained", checkpoint=tmp_path / "run.pt")
    assert (result.stopped_by, result.steps) == ("interrupted", 2)
    assert "go on with resume" in result.message
    assert handlers() == before


def test_an_interrupt_while_the_result_is_looked_at_is_not_lost(net: SuperNet, tmp_path: Path) -> None:
    def validate(looks: list[int]) -> Callable[[Any], float]:
        def score(_function: Any) -> float:
            looks.append(1)
            if len(looks) == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return 0.5

        return score

    with pytest.raises(KeyboardInterrupt):
        net.fit(DATA, steps=1, validate=validate([]), full="trained")
    result = net.fit(DATA, steps=1, validate=validate([]), full="trained", checkpoint=tmp_path / "run.pt")
    assert (result.stopped_by, result.steps) == ("interrupted", 1)


def test_a_loader_that_fails_once_training_was_asked_to_stop_is_no_error(net: SuperNet, tmp_path: Path) -> None:
    class Interrupted:
        def __iter__(self) -> Any:
            yield DATA[0]
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("DataLoader worker exited unexpectedly")

    result = net.fit(Interrupted(), steps=5, checkpoint=tmp_path / "run.pt")
    assert (result.stopped_by, result.steps) == ("interrupted", 1)


def test_signals_that_the_program_handles_itself_stay_its_own(net: SuperNet, tmp_path: Path) -> None:
    got = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: got.append(number))
    try:
        result = net.fit(DATA, epochs=1, checkpoint=tmp_path / "run.pt", on_progress=at(2, signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (result.stopped_by, got) == ("steps", [signal.SIGTERM])


def test_other_threads_train_without_handlers(net: SuperNet, tmp_path: Path) -> None:
    results: list[FitResult] = []
    before = handlers()
    seen: list[list[Any]] = []
    thread = threading.Thread(
        target=lambda: results.append(
            net.fit(DATA, epochs=1, checkpoint=tmp_path / "run.pt", on_progress=lambda _: seen.append(handlers()))
        )
    )
    thread.start()
    thread.join()
    assert results[0].steps == 4
    assert seen == [before] * 4
