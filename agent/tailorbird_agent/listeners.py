"""The gRPC servers: control on one socket, inference on the other, each with its own limits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import grpc.aio

from tailorbird_agent.authz import RoleGate
from tailorbird_agent.config import Config
from tailorbird_agent.errors import ConfigError
from tailorbird_agent.handlers import Activity, Door, ErrorBoundary
from tailorbird_agent.sockets import prepare_socket

CONTROL_MESSAGE_BYTES = 1 << 20
INFERENCE_MESSAGE_BYTES = 16 << 20
UPLOAD_WINDOW_BYTES = 1 << 20

#: Clients may ping this often. Servers otherwise end connections that ping faster than every 300 s, "too_many_pings".
#: gRPC ignores option names it does not know, and there is a plausible wrong one; a test pings.
MIN_PING_INTERVAL_MS = 500


def server_options(message_bytes: int, *, window_bytes: int | None = None) -> Sequence[tuple[str, int]]:
    """gRPC's options for a server that accepts messages up to a size.

    window_bytes fixes how much of a stream may wait in memory, however fast it comes: right for uploads. Without it the
    window grows with what the link bears: right for inference, where a fixed one costs a 600 KB tensor a millisecond.
    """
    window = () if window_bytes is None else (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", window_bytes))
    return (
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", INFERENCE_MESSAGE_BYTES),
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.so_reuseport", 0),
        *window,
    )


def control_server(activity: Activity, door: Door) -> grpc.aio.Server:
    """A server for control and uploads, behind the error boundary and the role gate."""
    return _server(activity, door, server_options(CONTROL_MESSAGE_BYTES, window_bytes=UPLOAD_WINDOW_BYTES))


def inference_server(activity: Activity, door: Door) -> grpc.aio.Server:
    """A server for tensors, behind the same."""
    return _server(activity, door, server_options(INFERENCE_MESSAGE_BYTES))


def _server(activity: Activity, door: Door, options: Sequence[tuple[str, int]]) -> grpc.aio.Server:
    return grpc.aio.server(interceptors=(ErrorBoundary(activity, door), RoleGate()), options=options)


def listen_unix(server: grpc.aio.Server, path: Path, mode: int) -> None:
    """Listen on a Unix socket that has its mode from the moment it exists.

    Raises:
        ConfigError: another agent listens there, or the socket cannot be made.
    """
    prepare_socket(path)
    with _umask(0o777 & ~mode):
        _bind(lambda: server.add_insecure_port(f"unix:{path}"), str(path))
    path.chmod(mode)


def listen_tcp(server: grpc.aio.Server, address: str, config: Config) -> str:
    """Listen on a port that `sockets.check_tcp` accepted; returns HOST:PORT with the port in use.

    Raises:
        ConfigError: the port is taken.
    """
    files = config.tls_files
    if files is None:
        port = _bind(lambda: server.add_insecure_port(address), address)
    else:
        certificate, key, client_ca = (path.read_bytes() for path in files)
        credentials = grpc.ssl_server_credentials([(key, certificate)], client_ca, require_client_auth=True)
        port = _bind(lambda: server.add_secure_port(address, credentials), address)
    return f"{address.rpartition(':')[0]}:{port}"


def _bind(add: object, address: str) -> int:
    try:
        port = add()  # type: ignore[operator]
    except RuntimeError as error:
        raise ConfigError(f"cannot listen on {address}: {error}", fix="choose an address that is free") from None
    if not port:
        raise ConfigError(f"cannot listen on {address}", fix="choose an address that is free")
    return int(port)


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
