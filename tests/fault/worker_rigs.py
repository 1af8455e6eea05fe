"""A one-rung plan, shared libraries that misbehave, and a way to wait for a process's end."""

from __future__ import annotations

import os
import select
import subprocess
from importlib import metadata
from pathlib import Path

import numpy as np

from tailorbird_agent.runtimes import tensorfile
from tailorbird_agent.runtimes.reference import Step, save
from tailorbird_agent.worker.plan import RungPlan, ServePlan, TensorSpec

TVM_RUNTIME = Path(metadata.distribution("apache-tvm").locate_file("tvm/lib/libtvm_runtime.so"))
REQUEST = np.ones((1, 8), np.float32).tobytes()


def make_plan(folder: Path, *, runtime: str = "reference", module: Path | None = None) -> ServePlan:
    """y = x + 1; module replaces the reference module by one of another runtime."""
    x = np.ones((1, 8), np.float32)
    tensorfile.write(folder / "inputs", {"input.0.x": x})
    tensorfile.write(folder / "golden", {"output.0.y": x + 1})
    save(folder / "module", [Step("add", ("input.0", "one"), "output.0")], {"one": np.ones(1, np.float32)})
    spec = ("FP32", (1, 8))
    rung = RungPlan(
        "r0", runtime, module or folder / "module", (), 1, 0.9, 10.0, folder / "golden", 1e-5, memory_bytes=1 << 20
    )
    libraries = (("tvm", TVM_RUNTIME),)
    inputs, outputs = (TensorSpec("x", *spec),), (TensorSpec("y", *spec),)
    return ServePlan("toy", inputs, outputs, (rung,), folder / "inputs", libraries, "static-large", None)


def build_library(folder: Path, name: str, body: str) -> Path:
    """Compile a shared library whose constructor has this body: loading it is enough to be hurt."""
    source = folder / f"{name}.c"
    source.write_text(
        "#include <stdlib.h>\n#include <signal.h>\n#include <unistd.h>\n"
        f"__attribute__((constructor)) static void enter(void) {{ {body} }}\n"
    )
    library = folder / name  # without a suffix, as a blob
    subprocess.run(["gcc", "-O0", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def wait_for_end(pid: int, timeout_s: float = 20.0) -> bool:
    """Whether the process, a child or not, ended in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)
