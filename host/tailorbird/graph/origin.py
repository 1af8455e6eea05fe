"""Origin: the line of the user's code that an op or an error comes from."""

from __future__ import annotations

import linecache
import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.fx import Node

_NEVER = tuple(f"{path}/" for path in (Path(torch.__file__).resolve().parent, Path(__file__).resolve().parents[1]))
_STANDARD = f"{sysconfig.get_paths()['stdlib']}/"
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')


def error_origin(error: BaseException) -> str:
    """`file:line in function: code` of the innermost user frame an error passed through; empty when there is none."""
    for cause in _chain(error):
        for frame in reversed(traceback.extract_tb(cause.__traceback__)):
            if _is_the_users(frame.filename):
                return _text(frame.filename, frame.lineno or 0, frame.name)
    return ""


def node_origin(node: Node) -> str:
    """`file:line in function: code` of the line that made a node; empty when it is not known."""
    for frame in reversed(list(_FRAME.finditer(node.meta.get("stack_trace") or ""))):
        if _is_the_users(frame["file"]):
            return _text(frame["file"], int(frame["line"]), frame["function"])
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what caused it, the first cause first."""
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or current.__context__
    return reversed(found)


def _is_the_users(file: str) -> bool:
    if file.startswith(("<", *_NEVER)):
        return False
    return "/site-packages/" in file or not file.startswith(_STANDARD)


def _text(file: str, line: int, function: str) -> str:
    code = linecache.getline(file, line).strip()
    return f"{file}:{line} in {function}" + (f": {code}" if code else "")
