"""Whether a device can run what is compiled for a target, asked before anything is sent there."""

from __future__ import annotations

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.isa import kernel_names
from tailorbird.compile.tvm.target import tvm_target
from tailorbird.errors import CompileError
from tailorbird.types import DeviceCard


def code_features(target: CompileTarget) -> tuple[str, ...]:
    """CPU features that code for a target may use, in the kernel's names. Raises CompileError for an unknown CPU."""
    from tailorbird.compile.tvm.api import tvm

    llvm = {str(name) for name in tvm.target.codegen.llvm_get_cpu_features(tvm_target(target))}
    return kernel_names(target.machine, llvm)


def require_fit(target: CompileTarget, card: DeviceCard) -> None:
    """Refuse a device that code for the target would crash on. A card without any features accuses nobody.

    Raises CompileError: another architecture, a missing CPU feature, too few cores.
    """
    what = f"{card.name} cannot run what is compiled for {target.llvm_cpu or target.triple}"
    if card.triple != target.triple:
        raise CompileError(
            what,
            why=f"it is {card.triple}, not {target.triple}",
            fix="tune it by itself, or put devices of one kind into a class",
            reason="INCOMPATIBLE_TRIPLE",
        )
    missing = sorted(set(code_features(target)) - set(card.isa_features)) if card.isa_features else []
    if missing:
        raise CompileError(
            what,
            why=f"its CPU lacks {', '.join(missing)}",
            fix=f"compile for {card.llvm_cpu or 'its own CPU'}, or leave it out of the class",
            reason="INCOMPATIBLE_FEATURES",
        )
    if target.threads > card.cores:
        raise CompileError(
            what,
            why=f"it has {card.cores} cores, the kernels use {target.threads} threads",
            fix=f"ask for at most {card.cores} threads",
            reason="INCOMPATIBLE_CORES",
        )
