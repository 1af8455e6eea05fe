"""The burner's time-table during the serving phase."""

from __future__ import annotations

from collections.abc import Sequence

from tailorbird.demo.burner import Burner
from tailorbird.demo.plan import BurstPlan
from tailorbird.ui.run import Burst


class BurnerSchedule:
    """Starts and stops the burner as serving time passes; remembers when it really was on. A context manager."""

    def __init__(self, plans: Sequence[BurstPlan], seconds: float, cores: tuple[int, ...]) -> None:
        self._waiting = [(p.start * seconds, p.end * seconds, p.per_core * len(cores)) for p in plans]
        self._burner = Burner(cores)
        self._done: list[Burst] = []
        self._on: tuple[float, float, int] | None = None  # since, until, processes

    def tick(self, now: float) -> None:
        """Called often with the seconds since serving began."""
        if self._on is not None and now >= self._on[1]:
            self._burner.stop()
            self._done.append(Burst(self._on[0], now, self._on[2]))
            self._on = None
        if self._on is None and self._waiting and now >= self._waiting[0][0]:
            _, end, count = self._waiting.pop(0)
            if end > now:
                self._burner.start(count, seconds=end - now + 5.0)
                self._on = (now, end, count)

    def bursts(self) -> tuple[Burst, ...]:
        """The bursts that are over."""
        return tuple(self._done)

    def __enter__(self) -> BurnerSchedule:
        return self

    def __exit__(self, *_: object) -> None:
        self._burner.stop()
