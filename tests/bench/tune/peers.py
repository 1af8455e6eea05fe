"""Whole models in turns: one process for each runtime on one set of cores, asked one after the other for some calls.

The processes time themselves; while one runs the others wait for a line on their standard input.
"""

from __future__ import annotations

import io
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tailorbird.compile.tvm.target import runtime_library

_CHILD = """
import ctypes, json, os, sys, time
sys.modules["torch"] = None
import numpy as np
kind, module, data, library, threads = sys.argv[1], *sys.argv[2:5], int(sys.argv[5])
x = np.load(data)
if kind == "tvm":
    os.environ["TVM_NUM_THREADS"] = str(threads)
    import tvm_ffi
    ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
    machine = tvm_ffi.load_module(module)["vm_load_executable"]()
    machine["vm_initialization"](1, 0, 2)
    room = np.empty(x.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    aligned = room[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    aligned[...] = x
    tensor, main = tvm_ffi.from_dlpack(aligned), machine["main"]
    call = lambda: main(tensor)
    def answer():
        found = main(tensor)
        first = found[0] if hasattr(found, "__len__") and not hasattr(found, "__dlpack__") else found
        return np.from_dlpack(first)
elif kind == "litert":
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_path=module, num_threads=threads)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    call = interpreter.invoke
    def answer():
        call()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
else:
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(module, options, providers=["CPUExecutionProvider"])
    fed = {session.get_inputs()[0].name: x}
    call = lambda: session.run(None, fed)
    answer = lambda: call()[0]
print(json.dumps(np.asarray(answer(), np.float64).ravel().tolist()), flush=True)
for line in sys.stdin:
    wall, cpu, ends = [], [], time.process_time() + 0.5
    while len(wall) < int(line) and (not wall or time.process_time() < ends):
        w, c = time.perf_counter_ns(), time.process_time_ns()
        call()
        cpu.append((time.process_time_ns() - c) / 1e3); wall.append((time.perf_counter_ns() - w) / 1e3)
    print(json.dumps([wall, cpu]), flush=True)
"""
_SUFFIX = {"tvm": ".so", "litert": ".tflite", "onnx": ".onnx"}


@dataclass(frozen=True, slots=True)
class Timing:
    """A runtime on one model. us: the deciding times, on-CPU for one thread, wall for several; error: largest
    difference from torch relative to torch's largest value."""

    us: tuple[float, ...]
    error: float

    @property
    def median_us(self) -> float:
        """Median."""
        return statistics.median(self.us)

    @property
    def mad_us(self) -> float:
        """Median absolute deviation."""
        return statistics.median(abs(each - self.median_us) for each in self.us)


def onnx_of(module: nn.Module, x: torch.Tensor) -> bytes:
    """The network as ONNX Runtime reads it."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), stream, dynamo=False, verbose=False)
    return stream.getvalue()


def in_turns(
    builds: Mapping[str, tuple[str, bytes]],
    module: nn.Module,
    x: torch.Tensor,
    *,
    threads: int,
    rounds: int,
    calls: int,
) -> dict[str, Timing]:
    """Time builds, name -> (runtime, module), in `rounds` of `calls` each, in an order drawn anew each round.

    A slow build has fewer calls in a round: half a second of CPU time.
    """
    with torch.no_grad():
        want = module(x).double().numpy().ravel()
    cores = sorted(os.sched_getaffinity(0))[:threads]
    children: dict[str, subprocess.Popen[str]] = {}
    times: dict[str, list[float]] = {name: [] for name in builds}
    errors: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="tailorbird-bench-") as folder:
        data = Path(folder) / "x.npy"
        np.save(data, x.numpy())
        try:
            for name, (runtime, content) in builds.items():
                path = Path(folder) / f"{name}{_SUFFIX[runtime]}"
                path.write_bytes(content)
                library = str(runtime_library("x86_64-linux-gnu"))
                command = ["taskset", "-c", ",".join(map(str, cores)), sys.executable, "-c", _CHILD]
                children[name] = subprocess.Popen(
                    [*command, runtime, str(path), str(data), library, str(threads)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                got = np.array(json.loads(_line(children[name])))
                errors[name] = float(np.abs(got - want).max() / np.abs(want).max())
            draw = random.Random(0)
            for number in range(rounds + 1):  # the first one warms up
                for name in draw.sample(sorted(children), len(children)):
                    child = children[name]
                    assert child.stdin is not None
                    child.stdin.write(f"{calls}\n")
                    child.stdin.flush()
                    wall, cpu = json.loads(_line(child))
                    times[name] += (cpu if threads == 1 else wall) if number else []
        finally:
            for child in children.values():
                child.kill()
                child.communicate()
    return {name: Timing(tuple(times[name]), errors[name]) for name in builds}


def _line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise RuntimeError(f"a runtime ended with {child.wait()}")
    return line
