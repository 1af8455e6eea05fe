"""Run a compiled module on the host, for verification. In a child process: machine code just made may crash."""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tailorbird.compile.base import Built
from tailorbird.compile.tvm.target import runtime_library
from tailorbird.errors import CompileError, VerifyError

_SCRIPT = Path(__file__).with_name("child.py")


def runner(built: Built) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """A function from inputs to outputs, both in the order of the module's signature.

    Raises CompileError for a module the host's CPU cannot run; the function raises VerifyError when the module crashes.
    """
    if built.target.machine != platform.machine():
        raise CompileError(
            f"a module for {built.target.triple} cannot run on this {platform.machine()} host",
            fix="verify it on the device",
        )
    library = runtime_library(built.target.triple)

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        with tempfile.TemporaryDirectory(prefix="tailorbird-verify-") as folder:
            root = Path(folder)
            (root / "module.so").write_bytes(built.module)
            np.savez(root / "inputs.npz", *inputs)
            command = [sys.executable, str(_SCRIPT), str(library), folder]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise VerifyError(
                    f"the compiled module ended its process with {done.returncode}",
                    why=done.stderr.strip()[-400:],
                    fix="compile for the litert runtime, and report the model",
                )
            with np.load(root / "outputs.npz") as outputs:
                return [outputs[name] for name in outputs.files]

    return run
