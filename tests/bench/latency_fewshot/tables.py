"""The published tables: architectures, devices, milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from tests.bench.latency_fewshot import features

SPACES = ("nb201", "nb201x41", "fbnet", "ofa")

#: Columns that no board was measured for: sums of a table of operators (FBNet), simulators (Eyeriss, FPGA of NB201).
SYNTHETIC = {
    "nb201": {"eyeriss", "fpga"},
    "nb201x41": {"help_eyeriss", "help_fpga"},
    "fbnet": {"eyeriss", "fpga", "raspi4", "pixel3"},
    "ofa": set(),
}


@dataclass(frozen=True, eq=False)
class Table:
    """latency_ms: (N, D), NaN where a model did not run; one_hot and rich: features (N, P), unscaled."""

    space: str
    devices: tuple[str, ...]
    latency_ms: np.ndarray
    one_hot: np.ndarray
    rich: np.ndarray

    def of(self, device: str) -> np.ndarray:
        return self.latency_ms[:, self.devices.index(device)]


@lru_cache(maxsize=len(SPACES))
def table(data: Path, space: str) -> Table:
    """Read DIR/latency/SPACE/latency.npz."""
    with np.load(data / "latency" / space / "latency.npz", allow_pickle=False) as stored:
        genes = stored["archs"].astype(int)
        operators = tuple(map(str, stored["op_names"])) if "op_names" in stored.files else ()
        devices = tuple(map(str, stored["devices"]))
        latency = stored["latency_ms"].astype(float)
    one_hot, structure = features.of(space, genes, operators)
    return Table(space, devices, latency, one_hot, np.concatenate([one_hot, structure], axis=1))
