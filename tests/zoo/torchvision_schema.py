"""Declares torchvision's operators where its compiled library does not load, as with a torch built without CUDA.

torchvision registers fake kernels when it is imported and fails when the operators they belong to are unknown. No
network of the zoo runs one of these operators. Call `declare()` before torchvision, timm or transformers are imported.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import torch

_ROI = "Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width"
_DEFORM = "Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias"
_STRIDES = "SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w"
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    f"roi_align({_ROI}, int sampling_ratio, bool aligned) -> Tensor",
    f"roi_pool({_ROI}) -> (Tensor, Tensor)",
    f"ps_roi_align({_ROI}, int sampling_ratio) -> (Tensor, Tensor)",
    f"ps_roi_pool({_ROI}) -> (Tensor, Tensor)",
    f"deform_conv2d({_DEFORM}, {_STRIDES}, SymInt groups, SymInt offset_groups, bool use_mask) -> Tensor",
)


@functools.cache
def declare() -> torch.library.Library | None:
    """Make torchvision importable. Returns what keeps the declarations alive, None where none were needed."""
    if hasattr(torch.ops.torchvision, "nms") or _native_library_loads():
        return None
    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    return library


def _native_library_loads() -> bool:
    found = importlib.util.find_spec("torchvision")
    folder = Path(found.origin).parent if found is not None and found.origin else None
    for path in folder.glob("_C*.so") if folder is not None else ():
        try:
            torch.ops.load_library(path)
        except OSError:
            continue
        return hasattr(torch.ops.torchvision, "nms")
    return False
