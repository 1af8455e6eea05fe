"""What /proc/cpuinfo says of the CPU: model, LLVM name, instruction-set features."""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird_agent.hardware.llvm import arm_core, arm_cpu, x86_cpu
from tailorbird_agent.hardware.number import decimal, hexadecimal, whole
from tailorbird_agent.hardware.tree import Tree


@dataclass(frozen=True, slots=True)
class Cpu:
    """model is for people, llvm_cpu for compilers ("" when unknown), features are those that all cores have, sorted."""

    model: str
    llvm_cpu: str
    features: tuple[str, ...]


def read_cpu(tree: Tree) -> Cpu:
    """Identify the CPU; "unknown" and empty values where the kernel does not tell."""
    blocks = _blocks(tree.text("/proc/cpuinfo") or "")
    flags = [set(block[key].lower().split()) for block in blocks for key in ("flags", "Features") if key in block]
    features = set.intersection(*flags) if flags else set[str]()
    first = blocks[0] if blocks else {}
    parts = tuple(
        dict.fromkeys(
            (implementer, part)
            for implementer, part in (
                (hexadecimal(block.get("CPU implementer")), hexadecimal(block.get("CPU part"))) for block in blocks
            )
            if implementer is not None and part is not None
        )
    )
    if parts:
        return Cpu(" + ".join(arm_core(*part)[1] for part in parts), arm_cpu(parts), tuple(sorted(features)))
    model = first.get("model name") or first.get("uarch") or first.get("cpu model") or "unknown"
    llvm_cpu = ""
    if "vendor_id" in first:
        family, number = whole(first.get("cpu family")), whole(first.get("model"))
        llvm_cpu = x86_cpu(first["vendor_id"], family or 0, number or 0, frozenset(features))
    return Cpu(model, llvm_cpu, tuple(sorted(features)))


def clocks_hz(tree: Tree) -> dict[int, float]:
    """Current clock per core as /proc/cpuinfo gives it (x86 only); the file's own zero means unknown."""
    clocks = {}
    for block in _blocks(tree.text("/proc/cpuinfo") or ""):
        core, megahertz = whole(block["processor"]), decimal(block.get("cpu MHz"))
        if core is not None and megahertz:
            clocks[core] = megahertz * 1e6
    return clocks


def _blocks(text: str) -> list[dict[str, str]]:
    """One dictionary per processor; the trailing block of ARM kernels (Hardware, Model) is kept out."""
    blocks = []
    for paragraph in text.split("\n\n"):
        fields = (line.partition(":") for line in paragraph.splitlines())
        block = {key.strip(): value.strip() for key, colon, value in fields if colon}
        if "processor" in block:
            blocks.append(block)
    return blocks
