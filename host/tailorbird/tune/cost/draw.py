"""Schedules to learn from, drawn without regard to any device: every device can be asked about the same ones."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from tailorbird.compile.tvm.api import tvm
from tailorbird.tune.kernels import Kernel, decisions_of, workload_key
from tailorbird.tune.space import Decisions, VectorUnit, sample

#: Between those of the devices: half of the prior's schedules suit neither 128 nor 512 bits best.
_UNITS = (VectorUnit(4, 16), VectorUnit(8, 16), VectorUnit(16, 32))
_ATTEMPTS = 6  # draws per schedule that is wanted; small kernels have few distinct ones


def draw(kernel: Kernel, name: str, count: int, seed: int) -> list[tuple[int, Decisions]]:
    """Distinct valid (sketch, decisions) of a kernel, at most `count`: half as MetaSchedule samples them, half from the
    register-tiling prior of each vector width in turn. Deterministic for a seed and a release of TVM."""
    found: list[tuple[int, Decisions]] = []
    seen: set[str] = set()
    for sketch, schedule in _drawn(kernel, name, count * _ATTEMPTS, seed):
        key = workload_key(schedule.mod)
        if key not in seen:
            seen.add(key)
            found.append((sketch, decisions_of(schedule)))
        if len(found) == count:
            break
    return found


def _drawn(kernel: Kernel, name: str, attempts: int, seed: int) -> Iterator[tuple[int, Any]]:
    rng = random.Random(f"{seed} {workload_key(kernel.mod)}")  # noqa: S311  (a sample, not a secret)
    space = kernel.space(name)
    for attempt in range(attempts):
        sketch = rng.randrange(len(kernel.sketches))
        number = rng.randrange(1, 2**31 - 1)
        try:
            if attempt % 2:
                unit = _UNITS[attempt // 2 % len(_UNITS)]
                yield sketch, kernel.schedule(sketch, sample(space.sketches[sketch], unit, rng))
            else:
                yield sketch, _sampled(kernel, sketch, number)
        except Exception:  # noqa: S112  (what the schedule rules refuse; TVM raises what it likes)
            continue


def _sampled(kernel: Kernel, sketch: int, seed: int) -> Any:
    """A schedule as MetaSchedule's own sampling gives it. Raises as Kernel.schedule does."""
    trace = kernel.sketches[sketch]
    open_trace = type(trace)(list(trace.insts), {})
    schedule = tvm.s_tir.Schedule(kernel.mod, seed=seed)
    open_trace.apply_to_schedule(schedule, remove_postproc=True)
    return kernel.decided(trace, decisions_of(schedule))
