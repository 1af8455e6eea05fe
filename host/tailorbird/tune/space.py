"""The decisions a schedule consists of, without TVM: sample, mutate, refit to another kernel, describe as features.

A sketch is a program shape with open choices, in order: how each loop is tiled, how far to unroll, where to compute the
producer. MetaSchedule's CPU sketches tile spatial loops in four (outer, outer, middle, inner) and reductions in two.
The last spatial loop is contiguous in memory and becomes the vector.

The prior is that of hand-written kernels (Goto, van de Geijn 2008): a register tile of vectors x pixels that fills, but
does not overflow, the vector registers. The search spends its few measurements inside it.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Decision = tuple[int, ...] | int | None
Decisions = tuple[Decision, ...]

#: Stands for no sketch at all: plain loops.
DEFAULT_SKETCH = -1

#: A schedule whose form is none of the kernel's sketches: it came from another kernel or another release.
FOREIGN_SKETCH = -2

_SPATIAL_PARTS = 4
_MAX_INNER = 64  # MetaSchedule's max_innermost_factor


@dataclass(frozen=True, slots=True)
class Choice:
    """One open choice. tile: split `extent` into `parts` factors; category: one of `parts`; location: a loop's index.

    A location of None is left to TVM, which knows the valid ones.
    """

    kind: Literal["tile", "category", "location"]
    extent: int = 0
    parts: int = 0

    @property
    def is_spatial(self) -> bool:
        """Whether this tiles a loop over outputs (not a reduction)."""
        return self.kind == "tile" and self.parts == _SPATIAL_PARTS


@dataclass(frozen=True, slots=True)
class KernelSpace:
    """All sketches of one kernel. flops is per call; name is for people."""

    name: str
    workload: str
    kernel_class: str
    flops: float
    sketches: tuple[tuple[Choice, ...], ...]

    @property
    def extents(self) -> tuple[int, ...]:
        """Lengths of the tiled loops, from the sketch that tiles most."""
        tiles = [tuple(choice.extent for choice in sketch if choice.kind == "tile") for sketch in self.sketches]
        return max(tiles, key=len, default=())

    def distance(self, extents: Sequence[int]) -> float:
        """How far another kernel of the class is, in octaves over all loops."""
        if len(extents) != len(self.extents):
            return math.inf
        return sum(abs(math.log2(a / b)) for a, b in zip(self.extents, extents, strict=True))


@dataclass(frozen=True, slots=True)
class VectorUnit:
    """float32 lanes per vector register and number of registers."""

    lanes: int
    registers: int


def sample(sketch: Sequence[Choice], unit: VectorUnit, rng: random.Random) -> Decisions:
    """Draw decisions from the register-tiling prior."""
    spatial = [index for index, choice in enumerate(sketch) if choice.is_spatial]
    inner = _register_tile([sketch[index].extent for index in spatial], unit, rng)
    decisions: list[Decision] = []
    for index, choice in enumerate(sketch):
        if choice.is_spatial:
            decisions.append(_spatial_tile(choice.extent, inner[spatial.index(index)], rng))
        elif choice.kind == "tile":
            decisions.append(_reduction_tile(choice, rng))
        elif choice.kind == "category":
            weights = range(1, choice.parts + 1)  # longer unrolling more often: the register tile needs it
            decisions.append(rng.choices(range(choice.parts), weights)[0])
        else:
            decisions.append(_location(len(spatial), rng))
    return tuple(decisions)


def mutate(sketch: Sequence[Choice], decisions: Decisions, rng: random.Random) -> Decisions:
    """Change one or two decisions: move a factor between two parts of a tile, redraw a category or a location."""
    changed = list(decisions)
    open_choices = [i for i, c in enumerate(sketch) if c.kind != "tile" or c.extent > 1]
    for index in rng.sample(open_choices, min(len(open_choices), rng.choice((1, 1, 2)))):
        choice, old = sketch[index], changed[index]
        if choice.kind == "tile" and isinstance(old, tuple):
            changed[index] = _move_factor(old, rng)
        elif choice.kind == "category":
            changed[index] = rng.randrange(choice.parts)
        else:
            changed[index] = _location(sum(choice.is_spatial for choice in sketch), rng)
    return tuple(changed)


def neighbours(sketch: Sequence[Choice], decisions: Decisions) -> list[Decisions]:
    """Every schedule one step away: a prime factor moved within a tile, a category one up or down.

    The last choices come first: unrolling and the vector loop matter most.
    """
    near: list[Decisions] = []
    for index in reversed(range(len(sketch))):
        choice, old = sketch[index], decisions[index]
        steps: list[Decision] = []
        if choice.kind == "tile" and isinstance(old, tuple):
            steps = list(_tile_steps(old))
        elif choice.kind == "category" and isinstance(old, int):
            steps = [new for new in (old + 1, old - 1) if 0 <= new < choice.parts]
        near += [(*decisions[:index], step, *decisions[index + 1 :]) for step in steps]
    return near


def refit(source: Decisions, sketch: Sequence[Choice]) -> Decisions | None:
    """Another kernel's decisions on this one's extents: innermost first, the divisor nearest to the old factor.

    None when the sketches do not correspond.
    """
    if len(source) != len(sketch):
        return None
    fitted: list[Decision] = []
    for choice, decision in zip(sketch, source, strict=True):
        if choice.kind != "tile":
            valid = choice.kind == "location" or (isinstance(decision, int) and decision < choice.parts)
            if isinstance(decision, tuple) or not valid:
                return None
            fitted.append(decision)
        elif isinstance(decision, tuple) and len(decision) == choice.parts:
            fitted.append(_refit_tile(choice.extent, decision))
        else:
            return None
    return tuple(fitted)


def nearest(space: KernelSpace, donors: Sequence[Sequence[Any]], most: int = 3) -> list[tuple[int, Decisions]]:
    """(sketch, decisions) refitted from the nearest kernels of the class, nearest first.

    donors: (extents, sketch, decisions) of schedules of other kernels, as stored: lists stand for tuples.
    """
    found: list[tuple[int, Decisions]] = []
    for _, sketch, stored in sorted(donors, key=lambda donor: space.distance(donor[0])):
        decisions = tuple(tuple(d) if isinstance(d, list) else d for d in stored)
        if sketch == DEFAULT_SKETCH:
            found.append((sketch, ()))
        elif 0 <= sketch < len(space.sketches):
            fitted = refit(decisions, space.sketches[sketch])
            found += [(sketch, fitted)] if fitted is not None else []
        if len(found) == most:
            break
    return found


def features(space: KernelSpace, sketch: int, decisions: Decisions, unit: VectorUnit) -> list[float]:
    """Numbers that explain a schedule's speed, comparable across kernels; see FEATURES for their meaning."""
    choices = space.sketches[sketch]
    tiles = [d for c, d in zip(choices, decisions, strict=True) if c.is_spatial and isinstance(d, tuple)]
    reductions = [d for c, d in zip(choices, decisions, strict=True) if c.kind == "tile" and not c.is_spatial]
    categories = [d for c, d in zip(choices, decisions, strict=True) if c.kind == "category"]
    locations = [d for c, d in zip(choices, decisions, strict=True) if c.kind == "location"]
    vector = tiles[-1][3] if tiles else 1
    pixels = math.prod(tile[3] for tile in tiles[:-1])
    vectors = -(-vector // unit.lanes)
    inner_reduction = math.prod(d[-1] for d in reductions if isinstance(d, tuple))
    return [
        math.log2(vector),
        float(vector % unit.lanes == 0),
        vector / (vectors * unit.lanes),
        math.log2(pixels),
        math.log2(pixels * vectors),
        float(pixels * vectors > unit.registers),
        math.log2(tiles[-2][3]) if len(tiles) > 1 else 0.0,
        math.log2(math.prod(tile[2] for tile in tiles)),
        math.log2(math.prod(tile[1] for tile in tiles)),
        math.log2(inner_reduction),
        math.log2(reductions[-1][-1]) if reductions and isinstance(reductions[-1], tuple) else 0.0,
        math.log2(math.prod(d[-1] for d in reductions[:-1] if isinstance(d, tuple))),
        math.log2(pixels * vectors * inner_reduction),
        float(sum(d for d in categories if isinstance(d, int))),
        float(sum(-3 if d is None else d for d in locations if not isinstance(d, tuple))),
        float(sketch),
        math.log2(tiles[-1][0] * tiles[-1][1]) if tiles else 0.0,
        math.log2(max(space.flops, 1.0)),
        math.log2(space.extents[-1]) if space.extents else 0.0,
    ]


#: Names of what `features` returns, in order.
FEATURES = (
    "vector length",
    "whole vectors",
    "lane use",
    "pixels in the register tile",
    "registers in the tile",
    "spills",
    "inner width",
    "middle tile",
    "second tile",
    "inner reduction",
    "inner channels",
    "inner window",
    "body length",
    "unroll",
    "producer location",
    "sketch",
    "outer channel blocks",
    "flops",
    "last extent",
)


def divisors(number: int) -> list[int]:
    """All divisors, ascending."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return small + [number // d for d in reversed(small) if d * d != number]


def _register_tile(extents: Sequence[int], unit: VectorUnit, rng: random.Random) -> list[int]:
    """Innermost factor of each spatial loop; the last one is the vector's."""
    if not extents:
        return []
    vector_options = [d for d in divisors(extents[-1]) if d <= _MAX_INNER]
    vector = rng.choices(vector_options, [_vector_weight(d, unit.lanes) for d in vector_options])[0]
    room = max(1, rng.randint(unit.registers // 4, unit.registers - 2) // -(-vector // unit.lanes))
    inner = [vector]
    for extent in reversed(extents[:-1]):  # width first, then height, then batch
        options = [d for d in divisors(extent) if d <= min(room, _MAX_INNER)]
        factor = rng.choices(options, [d * d for d in options])[0]
        room //= factor
        inner.append(factor)
    return inner[::-1]


def _vector_weight(length: int, lanes: int) -> float:
    """Machine vectors first: LLVM splits a vector of 24 or 40 badly, three or five of 8 run at full speed."""
    if length % lanes == 0:
        count = length // lanes
        return 8.0 if count & (count - 1) == 0 else 2.0
    if length == lanes // 2:
        return 4.0
    if length % (lanes // 2) == 0:
        return 1.0
    return 0.5 if length in {4, 8} else 0.05 * length / lanes


def _spatial_tile(extent: int, inner: int, rng: random.Random) -> tuple[int, ...]:
    rest = extent // inner
    middle = rng.choice([1, 1, 1, *divisors(rest)])
    rest //= middle
    second = rng.choice(divisors(rest))
    return (rest // second, second, middle, inner)


def _reduction_tile(choice: Choice, rng: random.Random) -> tuple[int, ...]:
    options = [d for d in divisors(choice.extent) if d <= _MAX_INNER]
    inner = rng.choice(options)
    return (*[1] * (choice.parts - 2), choice.extent // inner, inner)


def _location(loops: int, rng: random.Random) -> Decision:
    """Where to compute the producer (padding): at the root, or at a loop of the two outer levels, never inlined.

    An invalid loop is replaced by TVM with the nearest valid one outside it.
    """
    return rng.choice((-1, loops - 1, 2 * loops - 2, 2 * loops - 1, 2 * loops)) if loops else None


def _move_factor(tile: tuple[int, ...], rng: random.Random) -> tuple[int, ...]:
    donors = [position for position, factor in enumerate(tile) if factor > 1]
    if not donors:
        return tile
    source = rng.choice(donors)
    target = rng.choice([position for position in range(len(tile)) if position != source])
    factor = rng.choice(divisors(tile[source])[1:])
    moved = list(tile)
    moved[source] //= factor
    moved[target] *= factor
    return tuple(moved) if moved[-1] <= _MAX_INNER else tile


def _tile_steps(tile: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for source, target in itertools.permutations(reversed(range(len(tile))), 2):
        for prime in (d for d in divisors(tile[source])[1:] if len(divisors(d)) == 2):
            moved = list(tile)
            moved[source] //= prime
            moved[target] *= prime
            if moved[-1] <= _MAX_INNER:
                yield tuple(moved)


def _refit_tile(extent: int, factors: tuple[int, ...]) -> tuple[int, ...]:
    rest, fitted = extent, list[int]()
    for wanted in reversed(factors[1:]):
        options = divisors(rest) if fitted else [d for d in divisors(rest) if d <= _MAX_INNER]
        factor = min(options, key=lambda d: (abs(math.log2(d / wanted)), -d))
        fitted.append(factor)
        rest //= factor
    return (rest, *reversed(fitted))
