"""A device in words: the same names and units in the terminal and on the page."""

from __future__ import annotations

from tailorbird.types import DeviceCard, Reading, Sensors
from tailorbird.units import byte_words, count_words, significant

UNAVAILABLE = "unavailable"

#: Suffix of a sensor's name -> unit, shown after the value.
_UNITS = {
    "_c": "°C",
    "_percent": "%",
    "_pct": "%",
    "_ratio": "",
    "_share": "",
    "_us": "us",
    "_ms": "ms",
    "_v": "V",
    "_w": "W",
}

#: Beginnings of the features that decide how fast a network runs.
_VECTOR = (
    "sse4",
    "fma",
    "f16c",
    "avx",
    "amx",
    "asimd",
    "neon",
    "sve",
    "sme",
    "fphp",
    "i8mm",
    "bf16",
    "rvv",
    "vnni",
    "vfpv",
)


def card_facts(card: DeviceCard) -> tuple[tuple[str, str], ...]:
    """What does not change: (name, words) pairs in the order they are shown."""
    caches = ", ".join(f"L{c.level} {c.kind.lower()} {byte_words(c.size_bytes)}" for c in card.caches)
    return (
        ("board", card.board or UNAVAILABLE),
        ("CPU", f"{card.cpu_model} ({card.llvm_cpu or 'core unknown to LLVM'})"),
        ("cores", str(card.cores)),
        ("caches", caches or UNAVAILABLE),
        ("memory", byte_words(card.memory_bytes)),
        ("ISA features", _vector_words(card.isa_features)),
        ("target", f"{card.triple}, {card.libc}"),
        ("kernel", card.kernel),
        ("runtimes", ", ".join(f"{name} {version}" for name, version in card.runtimes) or "none"),
        ("agent", card.agent_version),
    )


def _vector_words(features: tuple[str, ...]) -> str:
    """The vector and matrix extensions by name, the rest by number: a kernel lists a hundred."""
    vector = [name for name in features if name.startswith(_VECTOR) and name != "smep"]
    others = len(features) - len(vector)
    if not features:
        return UNAVAILABLE
    return " ".join(vector) + (f" and {others} others" if vector else f"{others}")


def sensor_facts(sensors: Sensors | None) -> tuple[tuple[str, str], ...]:
    """The state at one moment: (sensor, words) pairs; what the machine lacks is "unavailable"."""
    return tuple(_reading_facts(reading) for reading in sensors.readings) if sensors else ()


def _reading_facts(reading: Reading) -> tuple[str, str]:
    # `frequency_hz.cpu0`: the quantity with its unit, and which of several it is.
    quantity, _, which = reading.name.partition(".")
    title, words = _quantity_facts(quantity, reading.value)
    return f"{title} {which}".rstrip(), words


def _quantity_facts(name: str, value: float | None) -> tuple[str, str]:
    for suffix, convert in (("_bytes", byte_words), ("_hz", lambda v: f"{count_words(v)}Hz")):
        if name.endswith(suffix):
            return _title(name, suffix), UNAVAILABLE if value is None else convert(value)
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix):
            return _title(name, suffix), UNAVAILABLE if value is None else f"{significant(value)} {unit}".rstrip()
    return name.replace("_", " "), UNAVAILABLE if value is None else f"{value:g}"


def _title(name: str, suffix: str) -> str:
    return name.removesuffix(suffix).replace("_", " ")
