"""Unix sockets and ports the agent listens on: prepared, checked, refused before anything is served."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import stat
from pathlib import Path

from tailorbird_agent.config import Config
from tailorbird_agent.errors import ConfigError

#: sun_path holds 108 bytes with its closing zero.
MAX_PATH_BYTES = 107


def prepare_folder(folder: Path) -> None:
    """Make a folder for sockets or state, for our user alone; an existing one must not be open to others.

    Raises:
        ConfigError: somebody else could replace what lies in it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise ConfigError(
            f"cannot use the folder {folder}: {error.strerror}", fix="give --state another folder"
        ) from None
    if status.st_uid not in {os.geteuid(), 0} or (status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX):
        raise ConfigError(
            f"the folder {folder} can be changed by others", fix=f"chmod 700 {folder}, or choose a folder of your own"
        )


def prepare_socket(path: Path) -> None:
    """Make way for a Unix socket: a file nobody listens on is removed, a live one refused.

    Raises:
        ConfigError: another agent runs, the path is too long, or something else is there.
    """
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise ConfigError(
            f"the socket path {path} has {len(os.fsencode(path))} bytes, the system allows {MAX_PATH_BYTES}",
            fix="give --socket-dir a shorter folder",
        )
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(f"{path} is there and is not a socket", fix="remove it or choose another --socket-dir")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()  # left by an agent that was killed
            return
        except OSError:
            pass
    raise ConfigError(
        f"another agent listens on {path}", fix="stop it, or give --state and --socket-dir another folder"
    )


def lock_state(state: Path) -> int:
    """Hold the state folder for this process; the descriptor is the lock, and the kernel drops it with the process.

    Raises:
        ConfigError: another agent holds it.
    """
    try:
        descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"cannot keep state in {state}: {error.strerror}",
            fix="free space there and make it writable, or give --state another folder",
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ConfigError(f"another agent uses {state}", fix="stop it, or give --state another folder") from None
    return descriptor


def check_tcp(config: Config) -> None:
    """Refuse to listen where anybody could connect in the clear.

    Raises:
        ConfigError: a port outside loopback, or control over TCP, without the three TLS files; or half of them.
    """
    files = {"--tls-cert": config.tls_cert, "--tls-key": config.tls_key, "--tls-client-ca": config.tls_client_ca}
    how = "give --tls-cert, --tls-key and --tls-client-ca (mutual TLS)"
    given = [flag for flag, path in files.items() if path]
    if given and len(given) < len(files):
        missing = ", ".join(flag for flag, path in files.items() if not path)
        raise ConfigError(f"TLS needs three files and {missing} is not given", fix=how)
    for flag, path in files.items():
        if path and not path.is_file():
            raise ConfigError(f"{flag} {path} is not a file", fix="correct the path")
    for flag, address in (("--tcp", config.tcp), ("--tcp-control", config.tcp_control)):
        if not address:
            continue
        host = _host(flag, address)
        if given:
            continue
        if flag == "--tcp-control":
            raise ConfigError(
                f"control over TCP ({address}) is refused without TLS", fix=f"use the Unix socket, or {how}"
            )
        if not _loopback(host):
            raise ConfigError(f"{address} is not loopback: refused without TLS", fix=f"use 127.0.0.1:PORT, or {how}")


def _host(flag: str, address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{flag} {address} is not HOST:PORT", fix=f"for example {flag} 127.0.0.1:8001")
    return host.strip("[]")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name may resolve to anything tomorrow
