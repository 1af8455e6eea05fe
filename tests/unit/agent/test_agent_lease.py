from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings
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


def test_the_line_is_served_by_priority_and_then_in_order() -> None:
    async def scenario() -> list[str]:
        desk, served = Desk(), []
        first = await desk.leases.acquire("first", 10)

        async def wait(holder: str, priority: int) -> None:
            lease = await desk.leases.acquire(holder, 10, wait_s=60, priority=priority)
            served.append(holder)
            desk.leases.release(lease.lease_id)

        async with asyncio.TaskGroup() as group:
            for holder, priority in (("a", 0), ("b", 0), ("urgent", 5), ("c", 0), ("later", -1), ("too", 5)):
                group.create_task(wait(holder, priority))
                await asyncio.sleep(0)
            assert await desk.refused() == "LEASE_HELD"
            assert first.waiting == 5, "whoever has a lower priority than the holder does not count"
            desk.leases.release(first.lease_id)
        return served

    assert asyncio.run(scenario()) == ["urgent", "too", "a", "b", "c", "later"]


def test_who_gives_up_waiting_is_passed_over() -> None:
    async def scenario() -> None:
        desk = Desk()
        first = await desk.leases.acquire("first", 10)
        gone = asyncio.create_task(desk.leases.acquire("gone", 10, wait_s=60))
        stays = asyncio.create_task(desk.leases.acquire("stays", 10, wait_s=60))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert first.waiting == 1
        desk.leases.release(first.lease_id)
        assert (await stays).holder == "stays"

    asyncio.run(scenario())


def test_who_goes_away_while_being_served_leaves_the_device_free() -> None:
    async def scenario() -> None:
        desk = Desk()
        first = await desk.leases.acquire("first", 10)
        gone = asyncio.create_task(desk.leases.acquire("gone", 10, wait_s=60))
        await asyncio.sleep(0)
        desk.leases.release(first.lease_id)
        assert await desk.refused() == "LEASE_HELD", "it is kept for the one in line"
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert (await desk.leases.acquire("next", 10)).holder == "next"

    asyncio.run(scenario())


def test_waiting_ends_by_time_and_names_the_holder() -> None:
    async def scenario() -> AgentError:
        desk = Desk()
        await desk.leases.acquire("the other", 10)
        with pytest.raises(AgentError) as caught:
            await desk.leases.acquire("b", 10, wait_s=0.01)
        return caught.value

    error = asyncio.run(scenario())
    assert (error.reason, error.metadata["holder"]) == ("LEASE_HELD", "the other")


def test_an_expired_lease_goes_to_the_first_in_line() -> None:
    async def scenario() -> Lease:
        desk = Desk()
        await desk.leases.acquire("first", 10)
        waiting = asyncio.create_task(desk.leases.acquire("second", 10, wait_s=60))
        await asyncio.sleep(0)
        desk.clock.now_s += 11
        assert desk.leases.current is None
        return await waiting

    assert asyncio.run(scenario()).holder == "second"


def test_an_agent_that_stops_sends_the_line_away() -> None:
    async def scenario() -> list[str]:
        desk = Desk()
        await desk.leases.acquire("first", 10)
        waiting = [asyncio.create_task(desk.leases.acquire(name, 10, wait_s=60)) for name in "ab"]
        await asyncio.sleep(0)
        desk.leases.close()
        results = await asyncio.gather(*waiting, desk.leases.acquire("late", 10), return_exceptions=True)
        return [each.reason for each in results]

    assert asyncio.run(scenario()) == ["STOPPING"] * 3


@pytest.mark.parametrize("wait_s", [-1.0, 1e6, float("nan")])
def test_a_wait_of_no_sensible_length_is_refused(wait_s: float) -> None:
    async def scenario() -> str:
        with pytest.raises(AgentError) as caught:
            await Desk().leases.acquire("a", 10, wait_s=wait_s)
        return caught.value.reason

    assert asyncio.run(scenario()) == "INPUT_INVALID"


class Line:
    """Callers who come, wait, go away and give back, in any order; the device stands between them."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.tasks: list[asyncio.Task[Lease]] = []

    def granted(self) -> list[Lease]:
        return [task.result() for task in self.tasks if task.done() and not task.cancelled() and not task.exception()]

    async def settle(self) -> None:
        """Until nothing more happens: whoever is being served has been."""
        while self.desk.leases.current is None and self.desk.leases._arriving is not None:  # noqa: ASYNC110 -- nobody announces it
            await asyncio.sleep(0)
        await asyncio.sleep(0)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["come", "leave", "release", "expire", "settle"]), st.integers(0, 3)), max_size=30
    )
)
def test_in_any_order_of_comings_and_goings_the_device_is_one_holders_and_never_forgotten(calls) -> None:
    async def scenario() -> None:
        line = Line()
        leases = line.desk.leases
        for call, which in calls:
            if call == "come":
                line.tasks.append(asyncio.create_task(leases.acquire(str(which), 10, wait_s=60, priority=which)))
                await asyncio.sleep(0)
            elif call == "leave" and which < len(line.tasks):
                line.tasks[which].cancel()
                await asyncio.sleep(0)
            elif call == "release" and leases.current:
                leases.release(leases.current.lease_id)
            elif call == "expire":
                line.desk.clock.now_s += 11
            elif call == "settle":
                await line.settle()
            assert len([each for each in line.granted() if not each.ended.is_set()]) <= 1
        await line.settle()
        while any(not task.done() for task in line.tasks):
            assert leases.current is not None, "somebody waits and nobody holds the device"
            leases.release(leases.current.lease_id)
            await line.settle()
        tokens = [each.token for each in line.granted()]
        assert len(tokens) == len(set(tokens))
        await asyncio.gather(*line.tasks, return_exceptions=True)

    asyncio.run(scenario())
