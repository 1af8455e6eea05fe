"""Which CPU features a device must have for code that was generated for another device of its kind.

LLVM may use any feature of the CPU it is told to generate code for, so the requirement is the card's features among
those LLVM emits instructions of. Features of the operating system (virtualisation, power) do not appear in code.
"""

from __future__ import annotations

from tailorbird.types import DeviceCard

#: Vector and bit-manipulation features, by machine, in the kernel's names (/proc/cpuinfo).
_CODE_GENERATION: dict[str, str] = {
    "x86_64": (
        "ssse3 sse4_1 sse4_2 popcnt movbe avx f16c fma avx2 bmi1 bmi2 abm lzcnt avx512f avx512bw avx512cd avx512dq "
        "avx512vl avx512ifma avx512vbmi avx512_vbmi2 avx512_vnni avx512_bitalg avx512_vpopcntdq avx512_bf16 "
        "avx512_fp16 avx_vnni amx_tile amx_int8 amx_bf16"
    ),
    "aarch64": "asimd fphp asimdhp atomics asimdrdm asimddp asimdfhm i8mm bf16 sve sve2 svei8mm svebf16 sme",
    "armv7l": "neon vfpv3 vfpv4 idiva idivt",
    "riscv64": "v zba zbb zfh zvfh",
}


def needed_features(card: DeviceCard, runtimes: set[str]) -> tuple[str, ...]:
    """Sorted CPU features that modules compiled for this card may use.

    None when no module is native code (LiteRT's interpreter chooses its kernels on the device) or when the CPU is not
    known, because LLVM then generates for the triple's baseline.
    """
    if "tvm" not in runtimes or not card.llvm_cpu or card.llvm_cpu.startswith("generic"):
        return ()
    return tuple(sorted(set(_CODE_GENERATION.get(card.machine, "").split()) & set(card.isa_features)))
