"""How the device is set to trade speed for energy: governor, boost, platform profile, a Jetson's power model.

Set by its owner, not by its state: figures measured in one mode do not hold in another.
"""

from __future__ import annotations

from tailorbird_agent.hardware.tree import CPUS, Tree, cpu_folders

_ONE_FILE = (
    ("boost", f"{CPUS}/cpufreq/boost"),
    ("no_turbo", f"{CPUS}/intel_pstate/no_turbo"),
    ("profile", "/sys/firmware/acpi/platform_profile"),
    ("nvpmodel", "/var/lib/nvpmodel/status"),
)
_PER_CORE = (("governor", "scaling_governor"), ("preference", "energy_performance_preference"))


def read_power_mode(tree: Tree) -> str:
    """`governor=performance boost=1`: what the kernel tells, in a fixed order; empty when it tells nothing."""
    cores = cpu_folders(tree)
    found = {name: {tree.text(f"{CPUS}/{core}/cpufreq/{file}") for core in cores} for name, file in _PER_CORE}
    found |= {name: {tree.text(path)} for name, path in _ONE_FILE}
    words = {name: "+".join(sorted(text for text in texts if text)) for name, texts in found.items()}
    return " ".join(f"{name}={'_'.join(text.split())}" for name, text in words.items() if text)
