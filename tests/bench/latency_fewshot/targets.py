"""What is asked of the predictor, and whether it holds."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

from tests.bench.latency_fewshot.figures import Found, Which, mean
from tests.bench.latency_fewshot.tasks import SUITES, Pair
from tests.bench.latency_fewshot.trials import ADAPROXY, CHOSEN, OURS, RANDOM, RIDGE
from tests.bench.outcome import Outcome

#: HELP's own results on its split (its README; re-run from its checkpoint for FBNet: the same).
_HELP = {"nb201": 0.932, "fbnet": 0.910}
#: HELP's ten samples come on top of ten reference networks that its hardware embedding measures.
_HELP_SAMPLES = 20

_At = tuple[int, float]


def _all(pair: Pair) -> bool:
    return pair.suite == "nasflat"


def _measured(pair: Pair) -> bool:
    return pair.suite == "nasflat" and not pair.synthetic


# name, metric, of which pairs, limits by number of samples, comparison
_LIMITS: tuple[tuple[str, str, Which, tuple[_At, ...], str], ...] = (
    ("srcc", "srcc", _all, ((5, 0.80), (10, 0.88), (20, 0.91), (50, 0.93)), ">="),
    ("srcc_measured", "srcc", _measured, ((10, 0.86), (20, 0.90)), ">="),
    ("kendall", "kendall", _all, ((20, 0.78),), ">="),
    ("mape", "mape", _all, ((10, 5.5), (20, 4.5)), "<="),
    ("within10", "within10", _all, ((20, 89.0),), ">="),
)
_COMPARE: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le}
_COVERED = (87.0, 95.0)
#: Both are compared at these numbers of samples, in each with the samples that suit the rival better.
_RIVALS = (ADAPROXY, RIDGE)
_RIVAL_COUNTS = (5, 10, 20, 50, 100)
_COUNTS_WITH_INTERVAL = (5, 10, 20, 50, 100)


def declare(outcome: Outcome) -> None:
    """All targets, not met until measured."""
    for name, metric, which, limits, sign in _LIMITS:
        among = "measured targets" if which is _measured else "51 pairs"
        for count, limit in limits:
            outcome.target(f"{name}_{count}", f"{metric} of {among} with {count} samples {sign} {limit:g}")
    low, high = _COVERED
    for count in _COUNTS_WITH_INTERVAL:
        outcome.target(f"covered_{count}", f"the 90 % interval covers {low:g} to {high:g} % with {count} samples")
    for suite in SUITES:
        for rival in _RIVALS:
            outcome.target(f"above_{rival}_{suite}", f"{suite}: SRCC above {rival}'s best at {_RIVAL_COUNTS} samples")
    for space, limit in _HELP.items():
        outcome.target(f"help_{space}", f"HELP's split of {space}: SRCC above {limit} with 10 + 10 samples")


def judge(outcome: Outcome, found: Sequence[Found]) -> None:
    """Of trials that are complete."""
    for name, metric, which, limits, sign in _LIMITS:
        for count, limit in limits:
            value = ours(found, which, count).get(metric)
            outcome.judge(f"{name}_{count}", met=value is not None and _COMPARE[sign](value, limit))
    low, high = _COVERED
    for count in _COUNTS_WITH_INTERVAL:
        value = ours(found, _all, count).get("covered")
        outcome.judge(f"covered_{count}", met=value is not None and low <= value <= high)
    for suite in SUITES:
        for rival in _RIVALS:
            outcome.judge(f"above_{rival}_{suite}", met=_above(found, suite, rival))
    for space, limit in _HELP.items():
        value = ours(found, _help(space), _HELP_SAMPLES).get("srcc")
        outcome.judge(f"help_{space}", met=value is not None and value > limit)


def ours(found: Sequence[Found], which: Which, count: int) -> dict[str, float]:
    """Means of our predictor with the samples that it chooses."""
    return mean(found, which, sampling=CHOSEN, predictor=OURS, samples=count)


def _above(found: Sequence[Found], suite: str, rival: str) -> bool:
    for count in _RIVAL_COUNTS:
        value = ours(found, _in(suite), count).get("srcc")
        theirs = [
            mean(found, _in(suite), sampling=sampling, predictor=rival, samples=count).get("srcc")
            for sampling in (CHOSEN, RANDOM)
        ]
        if value is None or any(other is None or value <= other for other in theirs):
            return False
    return True


def _in(suite: str) -> Which:
    return lambda pair: pair.suite == suite


def _help(space: str) -> Which:
    return lambda pair: pair.suite == "help" and pair.space == space
