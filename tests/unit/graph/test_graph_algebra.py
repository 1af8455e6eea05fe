from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird.graph.algebra import (
    FIXED,
    Algebra,
    Atom,
    Dim,
    Pin,
    atom_dim,
    dim_size,
    extent,
    is_pinned,
    pin,
    resolve,
    same,
)

WHY = Pin("test", "a test says so")


def indices(dim: Dim, kept: dict[Atom, list[int]]) -> list[int]:
    """Brute force: the indices of an axis that remain when atoms keep some of theirs."""
    found, offset = [], 0
    for segment in resolve(dim):
        here = [0]
        for atom in segment:
            here = [i * atom.size + k for i in here for k in kept.get(atom, range(atom.size))]
        found += [offset + i for i in here]
        offset += math.prod(atom.size for atom in segment)
    return found


def test_unified_atoms_are_one() -> None:
    a, b = atom_dim(Atom(8)), atom_dim(Atom(8))
    Algebra().unify(a, b, WHY)
    assert same(a, b)


def test_a_product_refines_the_atom_it_meets() -> None:
    heads, each, whole = Atom(4), Atom(8), Atom(32)
    Algebra().unify(atom_dim(whole), ((heads, each),), WHY)
    assert resolve(atom_dim(whole)) == ((heads, each),)


def test_sums_are_cut_at_all_borders() -> None:
    left = (*atom_dim(Atom(4)), *atom_dim(Atom(12)))
    right = (*atom_dim(Atom(10)), *atom_dim(Atom(6)))
    Algebra().unify(left, right, WHY)
    assert same(left, right)
    assert [sum(a.size for a in s) for s in resolve(left)] == [4, 6, 6]
    assert not is_pinned(left)


def test_products_that_do_not_divide_are_pinned_with_the_reason() -> None:
    left, right = ((Atom(4), Atom(6)),), ((Atom(3), Atom(8)),)
    Algebra().unify(left, right, WHY)
    assert is_pinned(left)
    assert is_pinned(right)
    assert resolve(left)[0][0].pin == WHY


def test_sizes_that_differ_are_pinned() -> None:
    left, right = atom_dim(Atom(4)), atom_dim(Atom(5))
    Algebra().unify(left, right, WHY)
    assert is_pinned(left)
    assert is_pinned(right)


def test_a_pin_spreads_over_what_is_unified_later() -> None:
    fixed, free = atom_dim(Atom(8, WHY)), atom_dim(Atom(8))
    Algebra().unify(fixed, free, Pin("other", ""))
    assert is_pinned(free)
    assert resolve(free)[0][0].pin == WHY


def test_a_concatenation_inside_a_product_is_pinned_whole() -> None:
    inner = Atom(6)
    parts = (*atom_dim(Atom(2)), *atom_dim(Atom(4)))
    product: Dim = ((Atom(3), inner),)
    Algebra().unify(atom_dim(inner), parts, WHY)
    assert dim_size(resolve(product)) == 18
    assert is_pinned(atom_dim(inner))
    assert is_pinned(parts)


def test_the_batch_is_never_merged_with_a_constant() -> None:
    algebra, batch = Algebra(), Atom(131, FIXED, batch=True)
    algebra.unify(atom_dim(batch), atom_dim(Atom(131)), WHY)
    assert algebra.batch_conflict == WHY


def test_extent_separates_constant_and_batch() -> None:
    batch, heads, each = Atom(131, FIXED, batch=True), Atom(4), Atom(8)
    assert extent(((batch, heads),), {heads: 3}).at(7) == 21
    assert extent(((heads, each), (each,)), {heads: 2}).at(7) == 24


def test_stacked_equal_parts_become_a_fixed_outer_factor() -> None:
    algebra = Algebra()
    stacked = (*atom_dim(Atom(6)), *atom_dim(Atom(6)))
    factors = algebra.factor(stacked, (2, 6), WHY)
    assert factors is not None
    outer, inner = factors
    assert is_pinned(outer)
    assert not is_pinned(inner)
    assert resolve(stacked) == (*resolve(inner), *resolve(inner))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 4), min_size=2, max_size=4),
    data=st.data(),
)
def test_a_reshape_keeps_row_major_order_under_any_keep_sets(sizes: list[int], data: st.DataObject) -> None:
    algebra = Algebra()
    atoms = [Atom(size) for size in sizes]
    merged = algebra.product([atom_dim(atom) for atom in atoms])
    assert merged is not None
    border = data.draw(st.integers(1, len(sizes) - 1))
    split = algebra.factor(merged, (math.prod(sizes[:border]), math.prod(sizes[border:])), WHY)
    assert split is not None
    kept = {
        atom: sorted(data.draw(st.sets(st.integers(0, atom.size - 1), min_size=1), label=repr(atom))) for atom in atoms
    }
    inner = dim_size(split[1])
    outer_kept, inner_kept = indices(split[0], kept), indices(split[1], kept)
    assert indices(merged, kept) == [o * inner + i for o in outer_kept for i in inner_kept]


@settings(max_examples=60, deadline=None)
@given(
    left=st.lists(st.integers(1, 6), min_size=1, max_size=4), right=st.lists(st.integers(1, 6), min_size=1, max_size=4)
)
def test_unifying_concatenations_agrees_or_pins(left: list[int], right: list[int]) -> None:
    a: Dim = tuple((Atom(size),) for size in left)
    b: Dim = tuple((Atom(size),) for size in right)
    Algebra().unify(a, b, WHY)
    assert same(a, b) or (is_pinned(a) and is_pinned(b))
    assert dim_size(resolve(a)) == sum(left)
    if sum(left) == sum(right):
        assert same(a, b)


def test_a_reason_once_given_is_kept() -> None:
    dim = atom_dim(Atom(3))
    pin(dim, WHY)
    pin(dim, Pin("later", "another"))
    assert resolve(dim)[0][0].pin == WHY
