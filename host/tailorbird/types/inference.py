"""One answer of a served model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Inference:
    """Outputs by tensor name and what the answer cost.

    version: "<first 12 hex digits of the bundle>/<rung>" that answered; times are microseconds on the agent;
    missed: whether the deadline passed, None when the model has none.
    """

    outputs: Mapping[str, NDArray[np.generic]]
    version: str
    wall_us: float
    cpu_us: float
    queue_us: float
    missed: bool | None

    @property
    def rung(self) -> str:
        """Name of the rung that answered."""
        return self.version.rpartition("/")[2]
