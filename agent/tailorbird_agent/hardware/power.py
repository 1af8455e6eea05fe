"""Battery, and power or energy of every rail that the device meters."""

from __future__ import annotations

from tailorbird_agent.hardware.hwmon import HWMON, Chip
from tailorbird_agent.hardware.reading import Reading
from tailorbird_agent.hardware.tree import Tree

_SUPPLIES = "/sys/class/power_supply"
_RAPL = "/sys/class/powercap"
_DISCHARGING = {"discharging": 1.0, "charging": 0.0, "full": 0.0, "not charging": 0.0}


def read_power(tree: Tree, chips: list[Chip]) -> list[Reading]:
    """`battery_percent`, `battery_discharging` (1 or 0), `power_w.RAIL` and `energy_j.DOMAIN` (a counter)."""
    rails = [*_supply_rails(tree), *_hwmon_rails(tree, chips), *_energy(tree)]
    if not any(rail.name.startswith("power_w") for rail in rails):
        rails.append(Reading("power_w", None, f"{_SUPPLIES}/*/power_now {HWMON}/hwmon*/power*_input"))
    return [*_battery(tree), *rails]


def _battery(tree: Tree) -> list[Reading]:
    for supply in _supplies(tree):
        folder = f"{_SUPPLIES}/{supply}"
        # Scope "Device" is a mouse's or keyboard's battery.
        if tree.text(f"{folder}/type") == "Battery" and tree.text(f"{folder}/scope") != "Device":
            status = (tree.text(f"{folder}/status") or "").lower()
            return [
                Reading("battery_percent", tree.integer(f"{folder}/capacity"), f"{folder}/capacity"),
                Reading("battery_discharging", _DISCHARGING.get(status), f"{folder}/status"),
            ]
    return [
        Reading("battery_percent", None, f"{_SUPPLIES}/*/capacity"),
        Reading("battery_discharging", None, f"{_SUPPLIES}/*/status"),
    ]


def _supplies(tree: Tree) -> list[str]:
    return tree.names(_SUPPLIES)


def _supply_rails(tree: Tree) -> list[Reading]:
    rails = []
    for supply in _supplies(tree):
        folder = f"{_SUPPLIES}/{supply}"
        microwatts = tree.integer(f"{folder}/power_now")
        if microwatts is not None:
            rails.append(Reading(f"power_w.{supply}", abs(microwatts) / 1e6, f"{folder}/power_now"))
            continue
        microamperes, microvolts = tree.integer(f"{folder}/current_now"), tree.integer(f"{folder}/voltage_now")
        if microamperes is not None and microvolts is not None:
            watts = abs(microamperes) * microvolts / 1e12
            rails.append(Reading(f"power_w.{supply}", watts, f"{folder}/current_now x voltage_now"))
    return rails


def _hwmon_rails(tree: Tree, chips: list[Chip]) -> list[Reading]:
    rails = []
    for chip in chips:
        metered = set(chip.channels("power", "input"))
        for channel in sorted(metered):
            path = f"{chip.folder}/power{channel}_input"
            label = tree.text(f"{chip.folder}/power{channel}_label") or f"{chip.name}.{channel}"
            microwatts = tree.integer(path)
            rails.append(Reading(f"power_w.{label}", None if microwatts is None else microwatts / 1e6, path))
        # Shunt monitors such as Jetson's ina3221 give volts and amperes only; those of one rail share a number.
        for channel in sorted(set(chip.channels("curr", "input")) & set(chip.channels("in", "input")) - metered):
            millivolts = tree.integer(f"{chip.folder}/in{channel}_input")
            milliamperes = tree.integer(f"{chip.folder}/curr{channel}_input")
            label = tree.text(f"{chip.folder}/in{channel}_label") or f"{chip.name}.{channel}"
            watts = None if millivolts is None or milliamperes is None else millivolts * milliamperes / 1e6
            rails.append(Reading(f"power_w.{label}", watts, f"{chip.folder}/in{channel}_input x curr{channel}_input"))
    return rails


def _energy(tree: Tree) -> list[Reading]:
    """RAPL counters; since Linux 5.10 only root may read them."""
    domains = []
    for domain in tree.names(_RAPL, "intel-rapl:"):
        path = f"{_RAPL}/{domain}/energy_uj"
        microjoules = tree.integer(path)
        name = tree.text(f"{_RAPL}/{domain}/name") or domain
        domains.append(Reading(f"energy_j.{name}", None if microjoules is None else microjoules / 1e6, path))
    return domains
