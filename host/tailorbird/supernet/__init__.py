"""One network, many subnets: compile, run, train, recalibrate, extract, predict accuracy."""

from tailorbird.supernet.accuracy import accuracy
from tailorbird.supernet.elastic import elastic
from tailorbird.supernet.report import PinnedDimension, Report
from tailorbird.supernet.space import Dimension, SearchSpace
from tailorbird.supernet.supernet import Options, SuperNet
from tailorbird.supernet.train import FitResult, fit

__all__ = [
    "Dimension",
    "FitResult",
    "Options",
    "PinnedDimension",
    "Report",
    "SearchSpace",
    "SuperNet",
    "accuracy",
    "elastic",
    "fit",
]
