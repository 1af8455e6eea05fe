"""Several candidates in one shared library: compiled together, linked and uploaded once. Used by worker processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.api import tvm
from tailorbird.compile.tvm.pipeline import export
from tailorbird.compile.tvm.target import linker, tvm_target
from tailorbird.tune.failure import words_of
from tailorbird.tune.kernels import Kernel


def build_library(schedules: Mapping[str, Any], target: CompileTarget) -> tuple[bytes, dict[str, str]]:
    """Compile scheduled kernels into one library, each under its name.

    Returns its bytes, b"" when nothing compiles, and the reason for each kernel that does not. When they do not compile
    together, each is tried alone, and those that pass are compiled together again.
    """
    functions = {name: _function(schedule, name) for name, schedule in schedules.items()}
    machine, link = tvm_target(target), linker(target)
    try:
        return _linked(functions, machine, link), {}
    except Exception as error:
        if len(functions) == 1:
            return b"", dict.fromkeys(functions, words_of(error))
    errors = {}
    for name, function in functions.items():
        try:
            tvm.driver.build(tvm.IRModule({name: function}), target=machine)
        except Exception as error:
            errors[name] = words_of(error)
    good = {name: function for name, function in functions.items() if name not in errors}
    return (_linked(good, machine, link) if good else b""), errors


def uniform_arguments(mod: Any) -> list[int]:
    """Positions of the arguments whose order of elements each schedule of a kernel may choose for itself."""
    function = mod["main"]
    if function.attrs is None or "layout_free_buffers" not in function.attrs:
        return []
    return [int(index) for index in function.attrs["layout_free_buffers"]]


def _function(schedule: Any, name: str) -> Any:
    return Kernel.stripped(schedule)["main"].with_attr("global_symbol", name)


def _linked(functions: Mapping[str, Any], machine: Any, link: str) -> bytes:
    return export(tvm.driver.build(tvm.IRModule(dict(functions)), target=machine), link)
