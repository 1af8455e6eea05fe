"""Origin: the line of the user's code that an op or an error comes from, and the user's module that ran it."""

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
_PACKAGES = re.compile(r"^.*/(site|dist)-packages/")


def error_origin(error: BaseException) -> str:
    """`file:line in function: code` of the innermost user frame an error passed through; empty when there is none."""
    for cause in _chain(error):
        for frame in reversed(traceback.extract_tb(cause.__traceback__)):
            if _is_the_users(frame.filename):
                return _text(frame.filename, frame.lineno or 0, frame.name)
    return ""


def node_origin(node: Node) -> str:
    """`file:line in function: code` of the line that made a node; empty when it is not known."""
    frame = _innermost(node)
    return _text(frame["file"], int(frame["line"]), frame["function"]) if frame else ""


def line_of(node: Node) -> str:
    """`file:line` of the line that made a node; empty when it is not known.

    A file of an installed package is named from its package on: `timm/models/resnet.py:146`.
    """
    frame = _innermost(node)
    return f"{_PACKAGES.sub('', frame['file'])}:{frame['line']}" if frame else ""


def modules_of(node: Node) -> tuple[tuple[str, str], ...]:
    """(dotted path, class name) of the modules that were running when a node was made, outermost first.

    The root module is left out; a second call of one module counts as the same module.
    """
    found = []
    for path, kind in (node.meta.get("nn_module_stack") or {}).values():
        name = kind if isinstance(kind, str) else kind.__qualname__
        if path:
            found.append((str(path).partition("@")[0], name.rpartition(".")[2]))
    return tuple(found)


def _innermost(node: Node) -> re.Match[str] | None:
    """The innermost frame of the user's that made a node."""
    frames = reversed(list(_FRAME.finditer(node.meta.get("stack_trace") or "")))
    return next((frame for frame in frames if _is_the_users(frame["file"])), None)


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
