"""Import MetaSchedule's tensor intrinsics in 0.2 s instead of 45 s.

`tvm.s_tir.tensor_intrin` decorates 248 TVMScript functions, and each decorator calls inspect.stack(), which looks for
the source of every frame in every loaded module (torch has thousands). Intrinsics of GPUs and DSPs are of no use to a
CPU compiler, and the script parser needs only the frames.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import types

_MODULE = "tvm.s_tir.tensor_intrin"
_NOT_FOR_CPUS = ("cuda", "rocm", "hexagon", "riscv_cpu", "metal")


def import_intrinsics() -> None:
    """Import the CPU's tensor intrinsics. To be called before anything of MetaSchedule."""
    if _MODULE in sys.modules:
        return
    for name in _NOT_FOR_CPUS:
        sys.modules.setdefault(f"{_MODULE}.{name}", types.ModuleType(f"{_MODULE}.{name}"))
    original = inspect.stack
    inspect.stack = _stack_without_source
    try:
        importlib.import_module(_MODULE)
    finally:
        inspect.stack = original


def _stack_without_source(context: int = 1) -> list[inspect.FrameInfo]:
    del context
    frame: types.FrameType | None = sys._getframe(1)  # noqa: SLF001
    frames = []
    while frame is not None:
        code = frame.f_code
        frames.append(inspect.FrameInfo(frame, code.co_filename, frame.f_lineno, code.co_name, None, None))
        frame = frame.f_back
    return frames
