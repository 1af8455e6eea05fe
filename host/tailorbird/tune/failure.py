"""Why a candidate has no time: five kinds, counted. One that fails is a value; a run in which all fail is an error."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field

from tailorbird.errors import TailorbirdError
from tailorbird.types import Measurement


class FailureKind(enum.StrEnum):
    """What went wrong with a candidate, in the order in which it could have."""

    INVALID = "invalid schedule"
    BUILD = "build"
    TIMEOUT = "timeout"
    CRASH = "crash"
    WRONG = "wrong result"


@dataclass(frozen=True, slots=True)
class Failure:
    """A kind and the words behind it. As text it is "kind: words", which is how records keep it."""

    kind: FailureKind
    words: str

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.words}"

    @classmethod
    def parse(cls, text: str) -> Failure | None:
        """The failure a text was written from; None for other texts, such as errors of earlier releases."""
        for kind in FailureKind:
            if text.startswith(f"{kind.value}: "):
                return cls(kind, text.removeprefix(f"{kind.value}: "))
        return None


def failure_of(outcome: Measurement) -> Failure | None:
    """The failure of a candidate that an agent has tried to time; None when there are times."""
    if outcome.ok:
        return None
    if outcome.error.startswith(("WORKER_TIMEOUT", "TooSlowError")):
        return Failure(FailureKind.TIMEOUT, outcome.error)
    if outcome.error.startswith("WrongAnswerError"):
        return Failure(FailureKind.WRONG, outcome.error.partition(": ")[2])
    return Failure(FailureKind.CRASH, outcome.error or "the agent sent neither times nor an error")


def words_of(error: Exception) -> str:
    """An error of a compiler in one line: the last, which is the one TVM says something in."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1][:300]}"


class TuningError(TailorbirdError):
    """Tuning came to nothing."""

    default_reason = "TUNING_FAILED"


@dataclass(slots=True)
class Tally:
    """How many candidates were tried, and how those failed that did; with the last words of each kind."""

    trials: int = 0
    failures: Counter[FailureKind] = field(default_factory=Counter)
    examples: dict[FailureKind, str] = field(default_factory=dict)

    def count(self, failure: Failure | None) -> None:
        """Take in one candidate."""
        self.trials += 1
        if failure is not None:
            self.failures[failure.kind] += 1
            self.examples[failure.kind] = failure.words

    @property
    def by_kind(self) -> tuple[tuple[str, int], ...]:
        """(kind, candidates) of those that failed."""
        return tuple((kind.value, self.failures[kind]) for kind in FailureKind if self.failures[kind])

    @property
    def failed(self) -> int:
        """Candidates without a time."""
        return self.failures.total()

    def require_success(self) -> None:
        """Raises TuningError when candidates were tried and none has a time."""
        if not self.trials or self.failed < self.trials:
            return
        raise TuningError(
            f"none of {self.trials} candidates could be timed",
            why="; ".join(f"{n} {kind}, such as {self.examples[FailureKind(kind)]!r}" for kind, n in self.by_kind),
            fix="see `tailorbird doctor` for the device; for build and crash the words name the compiler or runtime",
        )
