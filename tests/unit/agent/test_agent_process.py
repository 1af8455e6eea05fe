"""Properties of the package and of its command line that need a process to see."""

from __future__ import annotations

import asyncio
import configparser
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

import tailorbird_agent
from tailorbird_agent.listeners import server_options
from tailorbird_agent.notify import notify
from tailorbird_agent.unit import unit_text

ROOT = Path(__file__).resolve().parents[3]


def agent(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tailorbird_agent", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_daemon_imports_neither_numpy_nor_a_runtime_nor_the_host() -> None:
    probe = "import sys, tailorbird_agent.daemon; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert {"grpc", "tailorbird_agent", "tailorbird_api"} <= loaded
    assert not loaded & {"numpy", "torch", "tvm", "tvm_ffi", "ai_edge_litert", "psutil", "tailorbird", "typer", "rich"}


def test_messages_reach_the_servicers_and_nothing_behind_them() -> None:
    folder = Path(tailorbird_agent.__file__).parent
    importers = {path.stem for path in folder.rglob("*.py") if "\nfrom tailorbird_api" in path.read_text()}
    assert importers == {"wire", "service", "inference", "status", "daemon"}
    messages = {path.stem for path in folder.rglob("*.py") if "open_inference_pb2 " in path.read_text()}
    assert messages == {"inference"}


def test_the_version_is_the_distributions() -> None:
    assert tailorbird_agent.__version__ == metadata.version("tailorbird")


def test_an_address_that_is_refused_says_how_it_would_be_accepted(tmp_path: Path) -> None:
    done = agent("run", "--state", str(tmp_path), "--tcp", "0.0.0.0:8001")
    assert done.returncode == 2
    assert "refused without TLS" in done.stderr
    assert "fix: use 127.0.0.1:PORT, or give --tls-cert" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_without_an_agent_says_how_to_start_one(tmp_path: Path) -> None:
    done = agent("status", "--state", str(tmp_path))
    assert done.returncode == 4
    assert "fix: start one with `tailorbird-agent run --state" in done.stderr


@pytest.mark.parametrize("user", [True, False])
def test_the_unit_is_one_systemd_can_read(user: bool) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read_string(unit_text("/usr/bin/tailorbird-agent", user=user))
    assert unit["Service"]["Type"] == "notify"
    assert unit["Service"]["NoNewPrivileges"] == "yes"
    assert unit["Service"].get("DynamicUser") == (None if user else "yes")
    assert unit["Install"]["WantedBy"] == ("default.target" if user else "multi-user.target")


def test_the_unit_in_the_repository_is_what_install_writes() -> None:
    checked_in = (ROOT / "deploy/systemd/tailorbird-agent.service").read_text()
    assert checked_in == unit_text("/usr/bin/env tailorbird-agent", user=False)
    assert agent("install", "--dry-run").stdout.replace(
        f"{sys.executable} -m tailorbird_agent", "X"
    ) == checked_in.replace("/usr/bin/env tailorbird-agent", "X")


def test_systemd_is_told_over_the_socket_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        assert notify("READY=1")
        assert systemd.recv(64) == b"READY=1"


class Silent(grpc.GenericRpcHandler):
    """One method that says hello and then nothing."""

    def service(self, handler_call_details: Any) -> Any:
        async def stream(request: Any, context: Any) -> Any:
            yield b"hello"
            await asyncio.Event().wait()

        return grpc.stream_stream_rpc_method_handler(stream)


async def outcome_of_pinging(server: grpc.aio.Server, path: Path, within_s: float) -> str:
    """Ping every half second on a silent stream: "alive" if it stands, else what ended it."""
    server.add_generic_rpc_handlers((Silent(),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    options = [
        ("grpc.keepalive_time_ms", 550),
        ("grpc.keepalive_timeout_ms", 5000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    async with grpc.aio.insecure_channel(f"unix:{path}", options=options) as channel:
        call = channel.stream_stream("/any/method")()
        assert await call.read() == b"hello"
        try:
            await asyncio.wait_for(call.read(), within_s)
            outcome = "ended"
        except TimeoutError:
            outcome = "alive"
        except grpc.aio.AioRpcError as error:
            outcome = str(error.details())
    await server.stop(0)
    return outcome


def test_clients_may_ping_often(tmp_path: Path) -> None:
    # The plain server shows that the pings are real: it ends the connection for them.
    async def both() -> list[str]:
        # Without the gate, which would rightly refuse a method it does not know.
        ours, plain = grpc.aio.server(options=server_options(1 << 20)), grpc.aio.server()
        return list(
            await asyncio.gather(
                outcome_of_pinging(ours, tmp_path / "ours", 4.0), outcome_of_pinging(plain, tmp_path / "plain", 8.0)
            )
        )

    alive, ended = asyncio.run(both())
    assert alive == "alive"
    assert "ping" in ended.lower()
