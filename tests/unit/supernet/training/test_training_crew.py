from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
import torch
from torch import Tensor, nn
from zoo.small_models import ResidualNet, randomised

from tailorbird.supernet import SuperNet, Task, elastic
from tailorbird.supernet.training.crew import Crew, can_share, promised
from tests.states import trained


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def made(drop: float = 0.0) -> SuperNet:
    model = ResidualNet(8)
    model.dropout = nn.Dropout(drop) if drop else nn.Identity()
    return elastic(randomised(model).eval(), (torch.randn(2, 3, 8, 8),), divisor=2)


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(16, 3, 8, 8, generator=generator), torch.randint(0, 10, (16,), generator=generator))
        for _ in range(4)
    ]


@pytest.mark.parametrize(("teacher", "full"), [("frozen", "kept"), ("frozen", "trained"), ("in-place", "trained")])
def test_two_threads_learn_what_one_learns_bit_for_bit(teacher: str, full: str) -> None:
    states = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        net = made()
        net.fit(batches(), steps=6, teacher=teacher, full=full, full_every=2, precision="float32")
        states.append(trained(net))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_the_number_of_threads_is_what_it_was_and_none_is_left_behind() -> None:
    net, before = made(), threading.active_count()
    net.fit(batches(), steps=2)
    assert torch.get_num_threads() == 2
    assert threading.active_count() == before


def test_networks_that_draw_random_numbers_are_trained_one_by_one() -> None:
    task = Task.of("classification")
    assert can_share(made(), task)
    assert not can_share(made(drop=0.1), task)
    torch.set_num_threads(1)
    assert not can_share(made(), task)


def test_functions_of_the_user_are_called_by_one_thread() -> None:
    net, callers = made(), set()

    def loss(output: Tensor, target: Tensor) -> Tensor:
        callers.add(threading.get_ident())
        return nn.functional.cross_entropy(output, target)

    net.fit(batches(), steps=2, loss=loss, full="trained")
    assert callers == {threading.get_ident()}


def test_looking_for_random_numbers_changes_nothing() -> None:
    net = made()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    can_share(net, Task.of("classification"))
    assert torch.equal(torch.get_rng_state(), state)
    assert not net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_first_failure_in_order_is_told_when_all_jobs_have_ended() -> None:
    ended: list[str] = []
    gate = threading.Event()

    def slow() -> None:
        gate.wait(10)
        ended.append("slow")

    def fails() -> None:
        gate.set()
        raise ValueError("the second")

    with Crew(2) as crew, pytest.raises(ValueError, match="the second"):
        list(crew.run([slow, fails]))
    assert ended == ["slow"]


def test_who_waits_for_a_job_that_fails_is_told_its_failure() -> None:
    promise: Future[int] = Future()

    def fails() -> int:
        raise ValueError("the teacher")

    with Crew(2) as crew, pytest.raises(ValueError, match="the teacher"):
        list(crew.run([promised(promise, fails), promise.result]))
    with pytest.raises(ValueError, match="the teacher"):
        promise.result()
