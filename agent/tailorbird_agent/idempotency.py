"""Mutating calls by request_id: the first one acts, a repeated one gets the first one's answer."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tailorbird_agent.errors import RequestError

Answer = TypeVar("Answer")
REMEMBERED = 512
MAX_ID_CHARACTERS = 128


class Replies:
    """Bounded memory of answers, for the life of the process.

    A mutation runs to its end once begun, even when its caller goes away: a retry with the same id joins it. Failures
    are not remembered, so a retry after one acts again.
    """

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._tasks: OrderedDict[tuple[str, str], tuple[bytes, asyncio.Task[Any]]] = OrderedDict()
        self._anonymous = itertools.count()

    async def once(
        self, method: str, request_id: str, content: bytes, act: Callable[[], Coroutine[Any, Any, Answer]]
    ) -> Answer:
        """The answer of `act`, or the remembered one. content: the request's bytes, which a repeat must not change.

        Raises:
            RequestError: REQUEST_ID_REUSED, INPUT_INVALID; and whatever `act` raises.
        """
        if len(request_id) > MAX_ID_CHARACTERS:
            raise RequestError("INPUT_INVALID", f"request_id has more than {MAX_ID_CHARACTERS} characters.")
        digest = hashlib.sha256(content).digest()
        # Calls without an id are kept only while they run.
        key = (method, request_id) if request_id else ("", str(next(self._anonymous)))
        remembered = self._tasks.get(key)
        if remembered is None:
            task = asyncio.create_task(act())
            self._tasks[key] = (digest, task)
            task.add_done_callback(lambda done: self._settle(key, done))
        else:
            first, task = remembered
            if first != digest:
                raise RequestError("REQUEST_ID_REUSED", f"{request_id!r} of {method}.")
        answer: Answer = await asyncio.shield(task)
        return answer

    async def finish(self) -> None:
        """Wait for mutations under way."""
        running = [task for _, task in self._tasks.values() if not task.done()]
        await asyncio.gather(*running, return_exceptions=True)

    def _settle(self, key: tuple[str, str], task: asyncio.Task[Any]) -> None:
        failed = task.cancelled() or task.exception() is not None
        if failed or not key[0]:
            self._tasks.pop(key, None)
        done = [key for key, (_, each) in self._tasks.items() if each.done()]
        for old in done[: max(len(done) - self._limit, 0)]:
            del self._tasks[old]
