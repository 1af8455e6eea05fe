"""One network, many subnets: compile, run, train, recalibrate, extract, predict accuracy."""

from tailorbird.supernet.accuracy import AccuracyTable, Anchor, Factor, Provenance, accuracy, accuracy_table
from tailorbird.supernet.elastic import elastic
from tailorbird.supernet.options import Options
from tailorbird.supernet.report import PinnedDimension, Report
from tailorbird.supernet.space import Dimension, SearchSpace
from tailorbird.supernet.supernet import SuperNet
from tailorbird.supernet.task import Task
from tailorbird.supernet.training import FitResult, fit

__all__ = [
    "AccuracyTable",
    "Anchor",
    "Dimension",
    "Factor",
    "FitResult",
    "Options",
    "PinnedDimension",
    "Provenance",
    "Report",
    "SearchSpace",
    "SuperNet",
    "Task",
    "accuracy",
    "accuracy_table",
    "elastic",
    "fit",
]
