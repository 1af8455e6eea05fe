"""Dimension algebra: every tensor axis is a sum of products of atoms.

An *atom* is one set of indices that is kept or dropped together (the channels of a layer, the heads of an attention).
A *segment* is a product of atoms, outermost first (row-major: `[heads][head_dim]`). A *dim* is a sum of segments
(a concatenation). Two axes that must agree are *unified*; that may refine an atom into a product (a reshape), a sum
(a concatenation) or another atom (a residual add), in the manner of union-find.

Invariant: what contradicts or cannot be expressed is pinned at its full size, with the reason; it is never guessed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Pin:
    """Why an atom keeps its full size: the op that asked for it, a sentence, the line of the user's code."""

    op: str
    reason: str
    line: str = field(default="", compare=False)


class Atom:
    """One index set of `size` entries. Compared by identity; a refined atom forwards to its `definition`."""

    __slots__ = ("batch", "definition", "pin", "size", "whole")

    def __init__(self, size: int, pin: Pin | None = None, *, batch: bool = False, whole: bool = False) -> None:
        self.size = size
        self.pin = pin
        self.batch = batch
        self.whole = whole  # stands for a concatenation that cannot be told apart, and so cannot be cut
        self.definition: Dim | None = None

    def __repr__(self) -> str:
        return f"{'batch' if self.batch else self.size}{'!' if self.pin else ''}"


Segment = tuple[Atom, ...]
Dim = tuple[Segment, ...]
Dims = tuple[Dim, ...]

UNIT: Dim = ((),)
FIXED = Pin("", "a constant of the model")


def atom_dim(atom: Atom) -> Dim:
    """The dim of a single atom."""
    return ((atom,),)


def segment_size(segment: Segment) -> int:
    """Number of indices of a product."""
    return math.prod(atom.size for atom in segment)


def dim_size(dim: Dim) -> int:
    """Number of indices at full size."""
    return sum(map(segment_size, dim))


def resolve(dim: Dim) -> Dim:
    """Normal form: every atom replaced by its definition, sums outermost, atoms of size 1 dropped."""
    return tuple(segment for outer in dim for segment in _resolve_segment(outer))


def _resolve_segment(segment: Segment) -> list[Segment]:
    parts: list[Segment] = [()]
    for atom in segment:
        if atom.size == 1:
            continue
        if atom.definition is None:
            parts = [(*part, atom) for part in parts]
            continue
        inner = resolve(atom.definition)
        copies = _copies(parts)
        if len(inner) == 1:
            parts = [part + inner[0] for part in parts]
        elif copies is not None:
            parts = list(inner) * copies
        else:
            opaque = _opaque(inner)
            atom.definition = atom_dim(opaque)
            parts = [(*part, opaque) for part in parts]
    return parts


_MOST_COPIES = 64


def _copies(outer: Sequence[Segment]) -> int | None:
    """How often a concatenation inside the product with `outer` repeats; None when that is elastic, or too often.

    Of a product with a fixed outer axis each index is a copy: n x (a + b) = a + b + a + b ...
    """
    atoms = list(itertools.chain.from_iterable(outer))
    count = sum(map(segment_size, outer))
    fixed = all(atom.pin is not None and not atom.batch for atom in atoms)
    return count if fixed and count <= _MOST_COPIES else None


def _opaque(concatenation: Dim) -> Atom:
    """One pinned atom for a concatenation inside a product with an elastic axis, which is no sum of products."""
    pin(concatenation, Pin("reshape", "a concatenation ends up inside a product of axes"))
    return Atom(dim_size(concatenation), next(iter_atoms(concatenation), Atom(1, FIXED)).pin, whole=True)


def iter_atoms(dim: Dim) -> Iterator[Atom]:
    """All atoms of a resolved dim, in order."""
    return itertools.chain.from_iterable(dim)


def pin(dim: Dim, why: Pin) -> None:
    """Fix every atom of `dim` at its full size. The first reason given to an atom is kept."""
    for atom in iter_atoms(resolve(dim)):
        if atom.pin is None:
            atom.pin = why


def is_pinned(dim: Dim) -> bool:
    """Whether no atom of `dim` can change."""
    return all(atom.pin is not None for atom in iter_atoms(resolve(dim)))


