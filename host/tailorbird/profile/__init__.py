"""Which micro-benchmarks to run on a device, running them through its agent, and remembering them."""

from tailorbird.profile.plan import KernelPlan, family, plan_kernels
from tailorbird.profile.run import profile_device, profile_kernels, profile_subnets
from tailorbird.profile.table import KernelTable, KernelTime
from tailorbird.profile.template import KernelsOf, KernelTemplate, learn_kernels

__all__ = [
    "KernelPlan",
    "KernelTable",
    "KernelTemplate",
    "KernelTime",
    "KernelsOf",
    "family",
    "learn_kernels",
    "plan_kernels",
    "profile_device",
    "profile_kernels",
    "profile_subnets",
]
