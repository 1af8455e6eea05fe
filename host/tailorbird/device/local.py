"""The agent on this machine: found, or started as a separate process."""

from __future__ import annotations

import hashlib
import os
import selectors
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tailorbird.device.address import MAX_SOCKET_PATH_BYTES
from tailorbird.device.client import Device
from tailorbird.device.lease import LeaseBook
from tailorbird.errors import DeviceError, DeviceUnreachableError

_READY_S = 15.0
_STOP_S = 15.0


def default_state_dir() -> Path:
    """Where the local agent keeps its state: $TAILORBIRD_AGENT_STATE or ~/.local/state/tailorbird-agent."""
    configured = os.environ.get("TAILORBIRD_AGENT_STATE")
    return Path(configured) if configured else Path.home() / ".local" / "state" / "tailorbird-agent"


def socket_dir(state_dir: Path) -> Path:
    """Where an agent with this state listens: the state folder, or a private stand-in when its path is too long."""
    if len(os.fsencode(state_dir.absolute() / "inference.sock")) <= MAX_SOCKET_PATH_BYTES:
        return state_dir.absolute()
    name = hashlib.sha256(os.fsencode(state_dir.absolute())).hexdigest()[:12]
    return Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"tailorbird-{os.getuid()}-{name}"


def _require_private(folder: Path) -> None:
    """A stand-in lies where every user may write: whoever made it first could pose as our agent."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise DeviceUnreachableError(
            f"{folder} cannot hold the agent's sockets",
            why="it is not a private folder of yours",
            fix=f"remove {folder}, or set TAILORBIRD_AGENT_STATE to a shorter path",
            reason="AGENT_NOT_STARTED",
        )


class LocalAgent:
    """An agent process started here. It outlives this program unless stopped."""

    def __init__(self, process: subprocess.Popen[bytes], control: Path) -> None:
        self.control = control
        self._process = process

    @property
    def pid(self) -> int:
        """Process id of the daemon."""
        return self._process.pid

    @classmethod
    def start(
        cls,
        state_dir: Path,
        *,
        name: str | None = None,
        timeout_s: float = _READY_S,
        python: str | Path | None = None,
        options: Sequence[str] = (),
    ) -> LocalAgent:
        """Start `tailorbird-agent run` and wait until it serves.

        python: of the environment that the agent runs in, by default this one; options: further ones of its command
        line. Its messages go to <state_dir>/agent.log. Raises DeviceUnreachableError when it does not become ready.
        """
        sockets = socket_dir(state_dir)
        for folder in (state_dir, sockets):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if sockets != state_dir.absolute():
            _require_private(sockets)
        log = state_dir / "agent.log"
        command = [str(python or sys.executable), "-m", "tailorbird_agent", "run", "--state", str(state_dir.absolute())]
        command += ["--socket-dir", str(sockets), *options]
        if name is not None:
            command += ["--name", name]
        with log.open("ab") as errors:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=state_dir,  # `-m` looks for modules in the working folder first
                start_new_session=True,  # Ctrl-C in the terminal is meant for us, not for the agent
            )
        agent = cls(process, sockets / "control.sock")
        if not agent._is_ready(timeout_s):
            agent.stop()
            tail = log.read_text(errors="replace").splitlines()[-3:]
            raise DeviceUnreachableError(
                "the local agent did not start",
                why="; ".join(tail) or f"it said nothing for {timeout_s:g} s",
                fix=f"see {log}, or run `tailorbird-agent run --state {state_dir}` in a terminal",
                reason="AGENT_NOT_STARTED",
            )
        return agent

    def _is_ready(self, timeout_s: float) -> bool:
        """Whether the line `ready control=...` came in time."""
        stdout = self._process.stdout
        assert stdout is not None
        end = time.monotonic() + timeout_s
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n") and selector.select(max(end - time.monotonic(), 0.0)):
                piece = os.read(stdout.fileno(), 4096)
                if not piece:
                    return False
                line += piece
        return line.startswith(b"ready ") and line.endswith(b"\n")

    def stop(self, timeout_s: float = _STOP_S) -> int:
        """SIGTERM, so that the agent drains; SIGKILL when it takes longer than timeout_s. Returns its exit status."""
        if self._process.stdout is not None:
            self._process.stdout.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def local(
    state_dir: Path | None = None,
    *,
    start: bool = True,
    name: str | None = None,
    book: LeaseBook | None = None,
    kind: type[Device] = Device,
) -> Device:
    """The device this program runs on, through its agent: the running one, or a new one when `start` allows it.

    A started agent keeps running after the program, so that later commands find what was deployed; its handle is
    `device.agent`. Raises DeviceUnreachableError when none runs and none may or can be started.
    """
    state = (state_dir or default_state_dir()).absolute()
    address = socket_dir(state)
    if address != state:
        _require_private(address)
    try:
        return kind.connect(address, book=book)
    except DeviceUnreachableError as error:
        if not start:
            raise DeviceUnreachableError(
                "no agent runs on this machine", why=error.why, fix="start it with `tailorbird-agent run`"
            ) from error
    try:
        agent = LocalAgent.start(state, name=name)
    except DeviceError:
        # Another program may have started one meanwhile: an agent refuses to share its state folder.
        try:
            return kind.connect(address, book=book)
        except DeviceUnreachableError:
            pass
        raise
    device = kind.connect(address, book=book)
    device.agent = agent
    return device
