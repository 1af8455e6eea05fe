"""Train all subnets of a SuperNet together (`fit`)."""

from tailorbird.supernet.training.fit import FitResult, fit
from tailorbird.supernet.training.subnet import TunedSubnet, fine_tune

__all__ = ["FitResult", "TunedSubnet", "fine_tune", "fit"]
