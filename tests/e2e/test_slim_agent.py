"""An agent in an environment of its own, with the base and one runtime extra: no torch, no TVM, no typer."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tailorbird.device import Device
from tests.bench.small_nets import classifier, deploy, digit_images, serve_ready

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-agent" / "bin" / "python"


@pytest.fixture
def slim(tmp_path: Path) -> Iterator[Device]:
    if not PYTHON.exists():
        pytest.skip("no .venv-agent: `make test` makes it")
    process = subprocess.Popen(
        [PYTHON, "-m", "tailorbird_agent", "run", "--state", str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd="/"
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready ")
        with Device.connect(tmp_path) as device:
            yield device
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_the_slim_environment_has_neither_torch_nor_the_compiler() -> None:
    if not PYTHON.exists():
        pytest.skip("no .venv-agent: `make test` makes it")
    probe = (
        "import importlib.util as u; print([n for n in ('torch','tvm','tvm_ffi','typer','pymoo') if u.find_spec(n)])"
    )
    done = subprocess.run([PYTHON, "-c", probe], capture_output=True, text=True, timeout=60, cwd="/")
    assert done.stdout.strip() == "[]"


def test_a_slim_agent_measures_deploys_and_answers_like_torch(slim: Device) -> None:
    images = digit_images(6)
    served = serve_ready("slim", [classifier(8, 1), classifier(16, 2)], images, slim.card, slo_us=50_000.0)

    deploy(slim, served)

    name, answer = served.built[0].inputs[0].name, served.built[0].outputs[0].name
    for rung, expected in served.answers.items():
        for image, want in zip(images, expected, strict=True):
            reply = slim.infer("slim", {name: image[None]}, version=rung)
            assert reply.version == f"{served.bundle.sha256[:12]}/{rung}"
            np.testing.assert_allclose(reply.outputs[answer][0], want, atol=served.tolerance)
    assert [runtime for runtime, _ in slim.card.runtimes if runtime != "reference"] == ["litert"]
