"""Whether the hardware holds the CPU back right now, and how often it did."""

from __future__ import annotations

from tailorbird_agent.hardware.hwmon import HWMON, Chip
from tailorbird_agent.hardware.number import hexadecimal
from tailorbird_agent.hardware.reading import Reading
from tailorbird_agent.hardware.tree import CPUS, Tree, cpu_folders

_COOLING = "/sys/class/thermal"
_RASPBERRY_PI = (
    "/sys/devices/platform/soc/soc:firmware/get_throttled",
    "/sys/devices/platform/soc/soc:firmware/raspberrypi-hwmon/get_throttled",
)
# Bits of the firmware's word; the upper half says the same of the past.
_UNDER_VOLTAGE, _HELD_BACK = 0b0001, 0b1110


def read_throttle(tree: Tree, chips: list[Chip]) -> list[Reading]:
    """`throttled` and `under_voltage` (1 or 0, as of now) and `throttle_count` (events since boot, all cores)."""
    word, word_at = _firmware_word(tree)
    return [_throttled(tree, word, word_at), _under_voltage(tree, chips, word, word_at), _count(tree)]


def _firmware_word(tree: Tree) -> tuple[int | None, str]:
    for path in _RASPBERRY_PI:
        word = hexadecimal(tree.text(path))
        if word is not None:
            return word, path
    return None, _RASPBERRY_PI[0]


def _throttled(tree: Tree, word: int | None, word_at: str) -> Reading:
    witnesses: list[tuple[bool, str]] = []
    if word is not None:
        witnesses.append((bool(word & _HELD_BACK), word_at))
    for device in tree.names(_COOLING, "cooling_device"):
        folder = f"{_COOLING}/{device}"
        kind = (tree.text(f"{folder}/type") or "").lower()
        state = tree.integer(f"{folder}/cur_state")
        # Fans are cooling devices too, and no sign of throttling.
        if state is not None and ("cpufreq" in kind or kind == "processor"):
            witnesses.append((state > 0, f"{folder}/cur_state"))
    if not witnesses:
        return Reading("throttled", None, f"{_COOLING}/cooling_device*/cur_state {word_at}")
    held_back, source = max(witnesses, key=lambda witness: witness[0])
    return Reading("throttled", float(held_back), source)


def _under_voltage(tree: Tree, chips: list[Chip], word: int | None, word_at: str) -> Reading:
    if word is not None:
        return Reading("under_voltage", float(bool(word & _UNDER_VOLTAGE)), word_at)
    for chip in chips:
        if chip.name == "rpi_volt":
            path = f"{chip.folder}/in0_lcrit_alarm"
            alarm = tree.integer(path)
            return Reading("under_voltage", None if alarm is None else float(alarm != 0), path)
    return Reading("under_voltage", None, f"{word_at} {HWMON}/hwmon*/in0_lcrit_alarm")


def _count(tree: Tree) -> Reading:
    counts = [tree.integer(f"{CPUS}/{cpu}/thermal_throttle/core_throttle_count") for cpu in cpu_folders(tree)]
    known = [count for count in counts if count is not None]
    return Reading("throttle_count", sum(known) if known else None, f"{CPUS}/cpu*/thermal_throttle/core_throttle_count")
