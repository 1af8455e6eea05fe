"""Machine code in pieces: a kernel is compiled once, then linked wherever it is called.

The virtual machine finds kernels by name in its library, so a network's own code (instructions and weights) does not
depend on how its kernels were compiled. Linking a network takes a fiftieth of the time that compiling its kernels takes
again, and a kernel timed alone is the very code that runs in the networks.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.api import Module, relax, tvm
from tailorbird.compile.tvm.pipeline import link, lower_calls
from tailorbird.compile.tvm.target import linker, tvm_target
from tailorbird.errors import CompileError

#: What TVM puts before the name of an exported function.
_PREFIX = "__tvm_ffi_"
_IDLE = "tailorbird_idle"


def kernel_object(mod: Module, symbol: str, target: CompileTarget) -> bytes:
    """Compile a (scheduled) kernel to an object file that exports it as `symbol`. Raises CompileError."""
    body = next(iter(mod.functions.values())).with_attr("global_symbol", symbol)
    try:
        compiled = tvm.driver.build(tvm.IRModule({symbol: body}), target=tvm_target(target))
    except Exception as error:
        raise CompileError("TVM failed to compile a kernel", why=str(error).strip().splitlines()[-1]) from error
    (code,) = _objects(compiled)
    return code


def network_objects(prepared: Module, target: CompileTarget) -> tuple[bytes, ...]:
    """Instructions and weights of a prepared network as object files, its kernels left out. Raises CompileError."""
    machine: Any = importlib.import_module("tvm.relax.vm_build")
    unit = tvm_target(target)
    with unit:
        try:
            lowered = lower_calls(prepared)
            builder = relax.ExecBuilder()
            machine._vmcodegen(builder, lowered, "bytecode")  # noqa: SLF001  (the two halves of relax.build)
            executable = machine._vmlink(builder=builder, target=unit, tir_mod=_idle_kernel())  # noqa: SLF001
        except Exception as error:
            raise CompileError("TVM failed to compile the network", why=str(error).strip().splitlines()[-1]) from error
    return tuple(_objects(executable))


def link_kernel(code: Path, symbol: str, target: CompileTarget) -> bytes:
    """A library whose `main` is the kernel. Raises CompileError, EnvironmentFaultError."""
    return _library([code], {"main": symbol}, target)


def link_network(objects: Sequence[bytes], kernels: Mapping[str, tuple[str, Path]], target: CompileTarget) -> bytes:
    """A library with a network. kernels: of each function of the prepared module, its symbol and object file.

    Raises CompileError, EnvironmentFaultError.
    """
    with tempfile.TemporaryDirectory(prefix="tailorbird-link-") as folder:
        own = [Path(folder) / f"network{index}.o" for index in range(len(objects))]
        for path, code in zip(own, objects, strict=True):
            path.write_bytes(code)
        files = dict.fromkeys(path for _, path in kernels.values())
        return _library([*own, *files], {name: symbol for name, (symbol, _) in kernels.items()}, target)


def _library(files: Sequence[Path], names: Mapping[str, str], target: CompileTarget) -> bytes:
    """Link; each of `names` is another name for a symbol in the files."""
    options = [f"-Wl,--defsym={_PREFIX}{name}={_PREFIX}{symbol}" for name, symbol in names.items()]
    with tempfile.TemporaryDirectory(prefix="tailorbird-link-") as folder:
        output = Path(folder) / "module.so"
        link(linker(target), str(output), [str(path) for path in files], options)
        return output.read_bytes()


class _Collect:
    """What export_library calls with object files: they are kept, nothing is linked."""

    object_format = "o"

    def __init__(self) -> None:
        self.files: list[bytes] = []

    def __call__(self, output: str, objects: list[str], **_: object) -> None:
        self.files = [Path(path).read_bytes() for path in objects]
        Path(output).touch()


def _objects(compiled: Any) -> list[bytes]:
    collect = _Collect()
    with tempfile.TemporaryDirectory(prefix="tailorbird-export-") as folder:
        compiled.export_library(str(Path(folder) / "module.so"), workspace_dir=folder, fcompile=collect)
    return collect.files


def _idle_kernel() -> Module:
    """A kernel nobody calls: without any, the library would not count as one that has kernels."""
    te: Any = importlib.import_module("tvm.te")
    source = te.placeholder((1,), name="source")
    copy = te.compute((1,), lambda index: source[index], name="copy")
    return tvm.IRModule({_IDLE: te.create_prim_func([source, copy]).with_attr("global_symbol", _IDLE)})
