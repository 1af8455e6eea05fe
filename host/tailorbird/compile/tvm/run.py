"""Run a compiled module on the host, for verification. In a child process: machine code just made may crash."""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tailorbird.compile.base import Built
from tailorbird.compile.tvm.target import runtime_library
from tailorbird.errors import CompileError, VerifyError

_SCRIPT = Path(__file__).with_name("child.py")


def run(built: Built, batches: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
    """Outputs for each tuple of inputs, both in the order of the module's signature.

    Raises:
        CompileError: the module is for another CPU than the host's.
        VerifyError: the module crashed.
    """
    if built.target.machine != platform.machine():
        raise CompileError(
            f"a module for {built.target.triple} cannot run on this {platform.machine()} host",
            fix="verify it on the device",
        )
    library = runtime_library(built.target.triple)
    with tempfile.TemporaryDirectory(prefix="tailorbird-verify-") as folder:
        root = Path(folder)
        (root / "module.so").write_bytes(built.module)
        for index, batch in enumerate(batches):
            np.savez(root / f"inputs{index}.npz", *batch)
        command = [sys.executable, str(_SCRIPT), str(library), folder, str(len(batches))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise VerifyError(
                f"the compiled module ended its process with {done.returncode}",
                why=done.stderr.strip()[-400:],
                fix="compile for the litert runtime, and report the model",
            )
        return [_stored(root / f"outputs{index}.npz") for index in range(len(batches))]


def _stored(path: Path) -> list[np.ndarray]:
    with np.load(path) as arrays:
        return [arrays[name] for name in arrays.files]
