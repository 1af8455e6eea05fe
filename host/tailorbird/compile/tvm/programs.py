"""The kernels of a prepared module, as TVM fused them, described by their own text.

Two kernels are one when their texts are, names of variables apart. What is left of a text when all numbers are taken
out is its program; the numbers tell kernels of one program apart, and follow a SuperNet's sizes from subnet to subnet.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from tailorbird.compile.tvm.api import Module, relax, tvm
from tailorbird.types import TensorProgram

_TOKEN = re.compile(r"(?P<number>\d+(?:\.\d+)?(?:e[+-]?\d+)?)|(?P<word>[A-Za-z_][\w]*)|(?P<rest>\s+|.)")
_BUFFER = re.compile(r"T\.Buffer\(\((.*?)\), \"")
_EXTENT = re.compile(r"\b\d+\b")
_COUNTER = re.compile(r"(?<=[a-z])\d+(?=_|$)")  # conv2d4_add1: TVM counts equal names, conv2d itself stays
_KEPT = frozenset({"T", "I", "for", "in", "with", "if", "else", "and", "or", "not", "while", "True", "False", "def"})
_DATATYPE = re.compile(r"(?:u?int|float|bfloat)\d+|bool|handle")


@dataclass(frozen=True, slots=True)
class KernelCall:
    """One call of a kernel in a network: the function's name in the module, its description, the function itself."""

    function: str
    program: TensorProgram
    body: Any


def kernel_calls(prepared: Module) -> tuple[KernelCall, ...]:
    """Kernels of a prepared module (pipeline.prepare) in execution order, with repetitions."""
    described: dict[str, KernelCall] = {}
    calls: list[KernelCall] = []

    def visit(expression: Any) -> None:
        if not isinstance(expression, relax.Call) or str(getattr(expression.op, "name", "")) != "relax.call_tir":
            return
        variable = expression.args[0]
        name = str(variable.name_hint)
        if name not in described:
            body = prepared[variable]
            described[name] = KernelCall(name, describe(name, body), body)
        calls.append(described[name])

    for function in prepared.functions.values():
        if isinstance(function, relax.Function):
            for block in function.body.blocks:
                for binding in block.bindings:
                    visit(binding.value)
    return tuple(calls)


def describe(name: str, body: Any) -> TensorProgram:
    """Program and numbers of a PrimFunc on buffers."""
    text = str(tvm.IRModule({"main": body}).script(show_meta=False))
    text = text[text.index("def main(") :]
    signature = text[: text.index(":\n")]
    ranks = tuple(len(_EXTENT.findall(shape)) for shape in _BUFFER.findall(signature))
    words: dict[str, str] = {}
    numbers: list[int] = []
    parts: list[str] = []
    qualified = False
    for token in _TOKEN.finditer(text):
        if token["number"] is not None:
            value = float(token["number"])
            if value.is_integer():
                numbers.append(int(value))
                parts.append("#")
            else:
                parts.append(token["number"])
        elif token["word"] is not None and not qualified and not _is_fixed(token["word"]):
            parts.append(words.setdefault(token["word"], f"v{len(words)}"))
        else:
            parts.append(token[0])
        qualified = token[0] == "."
    digest = hashlib.sha256("".join(parts).encode()).hexdigest()[:16]
    return TensorProgram(_COUNTER.sub("", name.removeprefix("fused_")), digest, ranks, tuple(numbers))


def _is_fixed(word: str) -> bool:
    return word in _KEPT or _DATATYPE.fullmatch(word) is not None
