"""How good is a subnet? Measured on data (`accuracy`), or predicted without learning (`accuracy_table`)."""

from tailorbird.supernet.accuracy.anchors import choose_anchors
from tailorbird.supernet.accuracy.curve import DecreasingCurve
from tailorbird.supernet.accuracy.measure import accuracy, evaluating
from tailorbird.supernet.accuracy.table import AccuracyTable, Anchor, Factor, Provenance, accuracy_table

__all__ = [
    "AccuracyTable",
    "Anchor",
    "DecreasingCurve",
    "Factor",
    "Provenance",
    "accuracy",
    "accuracy_table",
    "choose_anchors",
    "evaluating",
]
