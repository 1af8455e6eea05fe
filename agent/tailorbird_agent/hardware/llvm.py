"""Names by which LLVM knows this device: triple and CPU.

A CPU name promises instructions. A virtual machine may hide some that its model number implies, so an x86 name is given
only if the kernel reports all vector and bit-manipulation features that LLVM would use for it; otherwise the highest
x86-64 feature level that holds.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence

from tailorbird_agent.hardware.tree import Tree

_V2 = frozenset(["cx16", "lahf_lm", "popcnt", "pni", "ssse3", "sse4_1", "sse4_2"])
_V3 = _V2 | frozenset(["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"])
_V4 = _V3 | frozenset(["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"])
_LEVELS = (("x86-64-v4", _V4), ("x86-64-v3", _V3), ("x86-64-v2", _V2))

_AES = frozenset(["aes", "pclmulqdq"])
_ICELAKE = frozenset(
    [
        "avx512ifma",
        "avx512vbmi",
        "avx512_vbmi2",
        "avx512_vnni",
        "avx512_bitalg",
        "avx512_vpopcntdq",
        "gfni",
        "vaes",
        "vpclmulqdq",
        "sha_ni",
        "adx",
    ]
)
_ZNVER1 = _V3 | _AES | frozenset(["adx", "sha_ni", "sse4a"])
_ZNVER3 = _ZNVER1 | frozenset(["vaes", "vpclmulqdq"])
_ZNVER4 = _ZNVER3 | _V4 | _ICELAKE | {"avx512_bf16"}
_SKYLAKE = _V3 | _AES | {"adx"}
_SKX = _V4 | _SKYLAKE
_ICX = _SKX | _ICELAKE
_SPR = _ICX | frozenset(["avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"])
_ADL = _SKYLAKE | frozenset(["avx_vnni", "gfni", "vaes", "vpclmulqdq", "sha_ni"])
_SILVERMONT = _V2 | _AES | {"movbe"}
_GOLDMONT = _SILVERMONT | {"sha_ni"}

_REQUIRED: dict[str, frozenset[str]] = {
    "znver1": _ZNVER1,
    "znver2": _ZNVER1,
    "znver3": _ZNVER3,
    "znver4": _ZNVER4,
    "znver5": _ZNVER4 | frozenset(["avx_vnni", "avx512_vp2intersect", "movdiri", "movdir64b"]),
    "haswell": _V3 | _AES,
    "broadwell": _SKYLAKE,
    "skylake": _SKYLAKE,
    "skylake-avx512": _SKX,
    "cascadelake": _SKX | {"avx512_vnni"},
    "cooperlake": _SKX | {"avx512_vnni", "avx512_bf16"},
    "icelake-client": _ICX,
    "icelake-server": _ICX,
    "tigerlake": _ICX | {"avx512_vp2intersect"},
    "rocketlake": _ICX,
    "sapphirerapids": _SPR,
    "emeraldrapids": _SPR,
    "alderlake": _ADL,
    "gracemont": _ADL,
    "tremont": _GOLDMONT | {"gfni"},
    "goldmont": _GOLDMONT,
    "silvermont": _SILVERMONT,
}

# Model numbers of Intel's family 6, from LLVM's own host detection; steppings of one model are told apart by features.
_INTEL: tuple[tuple[frozenset[int], tuple[str, ...]], ...] = (
    (frozenset({0x3C, 0x3F, 0x45, 0x46}), ("haswell",)),
    (frozenset({0x3D, 0x47, 0x4F, 0x56}), ("broadwell",)),
    (frozenset({0x4E, 0x5E, 0x8E, 0x9E, 0xA5, 0xA6}), ("skylake",)),
    (frozenset({0x55}), ("cooperlake", "cascadelake", "skylake-avx512")),
    (frozenset({0x6A, 0x6C}), ("icelake-server",)),
    (frozenset({0x7D, 0x7E}), ("icelake-client",)),
    (frozenset({0x8C, 0x8D}), ("tigerlake",)),
    (frozenset({0xA7}), ("rocketlake",)),
    (frozenset({0x8F}), ("sapphirerapids",)),
    (frozenset({0xCF}), ("emeraldrapids",)),
    (frozenset({0x97, 0x9A, 0xB7, 0xBA, 0xBF}), ("alderlake",)),
    (frozenset({0xBE}), ("gracemont",)),
    (frozenset({0x86, 0x8A, 0x96, 0x9C}), ("tremont",)),
    (frozenset({0x5C, 0x5F, 0x7A}), ("goldmont",)),
    (frozenset({0x37, 0x4A, 0x4C, 0x4D, 0x5A, 0x5D}), ("silvermont",)),
)

# (implementer, part) of the MIDR register -> (LLVM name, name for people). Cores of one chip rank by this order, the
# least capable first.
_ARM: dict[tuple[int, int], tuple[str, str]] = {
    (0x41, 0xB76): ("arm1176jzf-s", "ARM1176"),
    (0x41, 0xC05): ("cortex-a5", "Cortex-A5"),
    (0x41, 0xC08): ("cortex-a8", "Cortex-A8"),
    (0x41, 0xC09): ("cortex-a9", "Cortex-A9"),
    (0x41, 0xC07): ("cortex-a7", "Cortex-A7"),
    (0x41, 0xC0D): ("cortex-a12", "Cortex-A12"),
    (0x41, 0xC0F): ("cortex-a15", "Cortex-A15"),
    (0x41, 0xC0E): ("cortex-a17", "Cortex-A17"),
    (0x41, 0xD01): ("cortex-a32", "Cortex-A32"),
    (0x41, 0xD04): ("cortex-a35", "Cortex-A35"),
    (0x41, 0xD03): ("cortex-a53", "Cortex-A53"),
    (0x41, 0xD07): ("cortex-a57", "Cortex-A57"),
    (0x41, 0xD08): ("cortex-a72", "Cortex-A72"),
    (0x41, 0xD09): ("cortex-a73", "Cortex-A73"),
    (0x41, 0xD05): ("cortex-a55", "Cortex-A55"),
    (0x41, 0xD0A): ("cortex-a75", "Cortex-A75"),
    (0x4E, 0x004): ("carmel", "NVIDIA Carmel"),
    (0x41, 0xD0B): ("cortex-a76", "Cortex-A76"),
    (0x41, 0xD0C): ("neoverse-n1", "Neoverse-N1"),
    (0x41, 0xD0D): ("cortex-a77", "Cortex-A77"),
    (0x41, 0xD41): ("cortex-a78", "Cortex-A78"),
    (0x41, 0xD42): ("cortex-a78ae", "Cortex-A78AE"),
    (0x41, 0xD4B): ("cortex-a78c", "Cortex-A78C"),
    (0x41, 0xD44): ("cortex-x1", "Cortex-X1"),
    (0x41, 0xD40): ("neoverse-v1", "Neoverse-V1"),
    (0x41, 0xD46): ("cortex-a510", "Cortex-A510"),
    (0x41, 0xD47): ("cortex-a710", "Cortex-A710"),
    (0x41, 0xD4D): ("cortex-a715", "Cortex-A715"),
    (0x41, 0xD48): ("cortex-x2", "Cortex-X2"),
    (0x41, 0xD4E): ("cortex-x3", "Cortex-X3"),
    (0x41, 0xD49): ("neoverse-n2", "Neoverse-N2"),
    (0x41, 0xD4F): ("neoverse-v2", "Neoverse-V2"),
    (0x41, 0xD80): ("cortex-a520", "Cortex-A520"),
    (0x41, 0xD81): ("cortex-a720", "Cortex-A720"),
}
_ARM_RANK = {part: rank for rank, part in enumerate(_ARM)}


def x86_cpu(vendor: str, family: int, model: int, flags: frozenset[str]) -> str:
    """LLVM's -mcpu for an x86-64 CPU: its microarchitecture if all its features are there, else its feature level."""
    candidates: tuple[str, ...] = ()
    if vendor == "AuthenticAMD":
        candidates = _amd(family, model)
    elif vendor == "GenuineIntel" and family == 6:
        candidates = next((names for models, names in _INTEL if model in models), ())
    for name in candidates:
        if _REQUIRED[name] <= flags:
            return name
    return next((level for level, required in _LEVELS if required <= flags), "x86-64")


