"""Times candidates in a child process that has the TVM runtime alone: what the agent does, without the agent."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tailorbird.compile.tvm.target import runtime_library
from tailorbird.types import DATATYPES, Candidate, Measurement, ModuleKind, TimingProtocol, Verdict

_CHILD = """
import sys, json, time, ctypes
sys.modules["torch"] = None
import numpy as np, tvm_ffi
ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL)
rng = np.random.default_rng(0)
def tensor(shape, dtype):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = np.empty(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    view = room[start:start + size].view(dtype).reshape(shape)
    view[...] = rng.standard_normal(shape)
    return tvm_ffi.from_dlpack(view)
for line in sys.stdin:
    job = json.loads(line)
    try:
        module = tvm_ffi.load_module(job["path"], keep_module_alive=False)
        arguments = [tensor(shape, dtype) for dtype, shape in job["args"]]
        if job["kind"] == "tvm-kernel":
            call = module["main"]
        else:
            machine = module["vm_load_executable"]()
            machine["vm_initialization"](1, 0, 2)
            call = machine["main"]
        call(*arguments)
        wall, cpu, begun = [], [], time.perf_counter()
        while True:
            w, c = time.perf_counter_ns(), time.thread_time_ns()
            call(*arguments)
            cpu.append((time.thread_time_ns() - c) / 1e3); wall.append((time.perf_counter_ns() - w) / 1e3)
            spent = time.perf_counter() - begun
            if (len(cpu) >= job["min_runs"] and spent >= job["min_seconds"]) or spent > job["max_seconds"]:
                break
        print(json.dumps({"wall": wall, "cpu": cpu}), flush=True)
    except Exception as error:
        print(json.dumps({"error": repr(error)[:300]}), flush=True)
"""


class LocalMeasure:
    """A `Measure` with one persistent child; a child that dies costs the candidate that killed it."""

    def __init__(self, triple: str = "x86_64-linux-gnu") -> None:
        self._library = str(runtime_library(triple))
        self._folder = tempfile.TemporaryDirectory()
        self._child: subprocess.Popen | None = None
        self._count = 0
        self.calls = 0

    def __call__(self, candidates: Sequence[Candidate], protocol: TimingProtocol) -> list[Measurement]:
        self.calls += 1
        return [self._one(candidate, protocol) for candidate in candidates]

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
        self._folder.cleanup()

    def _one(self, candidate: Candidate, protocol: TimingProtocol) -> Measurement:
        assert candidate.kind in {ModuleKind.TVM_KERNEL, ModuleKind.TVM_MODEL}
        if self._child is None:
            command = [sys.executable, "-c", _CHILD, self._library]
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        self._count += 1  # dlopen answers a path it knows with the old library, whatever the file holds now
        path = Path(self._folder.name) / f"candidate{self._count}.so"
        path.write_bytes(candidate.module)
        job = {
            "path": str(path),
            "kind": candidate.kind.value,
            "args": [(DATATYPES[spec.datatype][0], spec.shape) for spec in candidate.args],
            "min_runs": protocol.min_runs,
            "min_seconds": protocol.min_seconds,
            "max_seconds": protocol.max_seconds,
        }
        try:
            self._child.stdin.write(json.dumps(job) + "\n")
            self._child.stdin.flush()
            reply = json.loads(self._child.stdout.readline() or '{"error": "the measuring process died"}')
        except BrokenPipeError:
            reply = {"error": "the measuring process died"}
        if "error" in reply:
            if self._child.poll() is not None or "died" in reply["error"]:
                self._child.kill()
                self._child.communicate()
                self._child = None
            return Measurement(candidate.label, error=reply["error"])
        return Measurement(candidate.label, tuple(reply["wall"]), tuple(reply["cpu"]), Verdict.OK)
