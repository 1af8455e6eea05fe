"""How a network was compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailorbird.errors import UsageError

Patterns = str | Sequence[str]
Divisor = int | Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Options:
    """Arguments of elastic(), kept so that a saved SuperNet can be compiled again in the same way.

    divisor: of widths; divisors and choices: those that patterns on dimension names ask for, the first match counts.
    """

    only: tuple[str, ...] | None = None
    freeze: tuple[str, ...] = ()
    divisor: int = 8
    divisors: tuple[tuple[str, int], ...] = ()
    choices: tuple[tuple[str, tuple[int, ...]], ...] = ()
    importance: str = "l2"

    @classmethod
    def of(
        cls,
        only: Patterns | None = None,
        freeze: Patterns | None = None,
        divisor: Divisor | None = None,
        choices: Mapping[str, Sequence[int]] | None = None,
        importance: str = "l2",
    ) -> Options:
        """From the arguments as users give them. Raises: UsageError."""
        common = divisor if isinstance(divisor, int) else 8
        by_name = tuple(divisor.items()) if isinstance(divisor, Mapping) else ()
        wanted = tuple((pattern, tuple(sizes)) for pattern, sizes in (choices or {}).items())
        if any(not isinstance(step, int) or step < 1 for step in (common, *(step for _, step in by_name))):
            raise UsageError("a divisor must be a positive number", why=f"got {divisor!r}")
        if any(not isinstance(size, int) or size < 1 for _, sizes in wanted for size in sizes):
            raise UsageError("choices must be positive numbers", why=f"got {choices!r}")
        return cls(
            None if only is None else _several(only), _several(freeze or ()), common, by_name, wanted, importance
        )

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of elastic() that give these options, as plain data."""
        return {
            "only": None if self.only is None else list(self.only),
            "freeze": list(self.freeze),
            "divisor": dict(self.divisors) or self.divisor,
            "choices": {pattern: list(sizes) for pattern, sizes in self.choices},
            "importance": self.importance,
        }

    @property
    def patterns(self) -> tuple[str, ...]:
        """Every pattern on names."""
        return (
            *(self.only or ()),
            *self.freeze,
            *(pattern for pattern, _ in self.divisors),
            *(pattern for pattern, _ in self.choices),
        )


def _several(patterns: Patterns) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)
