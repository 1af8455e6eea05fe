"""How good is a subnet? Measured on data (`accuracy`), or predicted without learning (`accuracy_table`)."""

from tailorbird.supernet.accuracy.additive import Additive, Factor
from tailorbird.supernet.accuracy.anchors import choose_anchors
from tailorbird.supernet.accuracy.build import accuracy_table
from tailorbird.supernet.accuracy.confirm import confirm
from tailorbird.supernet.accuracy.curve import DecreasingCurve
from tailorbird.supernet.accuracy.decay import DecayCurve
from tailorbird.supernet.accuracy.evaluation import Evaluation
from tailorbird.supernet.accuracy.kriging import Kriging
from tailorbird.supernet.accuracy.measure import accuracy, evaluating
from tailorbird.supernet.accuracy.table import AccuracyTable, Anchor, Provenance

__all__ = [
    "AccuracyTable",
    "Additive",
    "Anchor",
    "DecayCurve",
    "DecreasingCurve",
    "Evaluation",
    "Factor",
    "Kriging",
    "Provenance",
    "accuracy",
    "accuracy_table",
    "choose_anchors",
    "confirm",
    "evaluating",
]
