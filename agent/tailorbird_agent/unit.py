"""`tailorbird-agent install`: a systemd unit that gives the agent what it needs and nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tailorbird_agent.errors import ConfigError

NAME = "tailorbird-agent.service"
SYSTEM_UNITS = Path("/etc/systemd/system")

# Workers make a network namespace of their own to lock themselves in, so namespaces stay allowed.
_UNIT = """\
[Unit]
Description=Tailorbird agent: measures, holds and serves models on this device
After=network.target

[Service]
Type=notify
ExecStart={program} run --state {state} --socket-dir {sockets}
Restart=always
RestartSec=1
WatchdogSec=30
TimeoutStopSec=30
KillMode=mixed
{identity}
UMask=0077
LimitNOFILE=4096
TasksMax=512
MemoryHigh=80%
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
LockPersonality=yes
PrivateTmp=yes
ProtectSystem=strict
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service unshare
SystemCallErrorNumber=EPERM

[Install]
WantedBy={target}
"""

_SYSTEM_IDENTITY = """\
DynamicUser=yes
StateDirectory=tailorbird-agent
StateDirectoryMode=0700
RuntimeDirectory=tailorbird-agent
RuntimeDirectoryMode=0750
ProtectHome=yes
PrivateDevices=yes"""

_USER_IDENTITY = """\
StateDirectory=tailorbird-agent
StateDirectoryMode=0700
RuntimeDirectory=tailorbird-agent
RuntimeDirectoryMode=0700"""


def unit_text(program: str, *, user: bool) -> str:
    """The unit. program: how systemd starts the agent, an absolute path or command."""
    return _UNIT.format(
        program=program,
        state="%S/tailorbird-agent",
        sockets="%t/tailorbird-agent",
        identity=_USER_IDENTITY if user else _SYSTEM_IDENTITY,
        target="default.target" if user else "multi-user.target",
    )


def install_unit(*, user: bool, dry_run: bool) -> int:
    """Write the unit where systemd looks, or print it.

    Raises:
        ConfigError: the folder cannot be written.
    """
    text = unit_text(f"{sys.executable} -m tailorbird_agent", user=user)
    if dry_run:
        sys.stdout.write(text)
        return 0
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = (home / "systemd/user" if user else SYSTEM_UNITS) / NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        fix = "run it as root, or give --user" if not user else "check the folder's owner"
        raise ConfigError(f"cannot write {path}: {error.strerror}", fix=fix) from None
    scope = "systemctl --user" if user else "systemctl"
    sys.stdout.write(f"wrote {path}\nstart it: {scope} daemon-reload && {scope} enable --now {NAME}\n")
    return 0
