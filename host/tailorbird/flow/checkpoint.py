"""The checkpoint of a training run: where it lies, when it goes, and what to tell when a run is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailorbird.cache import StageResult
from tailorbird.errors import InterruptedRunError, UsageError
from tailorbird.flow.workspace import Workspace
from tailorbird.supernet.training import FitResult

#: What ends a run. A run may go on under another plan, so its checkpoint is not called by these.
_PLAN = ("epochs", "steps", "budget_s")


@dataclass(frozen=True, slots=True)
class Checkpointing:
    """What the user wants. path: None for a file of the workspace that goes when the run is done."""

    path: Path | None = None
    resume: bool = False


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file for a run, None for none. own: it belongs to the workspace and goes when the run is done."""

    path: Path | None
    own: bool = False
    resume: bool = False

    @classmethod
    def of(
        cls, workspace: Workspace, stage: str, inputs: Mapping[str, Any], wanted: Checkpointing | None
    ) -> Checkpoint:
        """The user's own file, or one of the workspace that is called by what the run is made from."""
        if wanted is None or wanted.path is not None:
            return cls(None) if wanted is None else cls(wanted.path, resume=wanted.resume)
        recipe = {name: value for name, value in inputs["recipe"].items() if name not in _PLAN}
        key = workspace.cache.key(stage, {**inputs, "recipe": recipe})
        return cls(workspace.settings.home / "checkpoints" / f"{stage}-{key[:20]}.pt", own=True, resume=wanted.resume)

    def check(self) -> None:
        """Whether a run may begin; `fit` looks at the rest.

        Raises:
            UsageError: there is nothing to resume, or something that should not be lost.
        """
        if self.path is None:
            return
        if self.resume and not self.path.is_file():
            raise UsageError(
                "there is no interrupted run to resume",
                why=f"{self.path} does not exist; a run is found again by the same network, data and options",
                fix="give the options of the interrupted run (--budget, --steps and --epochs may be others), "
                "or leave out --resume",
                reason="NOTHING_TO_RESUME",
            )
        if self.path.is_file() and not self.resume:
            raise UsageError(
                "there is a checkpoint of this run already",
                why=f"a new run would overwrite {self.path}",
                fix="go on from it with --resume, or remove it to start anew",
                reason="RUN_INTERRUPTED",
            )

    def arguments(self) -> dict[str, Any]:
        """For `fit`."""
        return {} if self.path is None else {"checkpoint": self.path, "resume": self.resume}

    def interrupted(self, done: FitResult) -> None:
        """Raises: InterruptedRunError when a run did not come to its end."""
        if done.stopped_by == "interrupted":
            raise InterruptedRunError(
                f"training was interrupted after step {done.steps}",
                why=f"everything up to there is in {self.path}",
                fix="give the same command again with --resume to go on",
            )

    def built(
        self, workspace: Workspace, stage: str, inputs: Mapping[str, Any], build: Callable[[Path], None]
    ) -> StageResult:
        """The result of a stage: found, or made by `build`, whose run this checkpoint is of.

        Raises:
            UsageError: see check; besides, what `build` raises.
        """
        found = workspace.cache.find(stage, inputs)
        if found is not None:
            return found
        self.check()
        result = workspace.cache.run(stage, inputs, build)
        if self.own and self.path is not None:
            self.path.unlink(missing_ok=True)
        return result
