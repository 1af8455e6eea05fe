"""Saver: when the checkpoints of a run are written, and what becomes of one that cannot be."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from tailorbird.config import parse_seconds
from tailorbird.errors import UsageError
from tailorbird.supernet.task import Task
from tailorbird.supernet.training.checkpoint import Checkpoint
from tailorbird.supernet.training.failure import NOT_FINITE, CheckpointError, TrainingError
from tailorbird.supernet.training.run import Run

_LARGEST_PART = 0.02  # of the time may go into checkpoints, where their distance is given as a time


class Saver:
    """Writes checkpoints of a run.

    every: steps; or a time like "60s", the least one between two checkpoints: they are further apart where they take
    more than 2 % of the time otherwise. failures: how often one could not be written.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        task: Task,
        every: int | str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if isinstance(every, bool) or not isinstance(every, int | str):
            raise UsageError(f"every is {every!r}", fix='pass a number of steps, or a time like "60s"')
        self._checkpoint, self._task, self._clock = checkpoint, task, clock
        self._steps = every if isinstance(every, int) else None
        self._seconds = 0.0 if isinstance(every, int) else parse_seconds(every)
        if self._steps is not None and self._steps < 1:
            raise UsageError(f"every is {every}", fix='pass a number of steps, or a time like "60s"')
        self._next_s = 0.0
        self.failures = 0

    def begin(self, run: Run, *, new: bool) -> None:
        """Before the first step. A new run is written: that there is no room is found out before anything is done.

        Raises: CheckpointError.
        """
        if new:
            self.write(run, run.state())
        self._next_s = max(self._next_s, self._clock() + self._seconds)

    def after(self, run: Run) -> None:
        """Write a checkpoint if it is time. One that cannot be written is noted: the run goes on without it."""
        due = run.step % self._steps == 0 if self._steps else self._clock() >= self._next_s
        if due and (error := self.tried(run, run.state())) is not None:
            self.failures += 1
            if self.failures == 1:
                run.note = f"{error.what} ({error.why}); training goes on"

    def rescue(self, run: Run, error: Exception) -> None:
        """Before an error ends the run: keep what is done, but not what leads to a loss that is not finite."""
        bad = isinstance(error, TrainingError) and error.reason == NOT_FINITE
        if not bad and (failed := self.tried(run, run.state())) is not None:
            error.add_note(str(failed))

    def tried(self, run: Run, state: Mapping[str, Any]) -> CheckpointError | None:
        """Write one now, or say why not."""
        try:
            self.write(run, state)
        except CheckpointError as error:
            return error
        return None

    def write(self, run: Run, state: Mapping[str, Any], final: Mapping[str, Tensor] | None = None) -> None:
        """Write one now, on the first rank. final: see Checkpoint.write. Raises: CheckpointError."""
        began = self._clock()
        try:
            if run.ranks.rank == 0:
                self._checkpoint.write(run.net, self._task, state, final)
        finally:
            now = self._clock()
            self._next_s = now + max(self._seconds, (now - began) / _LARGEST_PART)
