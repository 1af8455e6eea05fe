"""How long requests usually wait before they run."""

from __future__ import annotations

from collections import deque

#: Requests looked back on. More than half of them must have queued before queueing counts as usual.
_WINDOW = 15


class Queues:
    """The median of the last queueing times: a burst is not usual, a backlog soon is."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=_WINDOW)

    def usual_us(self, queued_us: float) -> float:
        """Take note of a request's queueing and return what is usual, microseconds."""
        self._last.append(queued_us)
        return sorted(self._last)[(len(self._last) - 1) // 2]
