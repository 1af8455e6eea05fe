"""From a captured network to a shared library.

    prepare        import, NHWC/HWIO layout, legalise, fuse: an Module whose PrimFuncs are the tunable kernels
    finish         apply schedules from a database, pack weights, lower, compile, link

Batch norm is folded before (compile.capture): TVM's own folding compiles a kernel per constant and takes seconds.
"""

from __future__ import annotations

import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.api import Module, relax, tvm
from tailorbird.compile.tvm.rewrite import fold_weight_layouts, split_clips
from tailorbird.compile.tvm.target import linker, tvm_target
from tailorbird.errors import CompileError

if TYPE_CHECKING:
    from tailorbird.compile.capture import Network

_LAYOUT = {"relax.nn.conv2d": ["NHWC", "HWIO"]}


def import_network(network: Network) -> Module:
    """Relax module of a captured network, weights bound as constants. Raises CompileError for operations TVM lacks."""
    from tvm.relax.frontend.torch import from_exported_program

    options: dict[str, Any] = {"keep_params_as_input": False, "unwrap_unit_return_tuple": True}
    try:
        return from_exported_program(network.program, run_ep_decomposition=False, **options)
    except Exception:  # an operation the importer knows only by its parts
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch's own, of its tree library
                return from_exported_program(network.program, **options)
        except Exception as error:
            raise CompileError(
                "TVM cannot import the network",
                why=str(error).strip().splitlines()[-1],
                fix="compile this model for the litert runtime",
            ) from error


def prepare(mod: Module, target: CompileTarget, *, pack_weights: bool = False) -> Module:
    """Legalise and fuse. The PrimFuncs of the result are the kernels that tuning schedules.

    pack_weights lets each schedule choose its own order of the weights. It is off because HWIO already is the order the
    vector loop reads: packing gained nothing on 3x3 kernels of 32 to 128 channels and 6 % on a wide 1x1, while it costs
    a second per rung to compile and makes weights differ between rungs that could share them.
    """
    passes = relax.transform
    with tvm_target(target):
        mod = tvm.transform.Sequential([passes.DecomposeOpsForInference(), passes.CanonicalizeBindings()])(mod)
        mod = fold_weight_layouts(split_clips(mod))
        if "relax.nn.conv2d" in _operators(mod):  # ConvertLayout ends in bad_alloc on networks without convolutions
            layout = [passes.ConvertLayout(_LAYOUT), passes.Normalize()]
            mod = fold_weight_layouts(tvm.transform.Sequential(layout)(mod))
        return tvm.transform.Sequential(
            [
                passes.FoldConstant(),
                passes.LegalizeOps(),
                passes.AnnotateTIROpPattern(),
                passes.FoldConstant(),
                passes.FuseOps(),
                passes.FuseTIR(),
                passes.DeadCodeElimination(),
                *([passes.AttachAttrLayoutFreeBuffers()] if pack_weights else []),
            ]
        )(mod)


def finish(prepared: Module, target: CompileTarget, database: Any = None) -> bytes:
    """Compile to a shared library's bytes, scheduling the kernels found in a MetaSchedule database.

    Raises: CompileError, or EnvironmentFaultError when no linker for the target is installed.
    """
    passes = relax.transform
    command = linker(target)
    machine = tvm_target(target)
    mod = prepared
    with machine:
        if database is not None:
            with database, tvm.transform.PassContext(opt_level=3):
                mod = passes.MetaScheduleApplyDatabase()(mod)
        if _packs_weights(mod):  # FoldConstant runs the packing
            mod = tvm.transform.Sequential([passes.SplitLayoutRewritePreproc(), passes.FoldConstant()])(mod)
        mod = lower_calls(mod)
        try:
            executable = relax.build(mod, target=machine, relax_pipeline=tvm.transform.Sequential([]))
        except Exception as error:
            raise CompileError("TVM failed to compile the network", why=str(error).strip().splitlines()[-1]) from error
    return export(executable, command)


def lower_calls(mod: Module) -> Module:
    """Memory planned, every call of a kernel an instruction of the virtual machine. Within the target's context."""
    passes = relax.transform
    return tvm.transform.Sequential(
        [
            passes.RewriteDataflowReshape(),
            passes.ToNonDataflow(),
            passes.RemovePurityChecking(),
            passes.CallTIRRewrite(),
            passes.StaticPlanBlockMemory(),
            passes.LowerAllocTensor(),
            passes.KillAfterLastUse(),
            passes.LowerRuntimeBuiltin(),
            passes.ComputePrimValue(),
            passes.VMShapeLower(),
            passes.AttachGlobalSymbol(),
        ]
    )(mod)


def export(compiled: Any, command: str) -> bytes:
    """Link a compiled module or executable with the given C compiler; returns the shared library's bytes."""
    with tempfile.TemporaryDirectory(prefix="tailorbird-link-") as folder:
        path = Path(folder) / "module.so"
        compiled.export_library(str(path), workspace_dir=folder, fcompile=_Link(command))
        return path.read_bytes()


def save(mod: Module, path: Path) -> None:
    """Write a module, constants included, for a worker process to load."""
    path.write_text(tvm.ir.save_json(mod), encoding="utf-8")


class _Link:
    """What export_library calls with object files. Only the linker runs: no C or C++ source is compiled."""

    object_format = "o"

    def __init__(self, command: str) -> None:
        self._command = command

    def __call__(self, output: str, objects: list[str], **_: object) -> None:
        link(self._command, output, objects)


def link(command: str, output: str, objects: Sequence[str], options: Sequence[str] = ()) -> None:
    """Link object files to a shared library with a C compiler. Raises CompileError."""
    arguments = [command, "-shared", "-fPIC", "-o", output, *objects, *options]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CompileError("linking failed", why=done.stderr.strip()[-400:], fix=f"check that {command} works")


def _packs_weights(mod: Module) -> bool:
    return any(
        function.attrs is not None and "layout_free_buffers" in function.attrs for function in mod.functions.values()
    )


def _operators(mod: Module) -> set[str]:
    names: set[str] = set()

    def visit(expression: Any) -> None:
        if isinstance(expression, relax.Call) and isinstance(expression.op, tvm.ir.Op):
            names.add(expression.op.name)

    for function in mod.functions.values():
        if isinstance(function, relax.Function):
            relax.analysis.post_order_visit(function, visit)
    return names
