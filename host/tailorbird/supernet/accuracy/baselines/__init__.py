"""Other ways to predict the accuracy of subnets, behind one interface: what an accuracy table stands beside.

Each takes a SuperNet first. Those that only rank subnets take `anchors`, evaluated subnets through which one decreasing
curve turns their score into accuracy; the curve is that of the table. `spread_subnets` chooses some.
"""

from tailorbird.supernet.accuracy.baselines.additive import additive, single_changes
from tailorbird.supernet.accuracy.baselines.macs import macs
from tailorbird.supernet.accuracy.baselines.mlp import mlp, random_subnets
from tailorbird.supernet.accuracy.baselines.naswot import naswot
from tailorbird.supernet.accuracy.baselines.params import params
from tailorbird.supernet.accuracy.baselines.predictor import AccuracyPredictor, Scored
from tailorbird.supernet.accuracy.baselines.spread import spread_subnets
from tailorbird.supernet.accuracy.baselines.synflow import synflow
from tailorbird.supernet.accuracy.baselines.zico import zico

__all__ = [
    "AccuracyPredictor",
    "Scored",
    "additive",
    "macs",
    "mlp",
    "naswot",
    "params",
    "random_subnets",
    "single_changes",
    "spread_subnets",
    "synflow",
    "zico",
]
