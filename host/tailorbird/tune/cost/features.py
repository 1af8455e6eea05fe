"""What the cost model sees of a schedule: 164 numbers for each statement that writes a buffer.

They are MetaSchedule's PerStoreFeature, those of Ansor (Zheng et al., OSDI 2020, appendix B): counts of arithmetic,
vectorised, unrolled and parallel loops, how five buffers are touched, the curve of arithmetic intensity, the size of
what is allocated, how deep the statement lies. TVM gives logarithms, and nothing of the device is among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.api import Module
from tailorbird.tune.cost.errors import CostModelError
from tailorbird.tune.kernels import context_of, ms

Floats = npt.NDArray[np.float32]

#: Numbers per store.
WIDTH = 164


@cache
def _extractor() -> Any:
    return ms.feature_extractor.PerStoreFeature()


def store_features(mod: Module, schedules: Sequence[Any], target: CompileTarget) -> list[Floats]:
    """(stores, WIDTH) of each schedule of one kernel. About 3 ms each.

    Raises CostModelError when this release of TVM describes a store by another number of features.
    """
    return candidate_features(context_of(mod, target), [_candidate(schedule) for schedule in schedules])


def candidate_features(context: Any, candidates: Sequence[Any]) -> list[Floats]:
    """The same, of MetaSchedule's candidates in the context of their kernel."""
    if not candidates:
        return []
    found = [np.asarray(each.numpy(), np.float32) for each in _extractor().extract_from(context, list(candidates))]
    for each in found:
        if each.ndim != 2 or each.shape[1] != WIDTH:
            raise CostModelError(
                "this TVM describes schedules otherwise than the cost model knows them",
                why=f"its features have the shape {each.shape}, not (stores, {WIDTH})",
                fix="install the release of apache-tvm that Tailorbird pins, or tune without a cost model",
            )
    return found


def _candidate(schedule: Any) -> Any:
    arguments = ms.arg_info.ArgInfo.from_entry_func(schedule.mod, remove_preproc=True)
    return ms.search_strategy.MeasureCandidate(schedule, arguments)
