"""Train all subnets of a SuperNet together (`fit`)."""

from tailorbird.supernet.training.fit import FitResult, fit

__all__ = ["FitResult", "fit"]
