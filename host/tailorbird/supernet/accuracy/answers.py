"""Answers: what the full network and every probed subnet say to the same few samples.

Changes add up where networks answer, before any distance is taken: the answer of a subnet is taken to be the full
network's plus the change that each of its factors makes alone. Its distance from the full network then counts changes
that point the same way more than once, and changes that cancel not at all, which a sum of distances cannot know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailorbird.errors import UsageError
from tailorbird.supernet.accuracy.memory import packed, unpacked
from tailorbird.supernet.loader import logits
from tailorbird.supernet.task import Task

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """reference: the full network's answers, one tensor (n, ...) for each batch of samples; changes: (factors,
    elements), in the same order of elements.
    """

    reference: tuple[Tensor, ...]
    changes: Tensor

    def distance(self, task: Task, weights: Sequence[tuple[int, float]]) -> float:
        """Mean distance from the full network after a weighted sum of changes, (index of the factor, weight) each."""
        rows = torch.tensor([row for row, _ in weights], dtype=torch.long)
        share = torch.tensor([weight for _, weight in weights], dtype=torch.float32)
        moved = share @ self.changes[rows]
        total = 0.0
        begin = 0
        for wanted in self.reference:
            change = moved[begin : begin + wanted.numel()].view(wanted.shape)
            total += float(task.distance(wanted + change, wanted)) * len(wanted)
            begin += wanted.numel()
        return total / sum(len(wanted) for wanted in self.reference)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Answers)
            and torch.equal(self.changes, other.changes)
            and len(self.reference) == len(other.reference)
            and all(torch.equal(a, b) for a, b in zip(self.reference, other.reference, strict=True))
        )

    def __hash__(self) -> int:
        return hash((self.changes.shape, len(self.reference)))

    def to_json(self) -> dict[str, Any]:
        """Shapes, and values as text, exactly."""
        return {
            "shapes": [list(wanted.shape) for wanted in self.reference],
            "reference": packed(b"".join(_floats(wanted).tobytes() for wanted in self.reference)),
            "changes": packed(_floats(self.changes).tobytes()),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Answers:
        """Inverse of to_json. Raises: ValueError."""
        shapes = [tuple(map(int, shape)) for shape in data["shapes"]]
        flat = _tensor(unpacked(data["reference"]))
        parts = flat.split([int(np.prod(shape)) for shape in shapes])
        reference = tuple(part.view(shape) for part, shape in zip(parts, shapes, strict=True))
        return cls(reference, _tensor(unpacked(data["changes"])).view(-1, len(flat)))


def comparable(task: Task, output: Any) -> Tensor | None:
    """The one tensor of an output that the task's distance looks at, on the CPU in single precision.

    None where that is not known: the distance is the user's own, and the output is more than a tensor.
    """
    try:
        ours = Task.of(task.name).distance is task.distance
    except UsageError:
        ours = False
    found = logits(output) if ours else output
    if not isinstance(found, Tensor) or not found.is_floating_point() or not found.ndim:
        return None
    return found.detach().float().cpu()


def _floats(tensor: Tensor) -> Floats:
    values: Floats = tensor.contiguous().numpy()
    return values.astype("<f4")


def _tensor(values: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(values, dtype="<f4").astype(np.float32))
