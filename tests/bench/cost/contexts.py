"""The devices that one x86 machine stands for."""

from __future__ import annotations

from dataclasses import dataclass

_AVX512 = frozenset(
    {f"avx512{part}" for part in ("f", "bw", "cd", "dq", "vl", "ifma", "vbmi")}
    | {f"avx512_{part}" for part in ("bf16", "bitalg", "vbmi2", "vnni", "vp2intersect", "vpopcntdq", "fp16")}
)
_AVX2 = frozenset({"avx", "avx2", "fma", "f16c", "avx_vnni", "vaes", "vpclmulqdq", "bmi1", "bmi2"})


@dataclass(frozen=True)
class Context:
    """A CPU as LLVM names it, the threads a kernel may use, and the instructions of this machine that it lacks."""

    llvm_cpu: str
    threads: int
    lacks: frozenset[str] = frozenset()


CONTEXTS = {
    "sse": Context("x86-64-v2", 1, _AVX512 | _AVX2),
    "avx2": Context("x86-64-v3", 1, _AVX512),
    "avx512": Context("x86-64-v4", 1),
    "avx512x2": Context("x86-64-v4", 2),
}
