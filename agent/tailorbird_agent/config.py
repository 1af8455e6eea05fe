"""The agent's settings: one frozen value, from defaults < TOML file < environment < flags.

A key nobody knows is an error with the nearest known one, wherever it was written: a misspelt limit must not be
ignored.
"""

from __future__ import annotations

import difflib
import os
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from tailorbird_agent.errors import ConfigError

ENVIRONMENT_PREFIX = "TAILORBIRD_AGENT_"
CONFIG_VARIABLE = "TAILORBIRD_AGENT_CONFIG"
SYSTEM_CONFIG = Path("/etc/tailorbird/agent.toml")


def default_state() -> Path:
    """Where the agent keeps its state unless told otherwise."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(base) / "tailorbird-agent"


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting of the agent. Paths are absolute; a size or time has its unit in its name.

    tcp: HOST:PORT that serves inference, loopback only unless the three tls files are given; tcp_control: the same for
    control, never without them; quota_bytes: most the blobs may take, 0 for the whole disk; reserve_bytes: what stays
    free on the disk whatever happens; model_memory_bytes: most that the rungs of a model may take in memory, as far as
    the one in use and its neighbours allow, 0 for a quarter of the machine's; idle_exit_s: leave after this long
    without a call, 0 for never; swap: "available" loads a new bundle beside the one that serves, "sparing" after that
    one has gone, with a gap that clients are told of, "auto" the one or the other as memory allows; hardware_root:
    where the device's /proc and /sys are found, elsewhere than at / in a container or beside a recorded device.
    """

    state: Path
    name: str
    socket_dir: Path
    tcp: str = ""
    tcp_control: str = ""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    quota_bytes: int = 0
    reserve_bytes: int = 32 << 20
    blob_grace_s: float = 600.0
    worker_timeout_s: float = 120.0
    drain_timeout_s: float = 10.0
    sensor_interval_s: float = 1.0
    model_memory_bytes: int = 0
    swap: str = "auto"
    idle_exit_s: float = 0.0
    hardware_root: Path = Path("/")
    log_level: str = "INFO"

    @property
    def control_socket(self) -> Path:
        """Unix socket of the control services."""
        return self.socket_dir / "control.sock"

    @property
    def inference_socket(self) -> Path:
        """Unix socket of the inference service."""
        return self.socket_dir / "inference.sock"

    @property
    def tls_files(self) -> tuple[Path, Path, Path] | None:
        """Certificate, key and client CA, or None unless all three are set."""
        if self.tls_cert and self.tls_key and self.tls_client_ca:
            return self.tls_cert, self.tls_key, self.tls_client_ca
        return None


#: How a bundle follows another: see Config.swap.
SWAPS = ("auto", "available", "sparing")
KNOWN = tuple(field.name for field in fields(Config))


def load_config(
    flags: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Config:
    """Settings from every layer; flags that are None were not given.

    Raises:
        ConfigError: an unknown key, a value of the wrong type, or a file that cannot be read.
    """
    environment = os.environ if environment is None else environment
    if file is None and environment.get(CONFIG_VARIABLE):
        file = Path(environment[CONFIG_VARIABLE])
    layers = [
        (str(file or SYSTEM_CONFIG), _from_file(file)),
        ("environment", _from_environment(environment)),
        ("flags", {key: value for key, value in (flags or {}).items() if value is not None}),
    ]
    values: dict[str, Any] = {}
    for origin, layer in layers:
        for key, value in layer.items():
            values[key] = _typed(key, value, origin)
    state = values.pop("state", default_state())
    socket_dir = values.pop("socket_dir", state)
    base = Config(state=state.absolute(), name=socket.gethostname(), socket_dir=socket_dir.absolute())
    if values.get("swap", base.swap) not in SWAPS:
        raise ConfigError(f"swap is {values['swap']!r}", fix=f"give one of {', '.join(SWAPS)}")
    root = values.get("hardware_root", base.hardware_root)
    if not ((root / "proc").is_dir() and (root / "sys").is_dir()):
        raise ConfigError(
            f"{root} is not the hardware root of a device: it has no proc or no sys",
            fix="name the folder below which the device's /proc and /sys are found",
        )
    return replace(base, **values)


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None and not SYSTEM_CONFIG.is_file():
        return {}
    path = file or SYSTEM_CONFIG
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}", fix="check the path") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {error}", fix="correct the file") from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for variable, text in environment.items():
        if variable.startswith(ENVIRONMENT_PREFIX) and variable != CONFIG_VARIABLE and text:
            found[variable.removeprefix(ENVIRONMENT_PREFIX).lower()] = text
    return found


def _typed(key: str, value: Any, origin: str) -> Any:
    """`value` as the setting's type, whether it came as text or already typed."""
    if key not in KNOWN:
        near = difflib.get_close_matches(key, KNOWN, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"known settings: {', '.join(KNOWN)}"
        raise ConfigError(f'unknown setting "{key}" in {origin}', fix=hint)
    wanted = get_type_hints(Config)[key]
    try:
        if wanted in (Path, Path | None):
            return Path(value).expanduser().absolute()
        wrong = isinstance(value, bool) or (wanted is str and not isinstance(value, str))
        typed: Any = None if wrong else wanted(value)
    except (TypeError, ValueError):
        typed = None
    if typed is None:
        name = getattr(wanted, "__name__", "path")
        raise ConfigError(f'setting "{key}" in {origin} is not a {name}: {value!r}', fix=f"give a {name}")
    if wanted in (int, float) and not 0 <= typed < float("inf"):
        raise ConfigError(f'setting "{key}" in {origin} is out of range: {value!r}', fix="give zero or more")
    return typed
