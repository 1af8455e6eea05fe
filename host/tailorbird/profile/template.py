"""KernelTemplate: the kernels of any subnet, from a few subnets that were looked at.

Capturing a subnet to list its kernels takes a fifth of a second; a search asks for thousands. In a convolutional
network every size of every kernel is an affine function of the elastic sizes, a kernel size or a resolution sets sizes
outright, and skipping a block removes a run of kernels. All are learnt from one capture for each dimension (each choice
of the second kind) and each block, then checked on random subnets; a network for which the check fails is captured
subnet by subnet.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from tailorbird.types import Config, Kernel

if TYPE_CHECKING:
    from tailorbird.supernet import SearchSpace

#: Kernels of a subnet in execution order.
KernelsOf = Callable[[Config], Sequence[Kernel]]

_CHECKS: Final = 4
_PLACINGS: Final = 3
_TABLED: Final = ("kernel", "resolution")
#: A kernel that many dimensions reach (a concatenation of everything) may have more shapes than can be listed.
_MANY: Final = 100_000

#: What one choice does to kernels: (kernel, place in its numbers, amount), the amount added or set.
_Changes = tuple[tuple[int, int, int], ...]


class _NotAffineError(Exception):
    """The network does not follow the template."""


@dataclass(frozen=True, slots=True)
class KernelTemplate:
    """Kernels of the full network, what each choice does to their sizes, and which of them each block owns.

    added, set: by dimension, by choice. A dimension that adds to one size and sets another is in both.
    """

    full: tuple[Kernel, ...]
    added: Mapping[str, Mapping[int, _Changes]]
    set: Mapping[str, Mapping[int, _Changes]] = field(default_factory=dict)
    runs: Mapping[str, range] = field(default_factory=dict)

    def __call__(self, config: Config) -> tuple[Kernel, ...]:
        """Kernels of a subnet in execution order."""
        changed: dict[int, list[int]] = {}
        for name, choice in config.sizes:
            for kernel, place, amount in self.added.get(name, {}).get(choice, ()):
                changed.setdefault(kernel, list(self.full[kernel].numbers))[place] += amount
        for name, choice in config.sizes:
            for kernel, place, amount in self.set.get(name, {}).get(choice, ()):
                changed.setdefault(kernel, list(self.full[kernel].numbers))[place] = amount
        gone = {index for name in config.skipped for index in self.runs[name]}
        return tuple(
            kernel.with_numbers(changed[index]) if index in changed else kernel
            for index, kernel in enumerate(self.full)
            if index not in gone
        )

    def shapes_at(self, place: int) -> tuple[Kernel, ...] | None:
        """All shapes that the kernel at a place of the full network takes in the space; None when there are too many.

        Skipping blocks takes kernels away and leaves the others as they are, so the choices of the dimensions that
        reach this kernel are all there is.
        """
        reached = {self.full[place].numbers}
        for alter, by_dimension in ((_add, self.added), (_set, self.set)):
            for choices in by_dimension.values():
                options = {tuple((at, amount) for kernel, at, amount in c if kernel == place) for c in choices.values()}
                if options != {()}:
                    reached |= {alter(numbers, option) for numbers in reached for option in options}
                if len(reached) > _MANY:
                    return None
        return tuple(self.full[place].with_numbers(numbers) for numbers in sorted(reached))

    def places_of(self, dimension: str) -> tuple[int, ...]:
        """Places in the full network of the kernels whose sizes follow a dimension."""
        choices = [*self.added.get(dimension, {}).values(), *self.set.get(dimension, {}).values()]
        return tuple(sorted({kernel for changes in choices for kernel, _, _ in changes}))


def _add(numbers: tuple[int, ...], option: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    altered = list(numbers)
    for place, amount in option:
        altered[place] += amount
    return tuple(altered)


def _set(numbers: tuple[int, ...], option: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    altered = list(numbers)
    for place, amount in option:
        altered[place] = amount
    return tuple(altered)


def learn_kernels(space: SearchSpace, kernels_of: KernelsOf, *, seed: int = 0) -> KernelsOf:
    """A quick equivalent of `kernels_of`: a checked KernelTemplate, or `kernels_of` itself with a memory.

    kernels_of is called once for the full network, each dimension and each block, each choice of a kernel size or a
    resolution, and a few times to check.
    """
    seen: dict[Config, tuple[Kernel, ...]] = {}

    def remember(config: Config) -> tuple[Kernel, ...]:
        if config not in seen:
            seen[config] = tuple(kernels_of(config))
        return seen[config]

    try:
        template = _learn(space, remember, seed)
        checks = [space.smallest(), *(space.sample(seed + number) for number in range(_CHECKS))]
        if all(template(config) == remember(config) for config in checks):
            return template
    except _NotAffineError:
        pass
    return remember


def _learn(space: SearchSpace, kernels_of: KernelsOf, seed: int) -> KernelTemplate:
    full = tuple(kernels_of(space.full()))
    added: dict[str, dict[int, _Changes]] = {}
    outright: dict[str, dict[int, _Changes]] = {}
    for dimension in space.dimensions:
        *others, last = dimension.choices
        if dimension.kind == "depth" or not others:
            continue
        if dimension.kind in _TABLED:
            found = {c: _differences(full, kernels_of(space.canonical(Config(((dimension.name, c),))))) for c in others}
            outright[dimension.name] = {
                choice: tuple((kernel, place, now) for kernel, place, _, now in changes)
                for choice, changes in found.items()
            }
            continue
        ends = _differences(full, kernels_of(space.canonical(Config(((dimension.name, others[0]),)))))
        slopes = [(kernel, place, Fraction(now - then, others[0] - last)) for kernel, place, then, now in ends]
        added[dimension.name] = {
            choice: tuple((kernel, place, _whole(slope * (choice - last))) for kernel, place, slope in slopes)
            for choice in others
        }
    template = KernelTemplate(full, added, outright)
    rng = random.Random(seed)  # noqa: S311  (no secret depends on it)
    runs = {block.name: _find_run(space, kernels_of, template, block.name, rng) for block in space.depth}
    return replace(template, runs=runs)


def _differences(full: Sequence[Kernel], changed: Sequence[Kernel]) -> list[tuple[int, int, int, int]]:
    """(kernel, place, size before, size now) of every size that differs."""
    if [kernel.program for kernel in full] != [kernel.program for kernel in changed]:
        raise _NotAffineError
    return [
        (kernel, place, then, now)
        for kernel, (old, new) in enumerate(zip(full, changed, strict=True))
        for place, (then, now) in enumerate(zip(old.numbers, new.numbers, strict=True))
        if then != now
    ]


def _whole(amount: Fraction) -> int:
    if amount.denominator != 1:
        raise _NotAffineError
    return int(amount)


def _find_run(
    space: SearchSpace, kernels_of: KernelsOf, template: KernelTemplate, block: str, rng: random.Random
) -> range:
    """Which kernels vanish with a block. Random sizes tell neighbouring blocks of the same shape apart."""
    possible: set[int] | None = None
    length = 0
    for _ in range(_PLACINGS):
        sizes = {d.name: rng.choice(d.choices) for d in space.dimensions if d.name in template.added}
        whole = template(space.canonical(Config.of(sizes)))
        rest = tuple(kernels_of(space.canonical(Config.of(sizes, [block]))))
        length = len(whole) - len(rest)
        starts = {i for i in range(len(rest) + 1) if whole[:i] + whole[i + length :] == rest} if length >= 0 else set()
        possible = starts if possible is None else possible & starts
        if len(possible) <= 1:
            break
    if not possible:
        raise _NotAffineError
    # A block ends with its addition. Where the addition before the block looks the same, taking that one instead leaves
    # the same kernels, but it belongs to another block: the last of equivalent places is the block's own.
    first = max(possible)
    return range(first, first + length)
