from __future__ import annotations

import asyncio

import pytest

from tailorbird_agent.errors import RequestError
from tailorbird_agent.idempotency import Replies


class Counter:
    def __init__(self) -> None:
        self.acted = 0
        self.begun, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def act(self) -> int:
        self.acted += 1
        self.begun.set()
        number = self.acted
        await self.gate.wait()
        if number < 0:
            raise ValueError
        return number


def test_a_repeated_request_gets_the_first_answer() -> None:
    async def scenario() -> tuple[list[int], int]:
        replies, counter = Replies(), Counter()
        answers = [await replies.once("M", "id", b"x", counter.act) for _ in range(3)]
        answers.append(await replies.once("M", "other", b"x", counter.act))
        answers.append(await replies.once("N", "id", b"x", counter.act))
        return answers, counter.acted

    assert asyncio.run(scenario()) == ([1, 1, 1, 2, 3], 3)


def test_requests_without_an_id_act_each_time() -> None:
    async def scenario() -> list[int]:
        replies, counter = Replies(), Counter()
        return [await replies.once("M", "", b"x", counter.act) for _ in range(3)]

    assert asyncio.run(scenario()) == [1, 2, 3]


def test_an_id_used_for_something_else_is_refused() -> None:
    async def scenario() -> None:
        replies, counter = Replies(), Counter()
        await replies.once("M", "id", b"x", counter.act)
        with pytest.raises(RequestError, match="request_id"):
            await replies.once("M", "id", b"y", counter.act)

    asyncio.run(scenario())


def test_a_failure_is_not_remembered() -> None:
    async def scenario() -> int:
        replies, counter = Replies(), Counter()

        async def fail() -> int:
            raise RequestError("INPUT_INVALID")

        with pytest.raises(RequestError):
            await replies.once("M", "id", b"x", fail)
        return await replies.once("M", "id", b"x", counter.act)

    assert asyncio.run(scenario()) == 1


def test_a_caller_that_goes_away_does_not_stop_the_change_and_a_retry_joins_it() -> None:
    async def scenario() -> tuple[int, int]:
        replies, counter = Replies(), Counter()
        counter.gate.clear()
        caller = asyncio.create_task(replies.once("M", "id", b"x", counter.act))
        retry = asyncio.create_task(replies.once("M", "id", b"x", counter.act))
        await counter.begun.wait()
        caller.cancel()
        counter.gate.set()
        await replies.finish()
        return await retry, counter.acted

    assert asyncio.run(scenario()) == (1, 1)


def test_memory_is_bounded() -> None:
    async def scenario() -> int:
        replies, counter = Replies(limit=10), Counter()
        for number in range(50):
            await replies.once("M", str(number), b"x", counter.act)
        return await replies.once("M", "0", b"x", counter.act)

    assert asyncio.run(scenario()) == 51
