"""Shared memory for tensors: a sealed memfd cut into slots, each with room for one request's inputs and outputs.

Both sides compute the same layout from the tensor signatures. Tensors start on 64-byte borders, which compiled kernels
rely on. The file is sealed against resizing, so a worker cannot pull memory away under the daemon.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from tailorbird_agent.worker.plan import TensorSpec

ALIGNMENT_BYTES = 64
MAX_SLOTS = 64
MIN_SLOTS = 4
#: Memory that full slots may take in all, unless MIN_SLOTS alone need more; pages never used are never allocated.
_BUDGET_BYTES = 64 * 1024 * 1024


class Source(Protocol):
    """A tensor that lies elsewhere: size_bytes that can be copied into a buffer."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor."""
        ...

    def read_into(self, target: memoryview) -> None:
        """Copy it; whatever it raises is the caller's business."""
        ...


#: One tensor, as bytes or where to get them.
Tensor: TypeAlias = bytes | memoryview | Source


def tensor_bytes(tensor: Tensor) -> int:
    """Its size."""
    return memoryview(tensor).nbytes if isinstance(tensor, bytes | memoryview) else tensor.size_bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """Where tensors lie: per slot the (start, size) of each input and output in bytes, relative to the slot's start."""

    inputs: tuple[tuple[int, int], ...]
    outputs: tuple[tuple[int, int], ...]
    slot_bytes: int
    slots: int

    @classmethod
    def of(cls, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Layout:
        """Layout for these signatures, with as many slots as the memory budget allows."""
        spans: list[tuple[int, int]] = []
        start = 0
        for spec in (*inputs, *outputs):
            spans.append((start, spec.size_bytes))
            start += -(-spec.size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        slot_bytes = max(-(-start // mmap.PAGESIZE), 1) * mmap.PAGESIZE
        slots = min(MAX_SLOTS, max(MIN_SLOTS, _BUDGET_BYTES // slot_bytes))
        return cls(tuple(spans[: len(inputs)]), tuple(spans[len(inputs) :]), slot_bytes, slots)

    @property
    def size_bytes(self) -> int:
        """Size of the whole arena."""
        return self.slot_bytes * self.slots


class Arena:
    """The daemon's view: create, write inputs, read outputs."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.descriptor = os.memfd_create("tailorbird-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.descriptor, layout.size_bytes)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, seals)
            self._memory = mmap.mmap(self.descriptor, layout.size_bytes)
        except OSError:
            os.close(self.descriptor)
            raise

    def write(self, slot: int, inputs: Sequence[Tensor]) -> None:
        """Copy the inputs into a slot; each must have exactly the size of its tensor."""
        base = slot * self.layout.slot_bytes
        for (start, size), data in zip(self.layout.inputs, inputs, strict=True):
            if isinstance(data, bytes | memoryview):
                self._memory[base + start : base + start + size] = data
            else:
                with memoryview(self._memory)[base + start : base + start + size] as target:
                    data.read_into(target)

    def read(self, slot: int) -> tuple[bytes, ...]:
        """Copy the outputs out of a slot."""
        base = slot * self.layout.slot_bytes
        return tuple(self._memory[base + start : base + start + size] for start, size in self.layout.outputs)

    def close(self) -> None:
        """Release the memory; a worker that still maps it keeps its own mapping."""
        self._memory.close()
        os.close(self.descriptor)
