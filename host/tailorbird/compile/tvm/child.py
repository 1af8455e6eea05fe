"""Child process of run.py: load a module with tvm_ffi and libtvm_runtime.so alone, run it on stored inputs.

    python child.py LIBTVM_RUNTIME FOLDER COUNT     reads module.so, inputs0.npz ...; writes outputs0.npz ...

Started by path, so nothing of tailorbird, torch or the TVM compiler is imported.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_CPU = 1  # DLPack device type
_POOLED = 2  # allocator kind of the Relax VM
_ALIGNMENT_BYTES = 64  # generated code loads whole vectors from its arguments; numpy aligns to 16 only


def main(library: str, folder: str, count: str) -> None:
    """Run FOLDER/module.so on COUNT tuples of inputs."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # tvm_ffi imports torch where it is installed: a second lost
    import numpy as np
    import tvm_ffi

    ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
    root = Path(folder)

    def aligned(value: np.ndarray) -> np.ndarray:
        room = np.empty(value.nbytes + _ALIGNMENT_BYTES, np.uint8)
        start = -room.ctypes.data % _ALIGNMENT_BYTES
        copy = room[start : start + value.nbytes].view(value.dtype).reshape(value.shape)
        copy[...] = value
        return copy

    machine = tvm_ffi.load_module(str(root / "module.so"))["vm_load_executable"]()
    machine["vm_initialization"](_CPU, 0, _POOLED)
    for index in range(int(count)):
        with np.load(root / f"inputs{index}.npz") as stored:
            inputs = [tvm_ffi.from_dlpack(aligned(stored[name])) for name in stored.files]
        result = machine["main"](*inputs)
        outputs = [result] if isinstance(result, tvm_ffi.Tensor) else list(result)
        np.savez(root / f"outputs{index}.npz", *[np.from_dlpack(output) for output in outputs])


if __name__ == "__main__":
    main(*sys.argv[1:])
