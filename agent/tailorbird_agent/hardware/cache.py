"""CPU caches as sysfs lists them; many ARM kernels list none."""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird_agent.hardware.number import whole
from tailorbird_agent.hardware.tree import CPUS, Tree, cpu_folders, cpu_list

_UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3}


@dataclass(frozen=True, slots=True)
class Cache:
    """One CPU cache: level 1-4, kind ("Data", "Instruction", "Unified"), size and how many cores share it."""

    level: int
    kind: str
    size_bytes: int
    shared_by: int


def read_caches(tree: Tree) -> tuple[Cache, ...]:
    """Each kind of cache once: equal caches of other cores are left out, those of other core types are not."""
    caches: set[Cache] = set()
    for cpu in cpu_folders(tree):
        for index in tree.names(f"{CPUS}/{cpu}/cache", "index"):
            folder = f"{CPUS}/{cpu}/cache/{index}"
            level, size = tree.integer(f"{folder}/level"), size_bytes(tree.text(f"{folder}/size"))
            if level is None or size is None:
                continue
            sharers = cpu_list(tree.text(f"{folder}/shared_cpu_list"))
            caches.add(Cache(level, tree.text(f"{folder}/type") or "Unified", size, max(1, len(sharers))))
    return tuple(sorted(caches, key=lambda cache: (cache.level, cache.kind, cache.size_bytes, cache.shared_by)))


def size_bytes(text: str | None) -> int | None:
    """Bytes of a kernel size such as 512K or 32M; None for anything else."""
    unit = _UNITS.get((text or "")[-1:])
    number = whole(text[:-1]) if text and unit else whole(text)
    return None if number is None or number < 0 else number * (unit or 1)