def arm_core(implementer: int, part: int) -> tuple[str, str]:
    """LLVM's name ("" when unknown) and the name for people of one ARM core."""
    unknown = ("", f"ARM implementer {implementer:#04x} part {part:#05x}")
    return _ARM.get((implementer, part), unknown)


def arm_cpu(parts: Sequence[tuple[int, int]]) -> str:
    """LLVM's -mcpu for a chip with these cores: the least capable, so the code runs on all; "" if any is unknown."""
    if not parts or any(part not in _ARM for part in parts):
        return ""
    return _ARM[min(parts, key=_ARM_RANK.__getitem__)][0]


def user_machine() -> str:
    """uname -m as programs see it: a 32-bit system on a 64-bit kernel (common on Raspberry Pi) is armv7l."""
    machine = platform.machine()
    return "armv7l" if machine == "aarch64" and sys.maxsize <= 2**32 else machine


def libc(tree: Tree) -> str:
    """C library and version: `glibc 2.36`; `musl` without a version; "unknown" for others."""
    try:
        version = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        version = None
    if version:
        return version
    return "musl" if tree.names("/lib", "ld-musl-") else "unknown"


def triple(machine: str, libc_name: str) -> str:
    """LLVM triple of this user space."""
    environment = "musl" if libc_name.startswith("musl") else "gnu"
    return f"{machine}-linux-{environment}{'eabihf' if machine.startswith('armv') else ''}"


def _amd(family: int, model: int) -> tuple[str, ...]:
    if family == 0x1A:
        return ("znver5", "znver4")
    if family == 0x19:
        zen4 = 0x10 <= model <= 0x1F or 0x60 <= model <= 0x7F or 0xA0 <= model <= 0xAF
        return ("znver4", "znver3") if zen4 else ("znver3",)
    if family == 0x17:
        return ("znver2",) if model >= 0x30 else ("znver1",)
    return ()
