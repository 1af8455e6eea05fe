"""Names of stored tensors that generated code can hold: user modules may be called `class` or `block1-0`."""

from __future__ import annotations

import keyword
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def attribute_path(name: str) -> str:
    """A dotted name as generated code can write it: `heads.class.weight` becomes `heads.class_.weight`."""
    return ".".join(f"{part}_" if keyword.iskeyword(part) else part for part in name.split("."))


def argument(number: int, name: str) -> str:
    """A name for an argument: `block1-0.weight` becomes `w7_block1_0_weight`; the number tells `a.b` from `a_b`."""
    return f"w{number}_" + re.sub(r"\W", "_", name)


def make_writable(program: ExportedProgram) -> dict[str, str]:
    """Rename what generated code cannot write in an exported program. Returns the user's names by the new ones."""
    renamed: dict[str, str] = {}
    for spec in program.graph_signature.input_specs:
        name = spec.target
        if name is None or attribute_path(name) == name:
            continue
        spec.target = attribute_path(name)
        renamed[spec.target] = name
        for held in (program.state_dict, program.constants):
            if name in held:
                held[spec.target] = held.pop(name)
    return renamed
