"""Train all subnets of a SuperNet together (`fit`)."""

from tailorbird.supernet.training.fit import FitResult, fit
from tailorbird.supernet.training.progress import OnProgress, Progress
from tailorbird.supernet.training.recipe import Recipe
from tailorbird.supernet.training.subnet import SOFT, TunedSubnet, fine_tune

__all__ = ["SOFT", "FitResult", "OnProgress", "Progress", "Recipe", "TunedSubnet", "fine_tune", "fit"]
