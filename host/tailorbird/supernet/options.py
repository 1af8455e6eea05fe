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
        by_name = tuple(divisor.items()) if isinstance(divisor, Mapping) else ()
        common: Any = 8 if divisor is None or isinstance(divisor, Mapping) else divisor
        if not all(map(_is_size, (common, *(step for _, step in by_name)))):
            raise UsageError(
                "a divisor must be a positive whole number",
                why=f"got {divisor!r}",
                fix="pass divisor=8, or a mapping from patterns to such numbers",
            )
        if not isinstance(choices, Mapping | None) or not all(map(_are_sizes, (choices or {}).values())):
            raise UsageError(
                "choices must be lists of positive whole numbers",
                why=f"got {choices!r}",
                fix='pass a mapping from patterns to sizes: choices={"layer2.*": [8, 16]}',
            )
        wanted = tuple((pattern, tuple(sizes)) for pattern, sizes in (choices or {}).items())
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


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0


def _are_sizes(values: Any) -> bool:
    return isinstance(values, Sequence) and len(values) > 0 and all(map(_is_size, values))


def _several(patterns: Any) -> tuple[str, ...]:
    found: tuple[Any, ...] = tuple(patterns) if isinstance(patterns, list | tuple | set | frozenset) else (patterns,)
    if not all(isinstance(pattern, str) for pattern in found):
        raise UsageError(
            "only and freeze take patterns on the names of dimensions",
            why=f"got {patterns!r}",
            fix='pass a text or a list of texts: freeze=["layer2.*", "*:kernel"]',
        )
    return found
