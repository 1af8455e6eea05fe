"""Run-time adaptation: which subnet of a ladder answers the next request.

Pure Python without third-party imports, clocks, files or threads, so the code that is simulated on the host is the code
that runs on the board. `make_policy` builds a policy; `caps` turns sensor readings into the largest rung allowed;
`trace` and `simulate` replay policies on recorded latency matrices.
"""

from tailorbird_agent.adapt.ladder import Ladder, RungProfile, make_ladder
from tailorbird_agent.adapt.policy import Decision, Policy
from tailorbird_agent.adapt.registry import POLICY_NAMES, make_policy
from tailorbird_agent.adapt.switch import Cause, Return, Switch

__all__ = [
    "POLICY_NAMES",
    "Cause",
    "Decision",
    "Ladder",
    "Policy",
    "Return",
    "RungProfile",
    "Switch",
    "make_ladder",
    "make_policy",
]
