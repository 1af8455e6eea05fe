"""Threads of a pool that wait for work cost a measurement next to nothing, with the pools of the real runtimes."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from tailorbird_agent.worker.process import worker_environment

#: Calls the module, which wakes the pool, and then computes alone for a while: the pool has nothing to do.
_SCRIPT = """
import json, sys, threading, time
from pathlib import Path
import numpy as np
from tailorbird_agent.bench.stopwatch import CriticalPathStopwatch
from tailorbird_agent.hardware import cputime
from tailorbird_agent.runtimes import open_runtime
from tailorbird_agent.runtimes.arrays import aligned_zeros

name, module, library = sys.argv[1:4]
runtime = open_runtime(name, Path(library))
x = aligned_zeros((1, 256, 4096), np.float32)
if name == "tvm":
    y = aligned_zeros((1, 256, 4096), np.float32)
    main, tensors = runtime.load_kernel(Path(module)), (runtime.tensor(x), runtime.tensor(y))
    call = lambda: main(*tensors)
else:
    loaded = runtime.load(Path(module), threads=2)
    call = lambda: loaded.run([x])
for _ in range(3):
    call()

def alone(milliseconds):
    end_ns = time.thread_time_ns() + milliseconds * 1e6
    while time.thread_time_ns() < end_ns:
        pass

stopwatch = CriticalPathStopwatch()
me = threading.get_native_id()
spun, added, worked = [], [], 0.0
for _ in range(10):
    before = cputime.own_run_times_us()
    call()
    after = cputime.own_run_times_us()
    worked += sum(after[tid] - before.get(tid, 0.0) for tid in after if tid != me)
    own_ns = time.thread_time_ns()
    stopwatch.start()
    alone(20)
    added.append(stopwatch.stop().cpu_us / ((time.thread_time_ns() - own_ns) / 1e3) - 1.0)
    later = cputime.own_run_times_us()
    spun.append(sum(later[tid] - after[tid] for tid in after if tid != me) / 20e3)
print(json.dumps({"threads": len(after), "worked_us": worked, "spun": spun, "added": added}))
"""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """y = exp(x) sin(x) over two threads, for each runtime."""
    import torch
    import tvm
    from torch import nn
    from tvm import te

    from tailorbird.compile.base import CompileTarget, backend
    from tailorbird.compile.capture import capture

    folder = tmp_path_factory.mktemp("parallel")
    a = te.placeholder((1, 256, 4096), "float32", name="a")
    b = te.compute(a.shape, lambda n, i, j: te.exp(a[n, i, j]) * te.sin(a[n, i, j]), name="b")
    schedule = tvm.s_tir.Schedule(te.create_prim_func([a, b]).with_attr("global_symbol", "main"))
    schedule.parallel(schedule.get_loops(schedule.get_sblock("b"))[1])
    target = tvm.target.Target({"kind": "llvm", "num-cores": 2})
    tvm.compile(schedule.mod, target=target).export_library(str(folder / "tvm.so"))
    target = CompileTarget(f"{platform.machine()}-linux-gnu", "")
    net = nn.Sequential(nn.Linear(4096, 64), nn.ReLU()).eval()
    built = backend("litert").build(capture(net, (torch.zeros(1, 256, 4096),)), target)
    (folder / "litert.tflite").write_bytes(built.module)
    return {"tvm": folder / "tvm.so", "litert": folder / "litert.tflite"}


@pytest.mark.parametrize("runtime", ["tvm", "litert"])
def test_an_idle_pool_adds_less_than_three_percent(runtime: str, modules: dict[str, Path]) -> None:
    library = metadata.distribution("apache-tvm").locate_file("tvm/lib/libtvm_runtime.so")
    command = [sys.executable, "-c", _SCRIPT, runtime, str(modules[runtime]), str(library)]
    done = subprocess.run(command, env=worker_environment(2), capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(done.stdout)
    assert found["threads"] > 1
    assert found["worked_us"] > 100.0  # the pool is a real one: it took its share
    assert np.median(found["spun"]) < 0.03
    assert np.median(found["added"]) < 0.03
