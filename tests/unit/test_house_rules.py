"""Rules of the house that no linter knows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for folder in ("host", "agent", "protos", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if "_pb2" not in path.name
)


def test_no_file_is_longer_than_600_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert SOURCES
    assert {name: lines for name, lines in lengths.items() if lines > 600} == {}


def test_no_module_is_called_utils_helpers_or_manager() -> None:
    banned = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
    assert [str(path.relative_to(ROOT)) for path in SOURCES if path.stem in banned or path.parent.name in banned] == []


def test_generated_code_matches_the_protos() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "protos" / "generate.py"), "--check"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", ["tailorbird", "tailorbird_agent", "tailorbird_agent.daemon"])
def test_importing_a_package_loads_no_heavy_library(module: str) -> None:
    probe = (
        f"import sys, {module}; "
        "print(*sorted(set(sys.modules) & {'torch', 'tvm', 'numpy', 'sklearn', 'pymoo', 'tvm_ffi', 'ai_edge_litert'}))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
