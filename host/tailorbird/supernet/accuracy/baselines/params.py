"""Parameters as a predictor of accuracy.

Li et al., "ZiCo", ICLR 2023, find that none of the zero-shot proxies before theirs is consistently better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailorbird.supernet.accuracy.baselines.predictor import Scored
from tailorbird.supernet.accuracy.evaluation import Evaluations

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


def params(net: SuperNet, anchors: Evaluations | None = None) -> Scored:
    """Ranks by the number of parameters; with anchors, predicts accuracy."""
    return Scored("params", net.space, lambda config: float(net.params(config)), anchors)
