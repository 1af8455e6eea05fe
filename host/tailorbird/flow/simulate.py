"""Adaptation policies replayed on recorded latency matrices, with the code that decides on the device.

That code, `tailorbird_agent.adapt`, is the only part of the agent that the host imports: pure Python, to be shared.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tailorbird.config import parse_us
from tailorbird.errors import MissingFileError, UsageError
from tailorbird_agent.adapt import POLICY_NAMES, make_policy
from tailorbird_agent.adapt.simulate import Bars, Score, replay, score
from tailorbird_agent.adapt.trace import SCHEMA, Trace, parse_trace


@dataclass(frozen=True, slots=True)
class Slo:
    """A deadline: microseconds, or a multiple of the largest rung's on-CPU time. words: as the user wrote it."""

    words: str
    us: float | None = None
    multiple: float | None = None

    def on(self, trace: Trace) -> float:
        """The deadline for a trace, microseconds."""
        return self.us or (self.multiple or 0.0) * trace.ladder[-1].cpu_us


@dataclass(frozen=True, slots=True)
class Cell:
    """All policies and references on one trace at one deadline."""

    trace: str
    slo: str
    slo_us: float
    requests: int
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """One policy over all cells, percent and shares; worst: the lowest of a figure in any cell."""

    policy: str
    effective_accuracy: float
    percent_of_segment_oracle: float
    worst_percent_of_segment_oracle: float
    percent_of_best_static: float
    worst_percent_of_best_static: float
    miss_rate: float
    switches_per_1000: float


def read_trace(path: Path) -> Trace:
    """A recorded latency matrix.

    Raises:
        MissingFileError: there is no such file. UsageError: it is no trace.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise MissingFileError(
            f"cannot read {path}", why=error.strerror or str(error), fix="record one with `tailorbird record`"
        ) from error
    except UnicodeDecodeError as error:
        raise _no_trace(path, "it is not text") from error
    try:
        return parse_trace(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise _no_trace(path, str(error)) from error


def _no_trace(path: Path, why: str) -> UsageError:
    return UsageError(f"{path} is no trace", why=why, fix=f"give a file of schema {SCHEMA}, as `record` writes it")


def parse_slos(text: str) -> tuple[Slo, ...]:
    """Deadlines such as "1.5x,2.4x" (of the largest rung's on-CPU time) and "25ms", separated by commas.

    Raises:
        UsageError: one is neither, or not above zero.
    """
    found = []
    for words in (each.strip() for each in text.split(",")):
        slo = _multiple(words) or Slo(words, us=parse_us(words))
        if not (slo.us or slo.multiple or 0.0) > 0.0:
            raise UsageError(f"the deadline {words!r} is not above zero", fix="write it like 25ms or 2.4x")
        found.append(slo)
    return tuple(found)


def _multiple(words: str) -> Slo | None:
    if not words.endswith("x"):
        return None
    try:
        return Slo(words, multiple=float(words[:-1]))
    except ValueError:
        raise UsageError(f"{words!r} is no multiple", fix="write it like 2.4x, or give a time like 25ms") from None


def policy_names(text: str) -> tuple[str, ...]:
    """Names separated by commas; "all" is every policy."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    return tuple(dict.fromkeys(each for name in names for each in (POLICY_NAMES if name == "all" else (name,))))


def simulate(name: str, trace: Trace, slo: Slo, policies: Sequence[str]) -> Cell:
    """Replay policies on one trace; the references follow them.

    Raises:
        UsageError: a policy is unknown.
    """
    deadline_us = slo.on(trace)
    try:
        made = [make_policy(policy, trace.ladder) for policy in policies]
    except ValueError as error:
        raise UsageError(str(error), fix="see `tailorbird simulate --help`") from error
    bars = Bars.of(trace, deadline_us)
    runs = (*(replay(policy, trace, deadline_us) for policy in made), *bars)
    scores = tuple(score(run, trace, deadline_us, bars) for run in runs)
    return Cell(name, slo.words, deadline_us, len(trace), scores)


def summarise(cells: Sequence[Cell]) -> tuple[Summary, ...]:
    """Mean and worst figures of each policy that ran in every cell; cells count alike."""
    by_policy: dict[str, list[Score]] = {}
    for cell in cells:
        for each in cell.scores:
            by_policy.setdefault(each.policy, []).append(each)
    return tuple(_summary(policy, scores) for policy, scores in by_policy.items() if len(scores) == len(cells))


def _summary(policy: str, scores: Sequence[Score]) -> Summary:
    return Summary(
        policy,
        statistics.fmean(each.effective_accuracy for each in scores),
        statistics.fmean(each.percent_of_segment_oracle for each in scores),
        min(each.percent_of_segment_oracle for each in scores),
        statistics.fmean(each.percent_of_best_static for each in scores),
        min(each.percent_of_best_static for each in scores),
        statistics.fmean(each.miss_rate for each in scores),
        statistics.fmean(each.switches_per_1000 for each in scores),
    )
