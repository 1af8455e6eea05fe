"""A worker is confined before it loads anything, and inherits nothing of the daemon's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
from worker_ladders import make_plan, serving, with_rung

from tailorbird_agent.runtimes.reference import Step, save
from tailorbird_agent.worker.failure import WorkerError
from tailorbird_agent.worker.serving import ServingWorker


def confined(code: str) -> dict:
    """Enter the sandbox in a fresh process and run code that puts what it sees into `seen`."""
    prelude = """
        import json, os, sys
        from pathlib import Path
        from tailorbird_agent.worker import sandbox
        seen = {"layers": sandbox.enter(os.getppid(), address_space_bytes=2**31), "modules": sorted(sys.modules)}
    """
    script = textwrap.dedent(prelude) + textwrap.dedent(code) + "\nprint(json.dumps(seen))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, start_new_session=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_limits_and_privileges_are_in_force() -> None:
    seen = confined(
        """
        import resource
        seen["status"] = dict(line.split(":\\t") for line in Path("/proc/self/status").read_text().splitlines())
        names = ("RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_NOFILE")
        seen["limits"] = {name: resource.getrlimit(getattr(resource, name)) for name in names}
        """
    )
    assert {"own-session", "rlimits", "no-new-privs", "death-signal"} <= set(seen["layers"])
    assert seen["status"]["NoNewPrivs"] == "1"
    assert seen["limits"]["RLIMIT_CORE"] == [0, 0]
    assert seen["limits"]["RLIMIT_AS"] == [2**31, 2**31]
    assert all(soft == hard > 0 for name, (soft, hard) in seen["limits"].items() if name != "RLIMIT_CORE")


def test_nothing_heavy_is_imported_before_the_limits_hold() -> None:
    modules = set(confined("")["modules"])
    assert not modules & {"numpy", "tvm_ffi", "ai_edge_litert", "asyncio", "tailorbird_agent.runtimes"}


def test_where_the_network_layer_is_reported_there_is_no_network() -> None:
    seen = confined(
        """
        import socket
        seen["devices"] = Path("/proc/self/net/dev").read_text()
        try:
            with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 1):
                seen["loopback"] = True
        except OSError:
            seen["loopback"] = False
        """
    )
    devices = [line.split(":")[0].strip() for line in seen["devices"].splitlines()[2:]]
    if "no-network" in seen["layers"]:
        assert devices in ([], ["lo"])
        assert seen["loopback"] is False
    else:
        assert seen["loopback"] is True


def test_a_worker_whose_daemon_is_gone_already_ends_at_once() -> None:
    code = (
        "from tailorbird_agent.worker import sandbox; sandbox.enter(1 << 22, address_space_bytes=None); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_worker_sees_neither_the_daemons_environment_nor_its_files(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DAEMON_SECRET", "42")
    secret = os.open(tmp_path / "secret", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(secret, True)

    async def look(worker: ServingWorker) -> tuple[str, list[str]]:
        process = Path("/proc") / str(worker.pid)
        files = [str(each.readlink()) for each in (process / "fd").iterdir()]
        return (process / "environ").read_text(), files

    try:
        environment, files = serving(make_plan(tmp_path), look)
    finally:
        os.close(secret)
    assert "DAEMON_SECRET" not in environment
    assert "TVM_NUM_THREADS=1" in environment
    assert not [each for each in files if "secret" in each]
    assert len([each for each in files if each.startswith("socket:")]) == 1


def test_a_rung_that_needs_more_memory_than_there_is_is_refused(tmp_path) -> None:
    module = tmp_path / "huge"
    side = np.ones((100_000, 1), np.float32)
    save(module, [Step("matmul", ("column", "row"), "output.0")], {"column": side, "row": side.T.copy()})

    async def nothing(_: ServingWorker) -> None:
        return None

    try:
        serving(with_rung(make_plan(tmp_path), 1, module=module), nothing)
    except WorkerError as error:
        assert error.reason == "OUT_OF_MEMORY"
    else:
        raise AssertionError("40 GB were given to a worker limited to a few")
