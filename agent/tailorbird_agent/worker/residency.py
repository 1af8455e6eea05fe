"""Which rungs of a ladder are in memory: the safe one and those around the one held always, others while they fit.

The smallest rung is never unloaded: it answers while another is on its way. Rungs are loaded between requests, one at a
time, so that a request waits for at most one load, and those in flight for none.

An operator may have more rungs kept (`admit`), as far as the budget allows, or some left out (`dismiss`): those are
not loaded whatever is held, and the largest below stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

SAFE = 0
#: Rungs on each side of the one held that are kept: the next adaptive switch is a change of reference.
NEIGHBOURS = 1


class Closable(Protocol):
    """What is kept in memory."""

    def close(self) -> None:
        """Give the memory back."""
        ...


T = TypeVar("T", bound=Closable)


def needed(held: int, count: int) -> tuple[int, ...]:
    """Rungs that have to be in memory while one is held, the most urgent first."""
    around = [held, *(held + side * step for step in range(1, NEIGHBOURS + 1) for side in (-1, 1))]
    return tuple(dict.fromkeys(index for index in (*around, SAFE) if 0 <= index < count))


class Residency(Generic[T]):
    """The rungs in memory by their place in the ladder, fastest first; sizes_bytes are what each takes.

    budget_bytes: memory for rungs beyond the needed ones, those included; None: all stay.
    """

    def __init__(
        self,
        sizes_bytes: Sequence[int],
        load: Callable[[int], T],
        budget_bytes: int | None,
        loaded: Mapping[int, T],
    ) -> None:
        self._sizes_bytes = tuple(sizes_bytes)
        self._load = load
        self._budget_bytes = budget_bytes
        self._loaded = dict(loaded)
        self._held = len(self._sizes_bytes) - 1
        self._failed: set[int] = set()
        self._admitted: set[int] = set()
        self._dismissed: set[int] = set()
        self.loads = 0

    @property
    def indices(self) -> tuple[int, ...]:
        """The rungs in memory, fastest first."""
        return tuple(sorted(self._loaded))

    @property
    def dismissed(self) -> tuple[int, ...]:
        """The rungs left out on request, fastest first."""
        return tuple(sorted(self._dismissed))

    def admit(self, index: int) -> None:
        """Have a rung in memory from now on, whatever is held; what a load raises is raised, and nothing changes.

        Raises:
            ValueError: it does not fit the budget beside the needed ones and those admitted before.
        """
        wanted = {*self._wanted(), index}
        size_bytes = sum(self._sizes_bytes[each] for each in wanted)
        planned = index in needed(self._held, len(self._sizes_bytes))
        if self._budget_bytes is not None and size_bytes > self._budget_bytes and not planned:
            raise ValueError(
                f"with it, the rungs that have to be in memory take {size_bytes} of {self._budget_bytes} bytes"
            )
        self.get(index)
        self._admitted.add(index)
        self._dismissed.discard(index)
        self._failed.discard(index)

    def dismiss(self, index: int) -> None:
        """Let go of a rung, and do without it until it is admitted.

        Raises:
            ValueError: it is the safe rung, or the one that answers now.
        """
        if index == SAFE:
            raise ValueError("it is the safe rung, which answers when no other can")
        if index in {self._held, self.at(self._held)[0]}:
            raise ValueError("it is the rung in use now")
        self._admitted.discard(index)
        self._dismissed.add(index)
        if (rung := self._loaded.pop(index, None)) is not None:
            rung.close()

    def restore(self) -> None:
        """Forget what was admitted and dismissed: what is in memory follows from the rung held and the budget."""
        self._admitted.clear()
        self._dismissed.clear()

    def hold(self, index: int) -> None:
        """From now on this rung and its neighbours are wanted."""
        if index != self._held:
            self._failed.clear()
        self._held = index

    def at(self, index: int) -> tuple[int, T]:
        """A rung, or while it is not in memory the largest below it that is."""
        found = self._loaded.get(index)
        if found is not None:
            return index, found
        smaller = max(each for each in self._loaded if each < index)
        return smaller, self._loaded[smaller]

    def get(self, index: int) -> T:
        """A rung, loaded now if it is not in memory."""
        if index not in self._loaded:
            self._loaded[index] = self._load(index)
            self.loads += 1
        return self._loaded[index]

    @property
    def unsettled(self) -> bool:
        """Whether something is to be loaded or unloaded."""
        return self._missing() is not None or self._excess() is not None

    def settle(self) -> None:
        """Do the most urgent of it: unload one rung if there are too many, else load one that is needed.

        What a load raises is raised; that rung is not tried again until another one is held.
        """
        excess = self._excess()
        if excess is not None:
            self._loaded.pop(excess).close()
            return
        missing = self._missing()
        if missing is not None:
            self._failed.add(missing)
            self.get(missing)
            self._failed.discard(missing)

    def _wanted(self) -> tuple[int, ...]:
        """Rungs that have to be in memory, the most urgent first."""
        planned = (each for each in needed(self._held, len(self._sizes_bytes)) if each not in self._dismissed)
        return tuple(dict.fromkeys((*planned, *sorted(self._admitted))))

    def _missing(self) -> int | None:
        wanted = self._wanted()
        if self._budget_bytes is None:
            everything = range(len(self._sizes_bytes))
            wanted = (*wanted, *(each for each in everything if each not in self._dismissed))
        return next((index for index in wanted if index not in self._loaded and index not in self._failed), None)

    def _excess(self) -> int | None:
        """The rung farthest from the one held that nobody needs, when more are in memory than fit."""
        if self._budget_bytes is None:
            return None
        keep = set(self._wanted())
        there = keep | set(self._loaded)
        spare = [index for index in self._loaded if index not in keep]
        if not spare or sum(self._sizes_bytes[index] for index in there) <= self._budget_bytes:
            return None
        return max(spare, key=lambda index: abs(index - self._held))
