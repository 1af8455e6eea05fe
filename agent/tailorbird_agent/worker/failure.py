"""Why a worker did not do what it was asked, in the words that reach the wire."""

from __future__ import annotations


class WorkerError(Exception):
    """A worker failed. reason is one of the agent's error reasons, message says what and why.

    RUNTIME_MISSING, MODULE_INVALID, GOLDEN_MISMATCH, OUT_OF_MEMORY: the plan cannot be served.
    WORKER_DIED, WORKER_TIMEOUT: the process ended, or hung and was killed.
    WORKER_BUSY, DEADLINE, INPUT_INVALID, RUNG_NOT_FOUND, RUNG_UNLOADED, RUNG_IN_USE, RUNG_TOO_LARGE: this request alone
    was refused or given up.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"
