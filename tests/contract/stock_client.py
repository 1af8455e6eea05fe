"""The stock client in a process of its own: its messages and ours share names, and one process holds only one set."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_PRELUDE = """
import json, sys
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

x = np.random.default_rng(5).standard_normal((1, 16)).astype(np.float32)

def inputs(value=x, name="x"):
    tensor = triton.InferInput(name, value.shape, "FP32")
    tensor.set_data_from_numpy(value)
    return [tensor]

def refusal(call):
    try:
        call()
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return None

def say(told):
    print(json.dumps(told), flush=True)

client = triton.InferenceServerClient(sys.argv[1])
"""


def told_by(address: str, script: str, *arguments: str) -> Any:
    """Run a script that knows `client`, `inputs`, `refusal` and `x`; returns what it says last.

    Its arguments start at sys.argv[2]."""
    command = [sys.executable, "-W", "ignore", "-c", _PRELUDE + script, address, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
