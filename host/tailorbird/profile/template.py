"""KernelTemplate: the kernels of any subnet, from a few subnets that were looked at.

Capturing a subnet to list its kernels takes a fifth of a second; a search asks for thousands. In a convolutional
network every channel count of every kernel is an affine function of the elastic sizes, a kernel size or a resolution
sets fields outright, and skipping a block removes a run of kernels. All are learnt from one capture for each dimension
(each choice of the second kind) and each block, then checked on random subnets; a network for which the check fails is
captured subnet by subnet.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from tailorbird.types import Config, KernelSpec

if TYPE_CHECKING:
    from tailorbird.supernet import SearchSpace

#: Kernels of a subnet in execution order.
KernelsOf = Callable[[Config], Sequence[KernelSpec]]

_CHECKS: Final = 4
_PLACINGS: Final = 3
_TABLED: Final = ("kernel", "resolution")
_SIZES: Final = ("in_channels", "out_channels", "height", "width", "groups", "batch")


class _NotAffineError(Exception):
    """The network does not follow the template."""


@dataclass(frozen=True, slots=True)
class _Slope:
    """How one field of one kernel follows one dimension."""

    kernel: int
    field: str
    dimension: str
    slope: Fraction


#: Fields that one choice of a dimension sets: (kernel, field, value).
_Settings = tuple[tuple[int, str, Any], ...]


@dataclass(frozen=True, slots=True)
class KernelTemplate:
    """Kernels of the full network, how their sizes follow the dimensions, and which of them each block owns.

    tables: of a dimension that sets fields outright (kernel size, resolution), what each of its choices sets.
    """

    full: tuple[KernelSpec, ...]
    sizes: Mapping[str, int]
    slopes: tuple[_Slope, ...]
    runs: Mapping[str, range]
    tables: Mapping[tuple[str, int], _Settings] = dataclasses.field(default_factory=dict)

    def __call__(self, config: Config) -> tuple[KernelSpec, ...]:
        """Kernels of a subnet in execution order."""
        chosen = dict(config.sizes)
        fields: dict[tuple[int, str], Fraction] = {}
        for slope in self.slopes:
            if slope.dimension in chosen:
                change = slope.slope * (chosen[slope.dimension] - self.sizes[slope.dimension])
                key = (slope.kernel, slope.field)
                fields[key] = fields.get(key, Fraction(0)) + change
        changes: dict[int, dict[str, Any]] = {}
        for (kernel, field), change in fields.items():
            value = getattr(self.full[kernel], field) + change
            if value.denominator != 1:
                raise _NotAffineError
            changes.setdefault(kernel, {})[field] = int(value)
        for choice in config.sizes:
            for kernel, field, setting in self.tables.get(choice, ()):
                changes.setdefault(kernel, {})[field] = setting
        gone = {index for name in config.skipped for index in self.runs[name]}
        return tuple(
            dataclasses.replace(spec, **changes[index]) if index in changes else spec
            for index, spec in enumerate(self.full)
            if index not in gone
        )


def learn_kernels(space: SearchSpace, kernels_of: KernelsOf, *, seed: int = 0) -> KernelsOf:
    """A quick equivalent of `kernels_of`: a checked KernelTemplate, or `kernels_of` itself with a memory.

    kernels_of is called once for the full network, each dimension and each block, each choice of a kernel size or a
    resolution, and a few times to check.
    """
    seen: dict[Config, tuple[KernelSpec, ...]] = {}

    def remember(config: Config) -> tuple[KernelSpec, ...]:
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
    sized = [d for d in space.dimensions if d.kind not in {"depth", *_TABLED} and len(d.choices) > 1]
    tabled = [(d.name, choice) for d in space.dimensions if d.kind in _TABLED for choice in d.choices[:-1]]
    slopes: list[_Slope] = []
    for dimension in sized:
        least = dimension.choices[0]
        smaller = kernels_of(space.canonical(Config.of({dimension.name: least})))
        if len(smaller) != len(full):
            raise _NotAffineError
        for index, (now, then) in enumerate(zip(smaller, full, strict=True)):
            fields = [field for field in _SIZES if getattr(now, field) != getattr(then, field)]
            if dataclasses.replace(now, **{field: getattr(then, field) for field in fields}) != then:
                raise _NotAffineError
            slopes += [
                _Slope(index, field, dimension.name,
                       Fraction(getattr(then, field) - getattr(now, field), dimension.size - least))
                for field in fields
            ]  # fmt: skip
    tables = {choice: _settings(full, kernels_of(space.canonical(Config((choice,))))) for choice in tabled}
    template = KernelTemplate(full, {d.name: d.size for d in sized}, tuple(slopes), {}, tables)
    rng = random.Random(seed)  # noqa: S311  (no secret depends on it)
    runs = {block.name: _find_run(space, kernels_of, template, block.name, rng) for block in space.depth}
    return dataclasses.replace(template, runs=runs)


def _settings(full: Sequence[KernelSpec], changed: Sequence[KernelSpec]) -> _Settings:
    if len(full) != len(changed):
        raise _NotAffineError
    fields = [field.name for field in dataclasses.fields(KernelSpec)]
    return tuple(
        (index, field, getattr(now, field))
        for index, (now, then) in enumerate(zip(changed, full, strict=True))
        for field in fields
        if getattr(now, field) != getattr(then, field)
    )


def _find_run(
    space: SearchSpace, kernels_of: KernelsOf, template: KernelTemplate, block: str, rng: random.Random
) -> range:
    """Which kernels vanish with a block. Random sizes tell neighbouring blocks of the same shape apart."""
    possible: set[int] | None = None
    length = 0
    for _ in range(_PLACINGS):
        sizes = {d.name: rng.choice(d.choices) for d in space.dimensions if d.name in template.sizes}
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
