"""What every test shares: one thread, a private home, real data where TAILORBIRD_DATA names it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# Set before torch or a BLAS is imported anywhere: tests run on two cores beside real agent processes.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TVM_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# A shell starts what it runs in the background with SIGINT ignored, which every child inherits; tests send it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from tests.zoo.torchvision_schema import declare  # noqa: E402  (imports torch)

declare()


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Host state and agent state of a test never touch the user's own."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("TAILORBIRD_HOME", str(home / "host"))
    monkeypatch.setenv("TAILORBIRD_AGENT_STATE", str(home / "agent"))
    return home


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder with real images and weights; skips where it is not given."""
    folder = os.environ.get("TAILORBIRD_DATA")
    if not folder:
        pytest.skip("TAILORBIRD_DATA is not set: the README says where to get the data")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"TAILORBIRD_DATA={folder} is no folder")
    return path
