"""Whole modules from the best schedules of their kernels."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from tailorbird.compile.tvm.pipeline import save
from tailorbird.errors import CompileError
from tailorbird.tune.builders import Builders
from tailorbird.tune.gather import kernel_file
from tailorbird.tune.kernels import extract_kernels, workload_key
from tailorbird.types.schedule import ScheduleRecord


def build_rungs(
    modules: Sequence[Any], best: Sequence[ScheduleRecord], builders: Builders
) -> list[tuple[bytes, float]]:
    """Compile each prepared module with these schedules; (library, seconds spent on it) per rung.

    Kernels without a record keep TVM's plain loops. Raises CompileError when a rung does not build.
    """
    traces = {record.workload: record.trace_json for record in best}
    jobs: list[tuple[Path, Future[dict[str, Any]]]] = []
    for mod in modules:
        path, output = builders.new_file(".json"), builders.new_file(".so")
        save(mod, path)
        kernels = {workload_key(kernel): kernel for _, kernel, _ in extract_kernels(mod, builders.target)}
        schedules = [
            (str(kernel_file(builders, key, kernel)), traces[key]) for key, kernel in kernels.items() if key in traces
        ]
        request = {"do": "finish", "module": str(path), "schedules": schedules, "output": str(output)}
        jobs.append((output, builders.submit(request)))
    return [_finished(output, future.result()) for output, future in jobs]


def _finished(output: Path, reply: dict[str, Any]) -> tuple[bytes, float]:
    if "error" in reply:
        raise CompileError(
            "a rung does not compile with its tuned schedules",
            why=reply["error"],
            fix="compile it without tuning, or for the litert runtime",
        )
    return output.read_bytes(), float(reply["seconds"])
