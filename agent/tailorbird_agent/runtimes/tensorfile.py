"""Tensor files in the safetensors format: 8 bytes of header length, a JSON header, raw data.

Golden inputs and outputs, parameters and reference modules are such files. Arrays are views of a private mapping:
nothing is read before it is used, and a runtime that insists on writable memory (DLPack) gets copy-on-write pages.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailorbird_agent.runtimes.base import Array, ModuleInvalidError

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1"}
_DTYPES |= {"U8": "|u1", "BOOL": "|b1"}
_WORDS = {np.dtype(code): word for word, code in _DTYPES.items()}
_ALIGNMENT_BYTES = 64


@dataclass(frozen=True, slots=True)
class TensorFile:
    """Tensors by name, in the order of their data, and the header's free-form metadata."""

    tensors: dict[str, Array]
    metadata: dict[str, str]


def read(path: Path) -> TensorFile:
    """Map a tensor file.

    Raises:
        ModuleInvalidError: it cannot be read, or is not a tensor file.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
        return TensorFile({name: _view(data, 8 + length, entry) for name, entry in entries}, metadata)
    except (
        OSError,
        ArithmeticError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
        struct.error,
    ) as error:
        raise ModuleInvalidError(f"{path.name} is not a tensor file: {error}") from error


def write(path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """Write a tensor file; data starts on a 64-byte border, tensors follow each other without gaps."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    start = 0
    for name, tensor in tensors.items():
        end = start + tensor.nbytes
        header[name] = {"dtype": _WORDS[tensor.dtype], "shape": tensor.shape, "data_offsets": (start, end)}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT_BYTES)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor).tobytes())


def _view(data: mmap.mmap, base: int, entry: Mapping[str, Any]) -> Array:
    start, end = entry["data_offsets"]
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    count = (end - start) // dtype.itemsize
    view: Array = np.frombuffer(data, dtype, count, base + start).reshape(entry["shape"])
    if view.nbytes != end - start:
        raise ValueError(f"a tensor of shape {entry['shape']} does not have {end - start} bytes")
    return view
