"""Which micro-benchmarks to run on a device, running them through its agent, and remembering them."""

from tailorbird.profile.cost import ProfileCost
from tailorbird.profile.fusion import FusionRule, Fusions, fusion_probes
from tailorbird.profile.plan import MOST_KERNELS, KernelPlan, covering_subnets, family, plan_kernels
from tailorbird.profile.run import profile_chains, profile_device, profile_kernels, profile_subnets
from tailorbird.profile.table import KernelTable, KernelTime, seconds_of
from tailorbird.profile.template import KernelsOf, KernelTemplate, learn_kernels

__all__ = [
    "MOST_KERNELS",
    "FusionRule",
    "Fusions",
    "KernelPlan",
    "KernelTable",
    "KernelTemplate",
    "KernelTime",
    "KernelsOf",
    "ProfileCost",
    "covering_subnets",
    "family",
    "fusion_probes",
    "learn_kernels",
    "plan_kernels",
    "profile_chains",
    "profile_device",
    "profile_kernels",
    "profile_subnets",
    "seconds_of",
]
