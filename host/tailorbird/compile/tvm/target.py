"""A device's CPU in TVM's words, and the compiler and runtime library that go with it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
from pathlib import Path
from typing import Any

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.isa import basic_llvm_names
from tailorbird.errors import CompileError, EnvironmentFaultError

#: What the agent must have installed to load our modules.
RUNTIME_DISTRIBUTION = "apache-tvm-ffi"


def tvm_target(target: CompileTarget) -> Any:
    """TVM's target for a device. Raises CompileError for a CPU that LLVM does not know."""
    from tailorbird.compile.tvm.api import tvm

    fields: dict[str, Any] = {"kind": "llvm", "mtriple": target.triple, "num-cores": target.threads}
    if target.llvm_cpu:
        fields["mcpu"] = target.llvm_cpu
    elif target.machine == "x86_64":
        fields["mattr"] = [f"+{name}" for name in basic_llvm_names(target.machine, target.isa_features)]
    if target.llvm_cpu and not tvm.target.codegen.llvm_is_valid_cpu(target.llvm_cpu, target.triple):
        raise CompileError(
            f"TVM cannot compile for the CPU {target.llvm_cpu} of {target.triple}",
            why="its LLVM does not know that name, and would compile for the oldest CPU instead",
            fix="correct `llvm_cpu` on the device's card, or leave it empty",
        )
    return tvm.target.Target(fields)


def compiler() -> str:
    """Name and release of the TVM installed here, as schedule records name it."""
    return f"apache-tvm {importlib.metadata.version('apache-tvm')}"


def linker(target: CompileTarget) -> str:
    """Path of the C compiler that links for a target. Raises EnvironmentFaultError when there is none."""
    names = [f"{target.triple}-gcc"]
    if target.machine == platform.machine():
        names = ["cc", "gcc", *names]
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    raise EnvironmentFaultError(
        f"no C compiler links for {target.triple}",
        why=f"none of {', '.join(names)} is installed",
        fix=f"apt-get install gcc-{target.triple.replace('x86_64', 'x86-64')}",
    )


def runtime_library(triple: str) -> Path:
    """libtvm_runtime.so for a triple, to be pushed to the agent. Raises CompileError where this host has none.

    Only the installed wheel is searched: it holds the library for the host's own CPU.
    """
    spec = importlib.util.find_spec("tvm")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = Path(next(iter(spec.submodule_search_locations))) / "lib" / "libtvm_runtime.so"
    if triple.partition("-")[0] != platform.machine() or not path.exists():
        machine = triple.partition("-")[0]
        raise CompileError(
            f"there is no libtvm_runtime.so for {triple} here",
            why=f"the installed apache-tvm is for {platform.machine()}",
            fix=(
                f"pip download apache-tvm=={importlib.metadata.version('apache-tvm')} --no-deps --only-binary=:all: "
                f"--platform manylinux_2_28_{machine}, unpack the wheel, and name its tvm/lib/libtvm_runtime.so"
            ),
        )
    return path
