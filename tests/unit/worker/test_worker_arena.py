"""Shared memory: tensors do not overlap, are aligned, and cannot be pulled away."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird_agent.worker.arena import ALIGNMENT_BYTES, MAX_SLOTS, MIN_SLOTS, Arena, Layout
from tailorbird_agent.worker.plan import TensorSpec

specs = st.lists(
    st.builds(
        TensorSpec,
        st.just("t"),
        st.sampled_from(["FP32", "INT64", "BOOL", "FP16"]),
        st.lists(st.integers(0, 50), max_size=3).map(tuple),
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(specs, specs)
def test_tensors_are_aligned_inside_their_slot_and_apart(inputs: list[TensorSpec], outputs: list[TensorSpec]) -> None:
    layout = Layout.of(inputs, outputs)
    spans = [*layout.inputs, *layout.outputs]
    assert [size for _, size in spans] == [spec.size_bytes for spec in (*inputs, *outputs)]
    assert all(start % ALIGNMENT_BYTES == 0 for start, _ in spans)
    assert layout.slot_bytes % ALIGNMENT_BYTES == 0
    ends = [start + size for start, size in spans]
    assert all(end <= following for end, (following, _) in zip(ends, spans[1:], strict=False))
    assert ends[-1] <= layout.slot_bytes
    assert MIN_SLOTS <= layout.slots <= MAX_SLOTS


def test_large_tensors_get_fewer_slots_but_enough_to_keep_a_worker_busy() -> None:
    small, large = TensorSpec("x", "FP32", (1, 256)), TensorSpec("x", "FP32", (64, 3, 224, 224))
    assert Layout.of([small], [small]).slots == MAX_SLOTS
    assert Layout.of([large], [small]).slots == MIN_SLOTS


def test_what_is_written_to_one_slot_is_not_seen_in_another() -> None:
    spec = TensorSpec("x", "UINT8", (5000,))
    arena = Arena(Layout.of([spec], [spec]))
    try:
        arena.write(0, [b"\1" * 5000])
        arena.write(1, [memoryview(bytes(b"\2" * 5000))])
        (start, size), slot_bytes = arena.layout.inputs[0], arena.layout.slot_bytes
        assert os.pread(arena.descriptor, size, start) == b"\1" * 5000
        assert os.pread(arena.descriptor, size, slot_bytes + start) == b"\2" * 5000
        assert arena.read(0) == (b"\0" * 5000,)
    finally:
        arena.close()


@pytest.mark.parametrize("change", [-4096, 4096])
def test_nobody_can_resize_the_memory_under_the_daemon(change: int) -> None:
    arena = Arena(Layout.of([TensorSpec("x", "FP32", (4,))], []))
    try:
        with pytest.raises(PermissionError):
            os.ftruncate(arena.descriptor, arena.layout.size_bytes + change)
    finally:
        arena.close()
