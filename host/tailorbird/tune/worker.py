"""Worker process: applies decisions, compiles and links kernels and whole rungs. Started by builders.py.

    python -m tailorbird.tune.worker TARGET_JSON        one JSON request per line on stdin, one JSON reply on stdout

Requests name files, replies are small. A request that fails is answered with {"error": ...}; the worker goes on.
It never imports torch: that would cost more than all of its own start.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from tailorbird.errors import CompileError
from tailorbird.tune.failure import words_of
from tailorbird.tune.space import DEFAULT_SKETCH, nearest

_NICENESS = 5  # measuring on this same machine comes first


def main(target_json: str) -> None:
    """Serve requests until stdin closes."""
    os.nice(_NICENESS)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what TVM prints must not land among the replies
    worker = worker_of(target_json)
    _reply(replies, {"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = worker.handle(request)
        except Exception as error:
            reply = {"error": words_of(error)}
        _reply(replies, reply)


def _reply(stream: IO[str], reply: dict[str, Any]) -> None:
    stream.write(json.dumps(reply) + "\n")
    stream.flush()


def worker_of(target_json: str) -> _Worker:
    """A worker in this very process, for pools that bring processes of their own. It must not have imported torch."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # tvm_ffi would import it
    from tailorbird.compile.base import CompileTarget

    fields = json.loads(target_json)
    return _Worker(CompileTarget(**{**fields, "isa_features": tuple(fields["isa_features"])}))


class _Worker:
    def __init__(self, target: Any) -> None:
        from tailorbird.tune import kernels  # imports the TVM compiler: 0.9 s

        self._tvm = kernels
        self._target = target
        self._open: dict[str, Any] = {}
        self._handlers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "describe": self._describe,
            "classify": self._classify,
            "load": self._load_foreign,
            "replay": self._replay,
            "library": self._library,
            "finish": self._finish,
            "object": self._object,
        }

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._handlers[request["do"]](request)

    def _kernel(self, path: str) -> Any:
        if path not in self._open:
            self._open[path] = self._tvm.Kernel(_load(path), self._target)
        return self._open[path]

    def _describe(self, request: dict[str, Any]) -> dict[str, Any]:
        space = self._kernel(request["kernel"]).space(request["name"])
        sketches = [[[c.kind, c.extent, c.parts] for c in sketch] for sketch in space.sketches]
        return {
            "workload": space.workload,
            "kernel_class": space.kernel_class,
            "flops": space.flops,
            "sketches": sketches,
        }

    def _classify(self, request: dict[str, Any]) -> dict[str, Any]:
        from tailorbird.tune.workload import describe

        return dataclasses.asdict(describe(_load(request["kernel"]), request["name"]))

    def _load_foreign(self, request: dict[str, Any]) -> dict[str, Any]:
        """A workload of MetaSchedule's own database files, classified and written as a module of ours."""
        from tailorbird.compile.tvm.pipeline import save
        from tailorbird.tune.workload import describe

        mod = self._tvm.ms.database.Workload.from_json(request["workload"]).mod
        save(mod, Path(request["output"]))
        return dataclasses.asdict(describe(mod))

    def _replay(self, request: dict[str, Any]) -> dict[str, Any]:
        """Try plans on a kernel in turn; what each gives, or why it does not apply. Nothing is compiled."""
        from tailorbird.tune.replay import replayed

        kernel = self._kernel(request["kernel"])
        results = []
        for plan in request["plans"]:
            donor = _load(plan["donor"]) if plan["donor"] else None
            try:
                found = replayed(kernel, plan["mode"], plan["trace"], plan["seed"], donor)
                results.append(dataclasses.asdict(found))
            except Exception as error:
                results.append({"error": words_of(error)})
        return {"results": results}

    def _facts(self, schedule: Any) -> dict[str, Any]:
        return {
            "decisions": self._tvm.decisions_of(schedule),
            "arguments": self._tvm.arguments_of(schedule),
            "trace": self._tvm.stored_trace(schedule),
        }

    def _object(self, request: dict[str, Any]) -> dict[str, Any]:
        """An object file of a kernel with the nearest sibling's schedule that fits, plain loops where none does."""
        from tailorbird.compile.tvm.objects import kernel_object

        kernel = self._kernel(request["kernel"])
        book = json.loads(Path(request["book"]).read_text(encoding="utf-8"))
        space = kernel.space(request["name"])
        failed = None
        for sketch, decisions in (*nearest(space, book.get(space.kernel_class, [])), (DEFAULT_SKETCH, ())):
            try:
                schedule = kernel.schedule(sketch, decisions)
                code = kernel_object(kernel.stripped(schedule), request["symbol"], self._target)
            except Exception as error:  # a schedule that does not fit this shape: the next one may
                failed = error
                continue
            Path(request["output"]).write_bytes(code)
            return {"arguments": self._tvm.arguments_of(schedule), "sketch": sketch, "decisions": decisions}
        raise CompileError("the kernel does not compile", why=str(failed)) from failed

    def _library(self, request: dict[str, Any]) -> dict[str, Any]:
        """Several candidates in one library; a reply for each: what was built under which name, or why it was not."""
        from tailorbird.tune.library import build_library, uniform_arguments

        replies: dict[str, dict[str, Any]] = {}
        schedules: dict[str, Any] = {}
        for number, item in enumerate(request["items"]):
            name = f"candidate_{number}"
            try:
                kernel = self._kernel(item["kernel"])
                schedules[name] = self._scheduled(kernel, item)
                facts = self._facts(schedules[name])
                replies[name] = facts | {"symbol": name, "uniform_args": uniform_arguments(kernel.mod)}
            except Exception as error:
                replies[name] = {"error": words_of(error), "failure": "invalid schedule"}
                schedules.pop(name, None)
        if schedules:
            library, errors = build_library(schedules, self._target)
            Path(request["output"]).write_bytes(library)
            replies |= {name: {"error": words, "failure": "build"} for name, words in errors.items()}
        return {"items": list(replies.values())}

    def _scheduled(self, kernel: Any, item: dict[str, Any]) -> Any:
        if item.get("trace"):
            return kernel.replay(item["trace"])
        return kernel.schedule(item["sketch"], tuple(tuple(d) if isinstance(d, list) else d for d in item["decisions"]))

    def _finish(self, request: dict[str, Any]) -> dict[str, Any]:
        from tailorbird.compile.tvm.pipeline import finish

        started = time.perf_counter()
        pairs = [(_load(path), trace) for path, trace in request["schedules"]]
        database: Any = self._tvm.database(pairs, self._target) if pairs else ()
        Path(request["output"]).write_bytes(finish(_load(request["module"]), self._target, database or None))
        return {"applied": len(database), "seconds": time.perf_counter() - started}


def _load(path: str) -> Any:
    from tailorbird.compile.tvm.api import tvm

    return tvm.ir.load_json(Path(path).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(sys.argv[1])
