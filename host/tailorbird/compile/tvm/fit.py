"""Whether a device can run what is compiled for a target, asked before anything is sent there."""

from __future__ import annotations

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.target import tvm_target
from tailorbird.errors import CompileError
from tailorbird.types import DeviceCard

#: Features of code, by LLVM's name and by the kernel's (/proc/cpuinfo). Those left out come with one of these.
_NAMES = {
    "x86_64": {
        "ssse3": "ssse3",
        "sse4.1": "sse4_1",
        "sse4.2": "sse4_2",
        "popcnt": "popcnt",
        "movbe": "movbe",
        "avx": "avx",
        "f16c": "f16c",
        "fma": "fma",
        "avx2": "avx2",
        "bmi": "bmi1",
        "bmi2": "bmi2",
        "lzcnt": "abm",
        "avx512f": "avx512f",
        "avx512bw": "avx512bw",
        "avx512cd": "avx512cd",
        "avx512dq": "avx512dq",
        "avx512vl": "avx512vl",
        "avx512ifma": "avx512ifma",
        "avx512vbmi": "avx512vbmi",
        "avx512vbmi2": "avx512_vbmi2",
        "avx512vnni": "avx512_vnni",
        "avx512bf16": "avx512_bf16",
        "avx512fp16": "avx512_fp16",
        "avxvnni": "avx_vnni",
        "amx-int8": "amx_int8",
        "amx-bf16": "amx_bf16",
    },
    "aarch64": {
        "neon": "asimd",
        "fullfp16": "asimdhp",
        "lse": "atomics",
        "rdm": "asimdrdm",
        "dotprod": "asimddp",
        "i8mm": "i8mm",
        "bf16": "bf16",
        "sve": "sve",
        "sve2": "sve2",
        "sme": "sme",
    },
}


def code_features(target: CompileTarget) -> tuple[str, ...]:
    """CPU features that code for a target may use, in the kernel's names. Raises CompileError for an unknown CPU."""
    from tailorbird.compile.tvm.api import tvm

    llvm = {str(name) for name in tvm.target.codegen.llvm_get_cpu_features(tvm_target(target))}
    return tuple(sorted(name for theirs, name in _NAMES.get(target.machine, {}).items() if theirs in llvm))


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
