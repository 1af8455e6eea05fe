"""Golden tensors: real inputs and torch's answers, as safetensors blobs the agent checks every rung against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from tailorbird.errors import BundleError

#: One example: tensors by name.
Tensors = Mapping[str, NDArray[np.generic]]


def pack_golden(prefix: str, examples: Sequence[Tensors]) -> bytes:
    """Examples as one blob with tensors `<prefix>.<k>.<name>`; equal examples give equal bytes."""
    return save(
        {
            f"{prefix}.{index}.{name}": np.ascontiguousarray(array)
            for index, example in enumerate(examples)
            for name, array in example.items()
        }
    )


def unpack_golden(prefix: str, blob: bytes) -> list[dict[str, NDArray[np.generic]]]:
    """Inverse of pack_golden. Raises BundleError when the blob is no such file."""
    examples: dict[int, dict[str, NDArray[np.generic]]] = {}
    try:
        for key, array in load(blob).items():
            index, name = key.removeprefix(f"{prefix}.").split(".", 1)
            examples.setdefault(int(index), {})[name] = array
    except Exception as cause:  # safetensors raises a class of its own that it does not export
        raise BundleError("a golden blob cannot be read", why=str(cause), fix="pack the bundle again") from cause
    return [examples[index] for index in sorted(examples)]
