"""The distinct kernels of a ladder's modules, written where the workers find them and described by them in parallel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailorbird.compile.tvm.pipeline import save
from tailorbird.tune.builders import Builders
from tailorbird.tune.kernels import argument_bytes, extract_kernels, workload_key
from tailorbird.tune.space import Choice, KernelSpace


@dataclass(frozen=True, slots=True)
class GatheredKernel:
    """A kernel by its structural hash; path: its module's file; calls: over one pass of all modules; bytes: of its
    arguments, which it has to move at least."""

    key: str
    name: str
    path: Path
    calls: int
    bytes: int


def distinct_kernels(modules: Sequence[Any], builders: Builders) -> list[GatheredKernel]:
    """Distinct kernels of prepared modules (compile.tvm.pipeline.prepare)."""
    found: dict[str, GatheredKernel] = {}
    for mod in modules:
        for name, kernel, calls in extract_kernels(mod, builders.target):
            key = workload_key(kernel)
            known = found[key].calls if key in found else 0
            path = kernel_file(builders, key, kernel)
            found[key] = GatheredKernel(key, name, path, known + calls, argument_bytes(kernel))
    return list(found.values())


def describe_spaces(kernels: Sequence[tuple[str, Path]], builders: Builders) -> list[KernelSpace | None]:
    """The open choices of each (name, module file); None for a kernel that MetaSchedule cannot describe."""
    futures = [builders.submit({"do": "describe", "kernel": str(path), "name": name}) for name, path in kernels]
    return [_space(name, future.result()) for (name, _), future in zip(kernels, futures, strict=True)]


def _space(name: str, reply: dict[str, Any]) -> KernelSpace | None:
    if "error" in reply:
        return None
    sketches = tuple(tuple(Choice(*choice) for choice in sketch) for sketch in reply["sketches"])
    return KernelSpace(name, reply["workload"], reply["kernel_class"], reply["flops"], sketches)


def kernel_file(builders: Builders, key: str, kernel: Any) -> Path:
    """Where the workers find a kernel's module."""
    path = builders.folder / f"kernel-{key}.json"
    if not path.exists():
        save(kernel, path)
    return path
