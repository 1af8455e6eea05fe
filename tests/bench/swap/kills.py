"""Random SIGKILLs of agent and worker, in a process of its own: see tests/agentkit/kills.py, which does them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parents[2]


def run(kills: int, seed: int) -> dict[str, Any]:
    """Kill so many times. Returns the report, or what went wrong under "failure"."""
    path = os.pathsep.join([str(_TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.json"
        command = [sys.executable, "-m", "agentkit.kills", str(kills), str(seed), str(out)]
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": path}, cwd=_TESTS.parent, capture_output=True, text=True
        )
        if done.returncode != 0:
            return {"failure": done.stderr.strip()[-2000:]}
        report: dict[str, Any] = json.loads(out.read_text())
        return report
