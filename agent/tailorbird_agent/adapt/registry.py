"""Policies by name, as the command line, the agent's configuration and the simulator ask for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

from tailorbird_agent.adapt.alert import Alert, AlertSettings, CalmAlertSettings
from tailorbird_agent.adapt.ladder import Ladder, make_ladder
from tailorbird_agent.adapt.policy import Policy
from tailorbird_agent.adapt.slackfit import SlackFit
from tailorbird_agent.adapt.static import Static
from tailorbird_agent.adapt.threshold import Threshold, ThresholdSettings
from tailorbird_agent.adapt.two_channel import TwoChannel, TwoChannelSettings

_ADAPTIVE: dict[str, tuple[Callable[[Ladder, Any], Policy], type[Any]]] = {
    "two-channel": (TwoChannel, TwoChannelSettings),
    "threshold": (Threshold, ThresholdSettings),
    "alert": (Alert, AlertSettings),
    "alert-hysteresis": (partial(Alert, name="alert-hysteresis"), CalmAlertSettings),
}
POLICY_NAMES = ("two-channel", "static-small", "static-large", "threshold", "alert", "alert-hysteresis", "slackfit")


def make_policy(name: str, ladder: Ladder, **settings: float) -> Policy:
    """Make a policy: one of POLICY_NAMES, or `static:RUNG` for a rung by its name.

    Raises:
        ValueError: unknown policy, rung or setting; the message lists those that exist.
    """
    ladder = make_ladder(ladder)
    if name in _ADAPTIVE:
        build, settings_type = _ADAPTIVE[name]
        _check(name, settings, tuple(field.name for field in fields(settings_type)))
        return build(ladder, settings_type(**settings))
    if name == "slackfit":
        _check(name, settings, ())
        return SlackFit(ladder)
    rungs = {"static-small": 0, "static-large": len(ladder) - 1}
    rungs.update((f"static:{rung.name}", index) for index, rung in enumerate(ladder))
    if name in rungs:
        _check(name, settings, ())
        return Static(name, ladder, rungs[name])
    known = (*POLICY_NAMES, *(each for each in rungs if each not in POLICY_NAMES))
    raise ValueError(f"unknown policy {name!r}; there are: {', '.join(known)}")


def _check(policy: str, settings: dict[str, float], known: tuple[str, ...]) -> None:
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ValueError(
            f"policy {policy} has no setting {', '.join(unknown)}; there are: {', '.join(known) or 'none'}"
        )
