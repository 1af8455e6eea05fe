"""Which CPU features a device must have for code that was generated for another device of its kind.

The requirement is the card's features among those LLVM emits instructions of (compile.isa).
"""

from __future__ import annotations

from tailorbird.compile.isa import code_names
from tailorbird.types import DeviceCard


def needed_features(card: DeviceCard, runtimes: set[str]) -> tuple[str, ...]:
    """Sorted CPU features that modules compiled for this card may use.

    None when no module is native code (LiteRT's interpreter chooses its kernels on the device) or when the CPU is not
    known, because LLVM then generates for the triple's baseline.
    """
    if "tvm" not in runtimes or not card.llvm_cpu or card.llvm_cpu.startswith("generic"):
        return ()
    return tuple(sorted(code_names(card.machine) & set(card.isa_features)))
