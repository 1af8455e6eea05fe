"""Every failure a user can cause, as one tree.

    TailorbirdError                what / why / fix, an exit code, a stable reason
    +-- UsageError                 2   the command or its input is wrong
    |   +-- ModelError                 the model cannot be loaded, exported or run on the given input
    |   |   +-- ElasticError               the model cannot become a SuperNet; names the op and the line of its code
    |   +-- InputShapeError            an input does not fit the model's signature
    |   +-- MissingFileError           a named file or folder is not there
    +-- CompileError               1   a backend could not build a rung
    |   +-- VerifyError                a compiled rung disagrees with torch
    +-- BundleError                1   a bundle is damaged or made for another device
    +-- GateError                  3   an SLO or a gate is not met
    +-- DeviceError                1   the agent refused or failed a call
    |   +-- DeviceUnreachableError 4   nothing answers at the address
    |   +-- LeaseError                 somebody else holds the device
    +-- NoisyResultError           5   the figures exist but are flagged noisy
    +-- InterruptedRunError      130   a run was stopped by a signal; what was done is in its checkpoint
    +-- EnvironmentFaultError      1   an import, a pin or a compiler is missing

The command line prints `what`, then `why`, then `fix`; `--json` prints the same four fields.
"""

from __future__ import annotations

from typing import ClassVar


class TailorbirdError(Exception):
    """Base of all errors meant for the user.

    what: one sentence naming what failed; why: the cause as far as it is known; fix: what to do next;
    reason: stable upper-snake identifier for machines (defaults to the class's own).
    """

    exit_code: ClassVar[int] = 1
    default_reason: ClassVar[str] = "FAILED"

    def __init__(self, what: str, *, why: str = "", fix: str = "", reason: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        self.reason = reason or self.default_reason

    def __str__(self) -> str:
        lines = (self.what, self.why and f"why: {self.why}", self.fix and f"fix: {self.fix}")
        return "\n".join(line for line in lines if line)


class UsageError(TailorbirdError):
    """The command line or an argument is wrong."""

    exit_code = 2
    default_reason = "USAGE"


class ModelError(UsageError):
    """The user's model cannot be loaded, exported or run."""

    default_reason = "MODEL_UNUSABLE"


class ElasticError(ModelError):
    """The user's model cannot be compiled to a SuperNet that computes the same."""

    default_reason = "MODEL_NOT_ELASTIC"


class InputShapeError(UsageError):
    """An input tensor does not fit the model's signature."""

    default_reason = "INPUT_SHAPE"


class MissingFileError(UsageError):
    """A file or folder the user named does not exist."""

    default_reason = "FILE_NOT_FOUND"


class CompileError(TailorbirdError):
    """A backend could not build a rung."""

    default_reason = "COMPILE_FAILED"


class VerifyError(CompileError):
    """A compiled rung's outputs disagree with torch beyond its tolerance."""

    default_reason = "VERIFY_FAILED"


class BundleError(TailorbirdError):
    """A bundle or blob is damaged, incomplete or made for another device."""

    default_reason = "BUNDLE_INVALID"


class GateError(TailorbirdError):
    """An SLO or a quality gate is not met."""

    exit_code = 3
    default_reason = "GATE_NOT_MET"


class DeviceError(TailorbirdError):
    """The agent refused or failed a call; `reason` is the agent's ErrorInfo.reason."""

    default_reason = "DEVICE_FAILED"


class DeviceUnreachableError(DeviceError):
    """Nothing answers at the device's address."""

    exit_code = 4
    default_reason = "DEVICE_UNREACHABLE"


class LeaseError(DeviceError):
    """Somebody else holds the device, or our lease was lost."""

    default_reason = "LEASE_CONFLICT"


class NoisyResultError(TailorbirdError):
    """Figures were produced, but their verdict is not `ok`."""

    exit_code = 5
    default_reason = "RESULT_NOISY"


class InterruptedRunError(TailorbirdError):
    """A run was stopped by a signal. What was done is in its checkpoint."""

    exit_code = 130
    default_reason = "INTERRUPTED"


class EnvironmentFaultError(TailorbirdError):
    """An import, a version pin or a compiler is missing."""

    default_reason = "ENVIRONMENT"
