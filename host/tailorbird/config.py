"""Settings in layers: defaults < TOML file < environment < flags; and the units they are written in.

Each value remembers which layer it came from. Unknown keys are errors that name the nearest known one.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tailorbird.errors import MissingFileError, UsageError

_QUANTITY = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-zµ]*)\s*", re.IGNORECASE)
_MICROSECONDS: Final = {"us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6, "min": 60e6, "h": 3600e6}
_BYTES: Final = {
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30,
}  # fmt: skip
_PREFIX: Final = "TAILORBIRD_"


def _quantity(text: str, units: Mapping[str, float], kind: str, examples: str) -> float:
    found = _QUANTITY.fullmatch(text)
    unit = found[2].lower() if found else ""
    if not found or unit not in units:
        why = f"the unit {found[2]!r} is unknown" if found and unit else "a number with a unit is needed"
        raise UsageError(f"{text!r} is no {kind}", why=why, fix=f"write it like {examples}")
    return float(found[1]) * units[unit]


def parse_us(text: str) -> float:
    """A duration such as "25ms", "1.5s" or "30m" in microseconds. Raises UsageError: a bare number has no unit."""
    return _quantity(text, _MICROSECONDS, "duration", "25ms, 1.5s or 30m")


def parse_seconds(text: str) -> float:
    """A duration such as "90s", "30m" or "2h" in seconds. Raises UsageError."""
    return parse_us(text) / 1e6


def parse_bytes(text: str) -> int:
    """A size such as "40MB" (10^6) or "40MiB" (2^20) in bytes. Raises UsageError: a bare number has no unit."""
    return round(_quantity(text, _BYTES, "size", "40MB or 512KiB"))


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user may set once instead of at every command.

    home: the host's folder; database: SQLite path or postgresql:// URL, "" for state.db in home; device: the default
    one; runtimes: which to build for; threads: of one inference; tune_s: tuning budget in seconds; seed: of everything
    random.
    """

    home: Path = Path("~/.local/share/tailorbird")
    database: str = ""
    device: str = "local"
    policy: str = "two-channel"
    runtimes: tuple[str, ...] = ("litert", "tvm")
    threads: int = 1
    tune_s: float = 20.0
    seed: int = 0

    @property
    def database_location(self) -> str:
        """Where the store lies."""
        return self.database or str(self.home / "state.db")

    @property
    def cache_folder(self) -> Path:
        """Root of the stage cache."""
        return self.home / "cache"


def _names(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else list(value)
    return tuple(str(part).strip() for part in parts if str(part).strip())


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(value) != float(value):
        raise ValueError("a whole number is needed")
    return int(value)


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "home": lambda value: Path(value).expanduser().absolute(),
    "database": str,
    "device": str,
    "policy": str,
    "runtimes": _names,
    "threads": _whole,
    "tune_s": lambda value: parse_seconds(value) if isinstance(value, str) else float(value),
    "seed": _whole,
}


@dataclass(frozen=True, slots=True)
class LayeredSettings:
    """Settings and the layer each value came from: "default", the TOML file, "$TAILORBIRD_...", or "flag"."""

    values: Settings
    origins: tuple[tuple[str, str], ...]


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> LayeredSettings:
    """Read all layers. `file` is by default $TAILORBIRD_CONFIG or ~/.config/tailorbird/config.toml if it exists.

    Flags that are None were not given. Raises UsageError for unknown keys and bad values, MissingFileError when a named
    file is not there.
    """
    environment = os.environ if environment is None else environment
    known = [field.name for field in dataclasses.fields(Settings)]
    layers: list[tuple[str, Mapping[str, Any]]] = [("default", {"home": Settings().home})]
    toml = _file(file, environment)
    if toml is not None:
        layers.append((str(toml), _read_toml(toml)))
    variables = {name: environment[_PREFIX + name.upper()] for name in known if environment.get(_PREFIX + name.upper())}
    layers.append(("environment", variables))
    layers.append(("flag", {name: value for name, value in (flags or {}).items() if value is not None}))
    chosen: dict[str, Any] = {}
    origins = dict.fromkeys(known, "default")
    for layer, values in layers:
        for name, value in values.items():
            if name not in known:
                raise _unknown(name, layer, known)
            origins[name] = f"${_PREFIX}{name.upper()}" if layer == "environment" else layer
            chosen[name] = _read(name, value, origins[name])
    return LayeredSettings(Settings(**chosen), tuple(sorted(origins.items())))


def _file(file: Path | None, environment: Mapping[str, str]) -> Path | None:
    named = file or (Path(environment[_PREFIX + "CONFIG"]) if environment.get(_PREFIX + "CONFIG") else None)
    if named is None:
        folder = environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "/nonexistent")) / ".config"
        usual = Path(folder) / "tailorbird" / "config.toml"
        return usual if usual.is_file() else None
    if not named.is_file():
        raise MissingFileError(f"there is no settings file {named}", fix="check the path, or unset $TAILORBIRD_CONFIG")
    return named


def _read_toml(path: Path) -> Mapping[str, Any]:

    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise UsageError(f"the settings file {path} cannot be read", why=str(cause), fix="correct the file") from cause


def _read(name: str, value: Any, origin: str) -> Any:
    try:
        return _READERS[name](value)
    except (TypeError, ValueError) as cause:
        raise UsageError(f"{name} cannot be {value!r}", why=f"{cause}; it was set by {origin}") from cause


def _unknown(name: str, layer: str, known: list[str]) -> UsageError:
    near = difflib.get_close_matches(name, known, n=1)
    fix = f"did you mean {near[0]}?" if near else f"known settings: {', '.join(known)}"
    return UsageError(f"there is no setting {name!r}", why=f"it stands in {layer}", fix=fix)
