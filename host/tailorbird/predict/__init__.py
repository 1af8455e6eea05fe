"""Latency predictors and how far to trust them.

Of one device from its kernels: KernelSum. Of a device hardly measured from others (Transfer): HierarchicalGP, AdaProxy
and RichRidge on a ProxyTable; tailorbird.predict.proxy has the functions to call.
"""

from tailorbird.predict.adaproxy import AdaProxy
from tailorbird.predict.autotailor import AutoTailor
from tailorbird.predict.base import LatencyModel, PredictionError, Sample
from tailorbird.predict.features import FeatureMap, features
from tailorbird.predict.hgp import HierarchicalGP
from tailorbird.predict.interpolate import KernelInterpolator, interpolation_error
from tailorbird.predict.kernel_sum import Calibration, KernelSum
from tailorbird.predict.proxy_table import ProxyTable
from tailorbird.predict.ridge import RichRidge
from tailorbird.predict.samples import choose_samples
from tailorbird.predict.transfer import FittedTransfer, Prediction, Samples, Transfer

__all__ = [
    "AdaProxy",
    "AutoTailor",
    "Calibration",
    "FeatureMap",
    "FittedTransfer",
    "HierarchicalGP",
    "KernelInterpolator",
    "KernelSum",
    "LatencyModel",
    "Prediction",
    "PredictionError",
    "ProxyTable",
    "RichRidge",
    "Sample",
    "Samples",
    "Transfer",
    "choose_samples",
    "features",
    "interpolation_error",
]
