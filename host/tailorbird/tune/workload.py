"""What kernels have in common: the pattern in which the main block of one reads its tensors, and its loops' lengths.

    float32 SSSSRRR i0,i1~i4,i2~i5,i6 i4,i5,i6,i3 window=3x3 stride=2x2        a convolution, NHWC x HWIO

S are loops over outputs, R reductions. `i1~i4` is a window that slides: loop 4 inside, loop 1 outside, by `stride`.
Kernels of one pattern take each other's schedules; `relaxations` drop first the stride, then the window. This is finer
than the operator's name (Transfer-Tuning, Gibson and Cano 2022) and knows no operator by name.
"""

from __future__ import annotations

import importlib
import re
from typing import Any

from tailorbird.compile.tvm.api import Module, tvm
from tailorbird.compile.tvm.target import compiler
from tailorbird.tune.kernels import ms, workload_key
from tailorbird.types.schedule import Workload

_WINDOW, _STRIDE = " window=", " stride="
_SLIDING = re.compile(r"(i\d+)(?: \* (\d+))? \+ (i\d+)(?: \* (\d+))?")


def describe(mod: Module, name: str = "") -> Workload:
    """A kernel as the store knows it, without its module's text."""
    pattern, shape = _pattern(mod)
    flops = float(tvm.s_tir.analysis.estimate_tir_flops(mod))
    return Workload(workload_key(mod), anchor_key(mod), pattern, shape, flops, name, compiler=compiler())


def anchor_key(mod: Module) -> str:
    """Structural hash of the main block alone, "" for a kernel without reductions."""
    if _main_block(mod) is None:
        return ""
    blocks = ms.database.MemoryDatabase(module_equality="anchor-block")
    return hex(int(blocks.commit_workload(mod).as_json()[0]))


def relaxations(pattern: str) -> tuple[str, ...]:
    """Beginnings of patterns to look for donors under: the same one, any stride, any window."""
    return (pattern, pattern.partition(_STRIDE)[0] + _STRIDE, pattern.partition(_WINDOW)[0] + _WINDOW)


def _main_block(mod: Module) -> Any:
    ffi: Any = importlib.import_module("tvm_ffi")
    return ffi.get_global_func("s_tir.analysis.find_anchor_sblock")(mod)


def _pattern(mod: Module) -> tuple[str, tuple[int, ...]]:
    block = _main_block(mod)
    if block is None:  # elementwise: the block that writes the output
        schedule = tvm.s_tir.Schedule(mod)
        block = schedule.get(schedule.get_child_blocks(schedule.get_sblock("root"))[-1])
    names = {str(loop.var.name): f"i{index}" for index, loop in enumerate(block.iter_vars)}
    kinds = "".join("S" if int(loop.iter_type) == 0 else "R" for loop in block.iter_vars)
    shape = tuple(int(loop.dom.extent) for loop in block.iter_vars)
    windows: dict[str, str] = {}
    reads = []
    for read in block.reads:
        indices = [_index(str(part.min), names, windows) for part in read.region]
        reads.append(",".join(indices))
    window = "x".join(str(shape[int(inner[1:])]) for inner in windows)
    stride = "x".join(windows.values())
    dtype = str(block.reads[0].source.dtype) if len(block.reads) else "none"
    return f"{dtype} {kinds} {' '.join(reads)}{_WINDOW}{window}{_STRIDE}{stride}", shape


def _index(text: str, names: dict[str, str], windows: dict[str, str]) -> str:
    """One index of a read, loops numbered; a sliding window is noted with its stride (and dilation, if any)."""
    plain = re.sub(r"T\.int\d+\((-?\d+)\)", r"\1", text)
    plain = re.sub(r"[A-Za-z_]\w*", lambda word: names.get(word[0], word[0]), plain)
    found = _SLIDING.fullmatch(plain)
    if found is None:
        return plain.replace(" ", "")
    outer, stride, inner, dilation = found.groups()
    windows[inner] = (stride or "1") + (f"/{dilation}" if dilation else "")
    return f"{outer}~{inner}"
