"""TVM's Python modules as Any: most of their attributes are registered at run time and unknown to type checkers."""

from __future__ import annotations

import importlib
from typing import Any

tvm: Any = importlib.import_module("tvm")
relax: Any = importlib.import_module("tvm.relax")

Module = Any  # tvm.ir.IRModule
