"""Which dimensions a network offers, at which sizes, under the user's options."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch

from tailorbird.errors import UsageError
from tailorbird.graph import ElasticGraph, Group, Kernel
from tailorbird.supernet.options import Options
from tailorbird.supernet.space import Dimension


def find_dimensions(graph: ElasticGraph, options: Options, others: Sequence[str] = ()) -> tuple[Dimension, ...]:
    """Groups, kernels and blocks, in this order. others: names of dimensions found elsewhere, which patterns may match.

    Raises: UsageError for a pattern or a size that fits none.
    """
    names = [
        *(g.name for g in graph.groups),
        *(k.name for k in graph.kernels),
        *(b.name for b in graph.blocks),
        *others,
    ]
    _check_patterns(options.patterns, names)
    sized = [_of_group(group, options) for group in graph.groups]
    kernels = [_of_kernel(kernel, options) for kernel in graph.kernels]
    depth = [_of_block(block.name, options) for block in graph.blocks]
    return tuple(d for d in (*sized, *kernels, *depth) if len(d.choices) > 1 and is_wanted(d.name, options))


def is_wanted(name: str, options: Options) -> bool:
    """Whether `only` and `freeze` let a dimension be elastic."""
    chosen = options.only is None or any(fnmatch(name, pattern) for pattern in options.only)
    return chosen and not any(fnmatch(name, pattern) for pattern in options.freeze)


def default_choices(group: Group, divisor: int | None = None) -> tuple[int, ...]:
    """1/4, 1/2, 3/4 and all of a group, rounded to multiples of `divisor` channels (8; heads: 1), at least one of them.

    A group of fewer than two such multiples could not halve: it takes the divisor's half, quarter, ... instead.
    """
    size = group.atom.size
    if group.kind == "heads":
        step = divisor or 1
    else:
        divisor = divisor or 8
        step = divisor // math.gcd(divisor, group.inner)
    while step > 1 and 2 * step > size:
        step //= 2
    cut = {max(step, round(size * quarters / (4 * step)) * step) for quarters in (1, 2, 3)}
    return (*sorted(choice for choice in cut if choice < size), size)


def _of_group(group: Group, options: Options) -> Dimension:
    size = group.atom.size
    common = None if group.kind == "heads" else options.divisor
    divisor = next((step for pattern, step in options.divisors if fnmatch(group.name, pattern)), common)
    choices = _asked(group.name, range(1, size + 1), options) or default_choices(group, divisor)
    return Dimension(group.name, group.kind, size, choices)


def _of_kernel(kernel: Kernel, options: Options) -> Dimension:
    allowed = range(kernel.smallest, kernel.size + 1, 2)
    return Dimension(kernel.name, "kernel", kernel.size, _asked(kernel.name, allowed, options) or kernel.choices)


def _of_block(name: str, options: Options) -> Dimension:
    if any(name == pattern for pattern, _ in options.choices):
        raise UsageError(f"{name} is a block: it is there or skipped", fix="leave it out of `choices`")
    return Dimension(name, "depth", 1, (0, 1))


def _asked(name: str, allowed: range, options: Options) -> tuple[int, ...] | None:
    """The sizes the user wants for a dimension: larger ones than it has drop out, since a pattern names several."""
    asked = next((sizes for pattern, sizes in options.choices if fnmatch(name, pattern)), None)
    if asked is None:
        return None
    full = allowed[-1]
    within = {size for size in asked if size <= full}
    if not within or not within.issubset(allowed):
        step = "" if allowed.step == 1 else f" in steps of {allowed.step}"
        raise UsageError(
            f"{name} cannot have the choices {', '.join(map(str, asked))}",
            why=f"it takes {allowed[0]} to {full}{step}",
            fix="pass other sizes in `choices`",
        )
    return tuple(sorted({*within, full}))


def _check_patterns(patterns: Iterable[str], names: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.4) or names[:3]
            raise UsageError(
                f"the pattern {pattern!r} matches no dimension of the network",
                why=f"the nearest are {', '.join(near)}" if near else "nothing in this network is elastic",
                fix="take names, or patterns on them, from net.space.dimensions of elastic() without options",
            )
