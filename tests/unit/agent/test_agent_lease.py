from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird_agent.errors import AgentError
from tailorbird_agent.lease import Lease, Leases


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Desk:
    """Leases with a clock that stands still, and a list of how each lease ended."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.ended: list[tuple[int, str]] = []
        tokens = itertools.count(1)
        self.leases = Leases(
            lambda: next(tokens), on_end=lambda lease, how: self.ended.append((lease.token, how)), clock=self.clock
        )

    async def refused(self, holder: str = "b", duration_s: float | None = 10) -> str:
        with pytest.raises(AgentError) as caught:
            await self.leases.acquire(holder, duration_s)
        return caught.value.reason


def test_one_holder_at_a_time_and_tokens_grow() -> None:
    async def scenario() -> None:
        desk = Desk()
        first = await desk.leases.acquire("a", 10)
        assert await desk.refused() == "LEASE_HELD"
        desk.leases.release(first.lease_id)
        second = await desk.leases.acquire("b", 10)
        assert second.token > first.token
        with pytest.raises(AgentError) as caught:
            desk.leases.check(first.token)
        assert caught.value.reason == "LEASE_LOST"
        assert desk.leases.check(second.token) is second

    asyncio.run(scenario())


def test_a_refused_caller_is_told_who_and_how_long() -> None:
    async def scenario() -> AgentError:
        desk = Desk()
        await desk.leases.acquire("the other", 10)
        desk.clock.now_s += 4
        with pytest.raises(AgentError) as caught:
            await desk.leases.acquire("b", 10)
        return caught.value

    error = asyncio.run(scenario())
    assert (error.metadata["holder"], error.retry_after_s) == ("the other", 6.0)


def test_a_lease_ends_by_time_unless_renewed() -> None:
    async def scenario() -> None:
        desk = Desk()
        lease = await desk.leases.acquire("a", 10)
        desk.clock.now_s += 9
        desk.leases.renew(lease.lease_id, 10)
        desk.clock.now_s += 9
        assert desk.leases.current is lease
        desk.clock.now_s += 1
        assert desk.leases.current is None
        assert lease.ended.is_set()
        assert desk.ended == [(lease.token, "expired")]
        with pytest.raises(AgentError):
            desk.leases.renew(lease.lease_id, 10)
        desk.leases.release(lease.lease_id)

    asyncio.run(scenario())


def test_a_lease_ends_by_itself_when_nobody_asks() -> None:
    async def scenario() -> list[tuple[Lease, str]]:
        ended: asyncio.Queue[tuple[Lease, str]] = asyncio.Queue()
        leases = Leases(lambda: 1, on_end=lambda lease, how: ended.put_nowait((lease, how)))
        await leases.acquire("a", 1)
        return [await asyncio.wait_for(ended.get(), 5)]

    assert [how for _, how in asyncio.run(scenario())] == ["expired"]


@pytest.mark.parametrize("duration_s", [0.0, 0.5, -1.0, 3601.0, float("nan"), float("inf")])
def test_a_lease_of_no_sensible_length_is_refused(duration_s: float) -> None:
    async def scenario() -> str:
        return await Desk().refused(duration_s=duration_s)

    assert asyncio.run(scenario()) == "INPUT_INVALID"


@given(st.lists(st.tuples(st.sampled_from(["acquire", "release", "expire", "check"]), st.integers(0, 3)), max_size=40))
def test_in_any_order_of_calls_nobody_holds_the_device_twice(calls: list[tuple[str, int]]) -> None:
    async def scenario() -> None:
        desk, granted = Desk(), []
        for call, which in calls:
            lease = granted[-1 - which] if which < len(granted) else None
            if call == "acquire":
                free = desk.leases.current is None
                try:
                    granted.append(await desk.leases.acquire(str(which), 10))
                    assert free
                except AgentError as error:
                    assert error.reason == "LEASE_HELD"
                    assert not free
            elif call == "release" and lease:
                desk.leases.release(lease.lease_id)
            elif call == "expire":
                desk.clock.now_s += 11
            elif call == "check" and lease:
                holds = desk.leases.current is lease
                try:
                    desk.leases.check(lease.token)
                    assert holds
                except AgentError:
                    assert not holds
            alive = [each for each in granted if not each.ended.is_set()]
            assert len(alive) <= 1
        tokens = [each.token for each in granted]
        assert tokens == sorted(set(tokens))

    asyncio.run(scenario())


def test_of_many_who_ask_at_once_one_gets_the_device() -> None:
    async def scenario() -> list[object]:
        desk = Desk()
        return await asyncio.gather(*(desk.leases.acquire(str(k), 10) for k in range(20)), return_exceptions=True)

    results = asyncio.run(scenario())
    assert sum(isinstance(each, Lease) for each in results) == 1
