"""Our .tflite files against those of Google's converter: same answers, and no slower."""

from __future__ import annotations

import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import nn
from torch.nn import functional as F

from tailorbird.compile.base import CompileTarget, backend
from tailorbird.compile.capture import capture

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-oracle" / "bin" / "python"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason=".venv-oracle is absent: run `make oracle`"),
]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 5, 1, 2, groups=16), nn.BatchNorm2d(16), nn.Hardswish())
        self.point = nn.Conv2d(16, 16, 1)
        self.down = nn.Conv2d(16, 24, 3, 2, 1)
        self.head = nn.Linear(24, 10)

    def forward(self, x):
        x = self.stem(x)
        x = F.relu(x + self.point(self.depthwise(x)))
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        x = F.relu(self.down(x) + shortcut)
        x = F.max_pool2d(x, 2)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _converted(module: nn.Module, x: torch.Tensor, folder: Path) -> bytes:
    with torch.no_grad():
        torch.export.save(torch.export.export(module, (x,)), folder / "program.pt2")
    command = [str(PYTHON), str(Path(__file__).with_name("litert_torch_convert.py")), "program.pt2", "oracle.tflite"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr[-2000:]
    return (folder / "oracle.tflite").read_bytes()


def _interpreter(model: bytes) -> Interpreter:
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _answer(interpreter: Interpreter, x: np.ndarray) -> np.ndarray:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def _cpu_us(interpreter: Interpreter) -> float:
    times = []
    for _ in range(100):
        started = time.thread_time_ns()
        interpreter.invoke()
        times.append((time.thread_time_ns() - started) / 1e3)
    return statistics.median(times)


@pytest.mark.timeout(240)
def test_the_writer_agrees_with_the_converter(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x = Residual().eval(), torch.randn(1, 3, 64, 64)
    ours = backend("litert").build(capture(module, (x,)), CompileTarget("x86_64-linux-gnu", ""))
    mine, theirs = _interpreter(ours.module), _interpreter(_converted(module, x, tmp_path))
    assert np.abs(_answer(mine, x.numpy()) - _answer(theirs, x.numpy())).max() < 1e-5
    rounds = [(_cpu_us(mine), _cpu_us(theirs)) for _ in range(5)]  # alternating: other load hits both
    ratio = min(a for a, _ in rounds) / min(b for _, b in rounds)
    assert ratio < 1.2, f"the written file takes {ratio:.2f} times as long as the converted one"