def same(left: Dim, right: Dim) -> bool:
    """Whether two dims are made of the same atoms in the same order."""
    return resolve(left) == resolve(right)


@dataclass(frozen=True, slots=True)
class Extent:
    """A size that may follow the batch: constant + per_batch * batch."""

    constant: int
    per_batch: int = 0

    def at(self, batch: int) -> int:
        """The size for a given batch."""
        return self.constant + self.per_batch * batch


def extent(dim: Dim, sizes: Mapping[Atom, int]) -> Extent:
    """Size of a resolved dim when the atoms in `sizes` are cut down; all others count in full."""
    constant = per_batch = 0
    for segment in dim:
        size, batched = 1, False
        for atom in segment:
            if atom.batch:
                batched = True
            else:
                size *= sizes.get(atom, atom.size)
        if batched:
            per_batch += size
        else:
            constant += size
    return Extent(constant, per_batch)


class Algebra:
    """The operations that refine atoms. `batch_conflict` says why the batch cannot be re-derived, if it cannot."""

    def __init__(self) -> None:
        self.batch_conflict: Pin | None = None

    def conflict(self, why: Pin, *dims: Dim) -> None:
        """Pin dims that cannot be reconciled; a batch axis among them loses its freedom, too."""
        for dim in dims:
            if any(atom.batch for atom in iter_atoms(resolve(dim))):
                self.batch_conflict = self.batch_conflict or why
            pin(dim, why)

    def unify(self, left: Dim, right: Dim, why: Pin) -> None:
        """Make two axes keep the same indices. `why` becomes the reason if they cannot."""
        left, right = resolve(left), resolve(right)
        if left == right:
            return
        if dim_size(left) != dim_size(right):
            self.conflict(why, left, right)
        elif len(left) == 1 and len(left[0]) == 1:
            self._define(left[0][0], right, why)
        elif len(right) == 1 and len(right[0]) == 1:
            self._define(right[0][0], left, why)
        elif len(left) == len(right) == 1:
            self._unify_products(left[0], right[0], why)
        else:
            self._unify_sums(left, right, why)

    def _define(self, atom: Atom, dim: Dim, why: Pin) -> None:
        if atom.batch or any(other.batch for other in iter_atoms(dim)):
            self.conflict(why, atom_dim(atom), dim)
            return
        if atom.pin is not None:
            pin(dim, atom.pin)
        atom.definition = dim

    def _unify_products(self, left: Segment, right: Segment, why: Pin) -> None:
        mine, other = list(left), list(right)
        while mine and other:
            a, b = mine[0], other[0]
            if a.definition is not None or b.definition is not None:  # refined by an earlier round of this loop
                now = (resolve((tuple(mine),)), resolve((tuple(other),)))
                if len(now[0]) == len(now[1]) == 1:
                    mine, other = list(now[0][0]), list(now[1][0])
                    continue
                self.unify(*now, why)
                return
            if a is b:
                mine, other = mine[1:], other[1:]
            elif a.size == b.size:
                self._define(a, atom_dim(b), why)
                mine, other = mine[1:], other[1:]
            elif b.size % a.size == 0 and not b.batch:
                other = [*factor_atom(b, (a.size, b.size // a.size)), *other[1:]]
            elif a.size % b.size == 0 and not a.batch:
                mine = [*factor_atom(a, (b.size, a.size // b.size)), *mine[1:]]
            else:
                self.conflict(why, (tuple(mine),), (tuple(other),))
                return

    def _unify_sums(self, left: Dim, right: Dim, why: Pin) -> None:
        ends_left = list(itertools.accumulate(map(segment_size, left)))
        ends_right = list(itertools.accumulate(map(segment_size, right)))
        if ends_left == ends_right:
            for mine, other in zip(left, right, strict=True):
                self.unify((mine,), (other,), why)
            return
        points = sorted({*ends_left, *ends_right})
        if self.cut(left, points) and self.cut(right, points):
            self.unify(left, right, why)
        else:
            self.conflict(why, left, right)

    def cut(self, dim: Dim, points: Sequence[int]) -> bool:
        """Refine `dim` so that it has a segment border at every point. False when a product does not divide there."""
        offset, index = 0, 0
        while index < len(segments := resolve(dim)):  # resolved anew: an atom may occur in several segments
            segment = segments[index]
            size = segment_size(segment)
            inside = [point - offset for point in points if offset < point < offset + size]
            if inside:
                outer, inner = segment[0], segment_size(segment[1:])
                if outer.batch or outer.whole:
                    return False
                # A point within one index of the outer axis singles that index out; the next round cuts inside it.
                whole = {border for point in inside for border in (point // inner, -(-point // inner))}
                borders = sorted(whole | {0, outer.size})
                if borders == [0, outer.size]:
                    return False
                outer.definition = tuple((Atom(end - start, outer.pin),) for start, end in itertools.pairwise(borders))
                continue
            offset, index = offset + size, index + 1
        return True

    def pieces(self, dim: Dim, sizes: Sequence[int]) -> tuple[Dim, ...] | None:
        """Cut `dim` into consecutive dims of the given sizes; None when it cannot be cut there."""
        if not self.cut(dim, list(itertools.accumulate(sizes))):
            return None
        segments = list(resolve(dim))
        found: list[Dim] = []
        for size in sizes:
            taken: list[Segment] = []
            while sum(map(segment_size, taken)) < size:
                taken.append(segments.pop(0))
            found.append(tuple(taken))
        return tuple(found)

    def product(self, dims: Sequence[Dim]) -> Dim | None:
        """Row-major product of axes (a reshape that merges them); None when the batch keeps it from being one.

        A concatenation inside the product repeats where the outer axes are fixed; otherwise it is pinned whole.
        """
        merged: Dim = UNIT
        for dim in map(resolve, dims):
            copies = _copies(merged)
            if len(dim) == 1:
                merged = tuple(segment + dim[0] for segment in merged)
            elif copies is not None:
                merged = dim * copies
            elif any(atom.batch for atom in iter_atoms(dim)):
                return None
            else:
                opaque = _opaque(dim)
                merged = tuple((*segment, opaque) for segment in merged)
        return merged

    def factor(self, dim: Dim, sizes: Sequence[int], why: Pin) -> list[Dim] | None:
        """Split one axis into a row-major product of axes of the given sizes; None when the sizes do not divide it."""
        if len(sizes) == 1:
            return [dim]
        inner = math.prod(sizes[1:])
        outer: list[Segment] = []
        rest: Dim | None = None
        segments = list(resolve(dim))
        while segments:
            first: Segment = ()
            within: Dim | None
            if segment_size(segments[0]) < inner:  # a run of segments is one index of the outer axis
                run = _run(segments, inner)
                within = run
            else:
                current = resolve((segments[0],))
                run = (segments[0],)
                first, within = _split_segment(current[0], inner) if len(current) == 1 else ((), None)
            if within is None or run is None:
                return None
            segments = segments[len(run) :]
            outer.append(first)
            if rest is None:
                rest = within
            else:
                self.unify(rest, within, why)
        if rest is None:
            return None
        head: Dim = tuple(outer)
        if len(head) > 1 and all(segment_size(segment) == 1 for segment in head):
            head = atom_dim(Atom(len(head), FIXED))
        tail = self.factor(rest, sizes[1:], why)
        return None if tail is None else [head, *tail]


def factor_atom(atom: Atom, sizes: Sequence[int]) -> Segment:
    """Refine one atom into a product of new atoms."""
    parts = tuple(Atom(size, atom.pin) for size in sizes)
    atom.definition = (parts,)
    return parts


def _run(segments: Sequence[Segment], size: int) -> Dim | None:
    """The leading segments that together have `size` indices; None when a border does not fall there."""
    ends = list(itertools.accumulate(map(segment_size, segments)))
    return tuple(segments[: ends.index(size) + 1]) if size in ends else None


def _split_segment(segment: Segment, inner: int) -> tuple[Segment, Dim | None]:
    """Split a product so that its right part has `inner` indices, factoring one atom if it must; None if it cannot."""
    right: Segment = ()
    left = segment
    need = inner
    while need > 1:
        if not left:
            return (), None
        last = left[-1]
        if need % last.size == 0:
            left, right, need = left[:-1], (last, *right), need // last.size
        elif last.size % need == 0 and not last.batch:
            outer, within = factor_atom(last, (last.size // need, need))
            left, right, need = (*left[:-1], outer), (within, *right), 1
        else:
            return (), None
    return left, (right,)
