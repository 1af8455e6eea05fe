"""What can go wrong in training besides bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from tailorbird.errors import TailorbirdError
from tailorbird.types import Config

#: Reason of a TrainingError: the weights are good, but going on from them leads to the same.
NOT_FINITE = "LOSS_NOT_FINITE"


class TrainingError(TailorbirdError):
    """Training cannot go on. The network keeps its last good weights."""

    default_reason = "TRAINING_FAILED"

    @classmethod
    def not_finite(cls, what: str, config: Config | None = None, value: float | None = None) -> Self:
        """A loss or gradient is NaN or infinite."""
        whose = "" if config is None else f" of {'the full network' if config.is_full else f'subnet {config.key}'}"
        return cls(
            f"the {what}{whose} is {'not finite' if value is None else value}",
            why="data that are not finite, too high a learning rate, or a loss that divides by zero",
            fix="check the data, or pass a smaller lr; the network holds the weights from before this step",
            reason=NOT_FINITE,
        )

    @classmethod
    def rank_lost(cls, rank: int, size: int, error: Exception) -> Self:
        """Another process of the same run does not answer."""
        cause = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        return cls(
            f"rank {rank} of {size} lost the others",
            why=f"one of them failed, was killed or does not answer: {cause}",
            fix="look at the first error of the other ranks; this network holds the weights of the last whole step",
            reason="RANK_LOST",
        )


class CheckpointError(TailorbirdError):
    """A checkpoint could not be written. The one before is still there, and the network holds its weights."""

    default_reason = "CHECKPOINT_NOT_WRITTEN"

    @classmethod
    def not_written(cls, path: Path, error: OSError) -> Self:
        """The system refused."""
        return cls(
            f"the checkpoint {path} could not be written",
            why=error.strerror or str(error),
            fix="make room there; what is trained is in the network: net.save(path) writes it elsewhere",
        )
