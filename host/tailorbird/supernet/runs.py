"""Runs: names that differ in one number alone, told in one phrase: "layer3.{1..5}.conv1"."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

_NUMBER = re.compile(r"\d+")


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """A dotted name."""
        ...


T = TypeVar("T", bound=Named)


@dataclass(frozen=True, slots=True)
class Run(Generic[T]):
    """Items of which each name counts one number of the name before up by one."""

    items: tuple[T, ...]

    @property
    def first(self) -> T:
        """The first item."""
        return self.items[0]

    @property
    def is_repeated(self) -> bool:
        """Whether there is more than one item."""
        return len(self.items) > 1

    @property
    def words(self) -> str:
        """The only name; "layer1.0 .. layer1.2"; "blocks.{0..11}.mlp" where the number is not the end."""
        first, last = self.items[0].name, self.items[-1].name
        if len(self.items) == 1:
            return first
        ((position, _),) = _steps(first, self.items[1].name)
        low, high = (list(_NUMBER.finditer(name))[position] for name in (first, last))
        if low.end() == len(first):
            return f"{first} .. {last}"
        return f"{first[: low.start()]}{{{low[0]}..{high[0]}}}{first[low.end() :]}"


def find_runs(items: Iterable[tuple[T, Hashable]]) -> tuple[Run[T], ...]:
    """Runs of items with equal keys, in the order of their first items.

    Repetition is looked for in the innermost number first (the blocks of a stage), then in the others.
    """
    listed = list(items)
    place = {id(item): index for index, (item, _) in enumerate(listed)}
    inner = _chained([((item,), key) for item, key in listed], innermost=True)
    long = [run for run, _ in inner if len(run) > 1]
    outer = _chained([(run, key) for run, key in inner if len(run) == 1], innermost=False)
    found = [*long, *(run for run, _ in outer)]
    return tuple(Run(run) for run in sorted(found, key=lambda run: place[id(run[0])]))


def _chained(items: list[tuple[tuple[T, ...], Hashable]], *, innermost: bool) -> list[tuple[tuple[T, ...], Hashable]]:
    latest: dict[Hashable, int] = {}
    found: list[tuple[tuple[T, ...], Hashable]] = []
    for (item,), key in items:
        pattern = (_NUMBER.sub("#", item.name), key)
        at = latest.get(pattern)
        if at is not None and _continues(found[at][0], item, innermost=innermost):
            found[at] = ((*found[at][0], item), key)
        else:
            latest[pattern] = len(found)
            found.append(((item,), key))
    return found


def _continues(run: tuple[T, ...], item: T, *, innermost: bool) -> bool:
    step = list(_steps(run[-1].name, item.name))
    last = _repetitions(item.name) - 1
    if len(step) != 1 or step[0][1] != 1 or step[0][0] > last or (innermost and step[0][0] != last):
        return False
    return len(run) == 1 or step == list(_steps(run[-2].name, run[-1].name))


def _repetitions(name: str) -> int:
    """How many numbers of a name may count repetitions; in "layer2.0.conv1" not the last: conv2 is another layer."""
    leaf = name.rpartition(".")[2]
    return len(_NUMBER.findall(name)) - (0 if leaf.isdigit() else len(_NUMBER.findall(leaf)))


def _steps(before: str, after: str) -> Iterator[tuple[int, int]]:
    """(position, difference) of the numbers that differ between two names of one pattern."""
    pairs = zip(_NUMBER.findall(before), _NUMBER.findall(after), strict=True)
    return ((i, int(new) - int(old)) for i, (old, new) in enumerate(pairs) if new != old)
