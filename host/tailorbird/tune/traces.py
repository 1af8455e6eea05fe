"""MetaSchedule's traces as plain JSON: [instructions, [[index of an instruction, its decision], ...]]. Needs no TVM."""

from __future__ import annotations

import json
from typing import Any


def cut(trace: Any) -> str:
    """A trace as JSON text without its postprocessing, which is derived and done again at each replay.

    Raises ValueError for what is no trace.
    """
    if not (isinstance(trace, list) and len(trace) == 2 and all(isinstance(part, list) for part in trace)):
        raise ValueError("not a trace: two lists are expected")
    instructions, decisions = trace
    end = next((i for i, instruction in enumerate(instructions) if instruction[0] == "EnterPostproc"), None)
    kept = [instructions[:end], [pair for pair in decisions if end is None or pair[0] < end]]
    return json.dumps(kept, separators=(",", ":"))


def decisions_in(trace_json: str) -> list[Any]:
    """The decisions of a stored trace, in order."""
    return [decision for _, decision in json.loads(trace_json)[1]]
