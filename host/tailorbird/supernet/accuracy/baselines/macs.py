"""MACs as a predictor of accuracy: the more a subnet computes, the better it is taken to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailorbird.supernet.accuracy.baselines.predictor import Scored
from tailorbird.supernet.accuracy.evaluation import Evaluations

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


def macs(net: SuperNet, anchors: Evaluations | None = None) -> Scored:
    """Ranks by multiply-accumulates of one sample; with anchors, predicts accuracy."""
    return Scored("macs", net.space, lambda config: float(net.macs(config)), anchors)
