"""A pool of worker processes that compile. A worker that crashes or hangs costs one request and is replaced."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import queue
import select
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import psutil

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.target import linker
from tailorbird.errors import CompileError

_START_SECONDS = 120.0
#: A whole rung may take so many times as long as candidates: it has dozens of kernels, and without it there is nothing.
_WHOLE_RUNG = 10.0
#: Wall time that an answer may take, in units of the CPU time that it may take: a busy host is slow, not stuck.
_PATIENCE = 10.0
_GLANCE_S = 0.01


class Compiler(Protocol):
    """One worker, wherever it runs."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The reply to a request of worker.py. Raises WorkerLostError."""
        ...

    def end(self) -> None:
        """End it, whatever it does."""
        ...


class Builders:
    """Compile requests in parallel. Workers start at once, so construct this before it is needed.

    timeout_s: on a CPU, for a request of candidates, after which its worker is replaced; on the wall, and for a whole
    rung, it may be 10 times as long.
    Raises EnvironmentFaultError when the target cannot be linked for here.
    """

    def __init__(self, target: CompileTarget, *, workers: int | None = None, timeout_s: float = 30.0) -> None:
        linker(target)
        self.target = target
        self.workers = workers or min(4, os.cpu_count() or 1)
        self._timeout_s = timeout_s
        self._folder = tempfile.TemporaryDirectory(prefix="tailorbird-build-")
        self.folder = Path(self._folder.name)
        self._numbers = itertools.count()
        self._idle: queue.SimpleQueue[Compiler] = queue.SimpleQueue()
        self._all = [self.start() for _ in range(self.workers)]
        for process in self._all:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="builder")

    def start(self) -> Compiler:
        """A new worker: a process of this machine."""
        return _Process(self.target)

    def new_file(self, suffix: str) -> Path:
        """A path no other request uses, gone when the pool closes."""
        return self.folder / f"{next(self._numbers)}{suffix}"

    def submit(self, request: dict[str, Any]) -> Future[dict[str, Any]]:
        """Queue a request (see worker.py); the future gives the reply, {"error": ...} included. It never raises."""
        return self._threads.submit(self._serve, request)

    def call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Wait for one reply. Raises CompileError when the request fails."""
        reply = self.submit(request).result()
        if "error" in reply:
            raise CompileError("a compile worker failed", why=reply["error"])
        return reply

    def process_ids(self) -> list[int]:
        """The workers' process ids."""
        return [process.pid for process in self._all]

    def close(self) -> None:
        """End the workers and remove their files."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._all:
            process.end()
        self._folder.cleanup()

    def __enter__(self) -> Builders:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._idle.get()
        try:
            return process.ask(request, self._timeout_s * (_WHOLE_RUNG if request["do"] == "finish" else 1.0))
        except WorkerLostError as lost:
            process.end()
            self._all.remove(process)
            process = self.start()
            self._all.append(process)
            return {"error": str(lost)}
        finally:
            self._idle.put(process)


class WorkerLostError(Exception):
    """The worker ended, or did not answer in time."""


class _Process:
    """One worker, spoken to over its pipes."""

    def __init__(self, target: CompileTarget) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tailorbird.tune.worker", json.dumps(dataclasses.asdict(target))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TVM_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        self._buffer = b""
        self._started = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        if not self._started:
            self._read(_START_SECONDS)
            self._started = True
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise WorkerLostError(f"a compile worker ended with {self._process.poll()}") from error
        return json.loads(self._read(timeout_s))

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue

    def _read(self, timeout_s: float) -> bytes:
        """One line of the worker's, for which it may use a CPU for so long; what else a host does is not its fault."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        used_s, ends = self._cpu_s(), time.monotonic() + _PATIENCE * timeout_s
        while b"\n" not in self._buffer:
            waits_s, works_s = ends - time.monotonic(), timeout_s - (self._cpu_s() - used_s)
            if waits_s <= 0.0:
                raise WorkerLostError(f"a compile worker gave no answer in {_PATIENCE * timeout_s:g} s")
            if works_s <= 0.0:
                raise WorkerLostError(f"a compile worker gave no answer in {timeout_s:g} s on a CPU")
            ready, _, _ = select.select([descriptor], [], [], max(_GLANCE_S, min(waits_s, works_s)))
            if not ready:
                continue
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                raise WorkerLostError(f"a compile worker ended with {self._process.wait()}")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _cpu_s(self) -> float:
        """Seconds on a CPU so far; 0 for a worker that has ended, which its pipe will say."""
        try:
            times = psutil.Process(self.pid).cpu_times()
        except psutil.NoSuchProcess:
            return 0.0
        return times.user + times.system
