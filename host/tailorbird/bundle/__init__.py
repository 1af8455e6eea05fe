"""Bundles: pack, save, load, verify, inspect."""

from tailorbird.bundle.bundle import Bundle, named_blobs
from tailorbird.bundle.golden import Tensors, pack_golden, unpack_golden
from tailorbird.bundle.inspect import BundleSummary, RungSummary, inspect
from tailorbird.bundle.pack import MIN_GOLDEN, BuiltRung, RuntimeLibrary, pack

__all__ = [
    "MIN_GOLDEN",
    "BuiltRung",
    "Bundle",
    "BundleSummary",
    "RungSummary",
    "RuntimeLibrary",
    "Tensors",
    "inspect",
    "named_blobs",
    "pack",
    "pack_golden",
    "unpack_golden",
]
