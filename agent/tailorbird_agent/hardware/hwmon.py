"""Chips of the kernel's hardware monitoring class."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tailorbird_agent.hardware.tree import Tree

HWMON = "/sys/class/hwmon"


@dataclass(frozen=True, slots=True)
class Chip:
    """One chip: its folder, its driver's name and the files in the folder."""

    folder: str
    name: str
    files: tuple[str, ...]

    def channels(self, kind: str, suffix: str) -> Iterator[int]:
        """Numbers of the channels that have a file such as temp1_input."""
        pattern = re.compile(rf"{kind}(\d+)_{suffix}")
        for file in self.files:
            match = pattern.fullmatch(file)
            if match:
                yield int(match[1])


def chips(tree: Tree) -> list[Chip]:
    """All chips, in the kernel's order."""
    found = []
    for entry in tree.names(HWMON, "hwmon"):
        folder = f"{HWMON}/{entry}"
        found.append(Chip(folder, tree.text(f"{folder}/name") or entry, tuple(tree.names(folder))))
    return found
