"""CPU features that decide about machine code, by LLVM's name and by the kernel's (/proc/cpuinfo, which cards hold).

LLVM may use any feature of the CPU it is told to generate code for. Features of the operating system (virtualisation,
power) do not appear in code; of those that come with another one in the list only the other is here.
"""

from __future__ import annotations

#: (LLVM's name, the kernel's) by machine.
_FEATURES: dict[str, tuple[tuple[str, str], ...]] = {
    "x86_64": (
        ("ssse3", "ssse3"),
        ("sse4.1", "sse4_1"),
        ("sse4.2", "sse4_2"),
        ("popcnt", "popcnt"),
        ("movbe", "movbe"),
        ("avx", "avx"),
        ("f16c", "f16c"),
        ("fma", "fma"),
        ("avx2", "avx2"),
        ("bmi", "bmi1"),
        ("bmi2", "bmi2"),
        ("lzcnt", "abm"),
        ("avx512f", "avx512f"),
        ("avx512bw", "avx512bw"),
        ("avx512cd", "avx512cd"),
        ("avx512dq", "avx512dq"),
        ("avx512vl", "avx512vl"),
        ("avx512ifma", "avx512ifma"),
        ("avx512vbmi", "avx512vbmi"),
        ("avx512vbmi2", "avx512_vbmi2"),
        ("avx512vnni", "avx512_vnni"),
        ("avx512bitalg", "avx512_bitalg"),
        ("avx512vpopcntdq", "avx512_vpopcntdq"),
        ("avx512bf16", "avx512_bf16"),
        ("avx512fp16", "avx512_fp16"),
        ("avxvnni", "avx_vnni"),
        ("amx-tile", "amx_tile"),
        ("amx-int8", "amx_int8"),
        ("amx-bf16", "amx_bf16"),
    ),
    "aarch64": (
        ("neon", "asimd"),
        ("fullfp16", "fphp"),
        ("fullfp16", "asimdhp"),
        ("lse", "atomics"),
        ("rdm", "asimdrdm"),
        ("dotprod", "asimddp"),
        ("fp16fml", "asimdfhm"),
        ("i8mm", "i8mm"),
        ("bf16", "bf16"),
        ("sve", "sve"),
        ("sve2", "sve2"),
        ("sme", "sme"),
    ),
    "armv7l": (
        ("neon", "neon"),
        ("vfp3", "vfpv3"),
        ("vfp4", "vfpv4"),
        ("hwdiv-arm", "idiva"),
        ("hwdiv", "idivt"),
    ),
    "riscv64": (("v", "v"), ("zba", "zba"), ("zbb", "zbb"), ("zfh", "zfh"), ("zvfh", "zvfh")),
}
#: Enough to generate good code for an x86 whose name LLVM does not know.
_BASIC = frozenset({"sse4.1", "sse4.2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq"})


def code_names(machine: str) -> frozenset[str]:
    """The kernel's names of all features that code for a machine may use."""
    return frozenset(kernel for _, kernel in _FEATURES.get(machine, ()))


def kernel_names(machine: str, llvm: set[str]) -> tuple[str, ...]:
    """Features given by LLVM's names, by the kernel's, sorted."""
    return tuple(sorted(kernel for name, kernel in _FEATURES.get(machine, ()) if name in llvm))


def basic_llvm_names(machine: str, kernel: tuple[str, ...]) -> tuple[str, ...]:
    """Of a card's features, those that matter most to code, by LLVM's names; none for machines other than x86."""
    if machine != "x86_64":
        return ()
    return tuple(name for name, known in _FEATURES[machine] if name in _BASIC and known in kernel)
