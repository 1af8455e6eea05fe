"""Compile workers on a Ray cluster: the same requests as the worker processes of this machine take.

    with RayBuilders(target, workers=16) as builders:
        tuning = tune_on(pool, modules, 1200.0, records, builders, runtime_library=library)

Files that a request names go along with it, and what it wrote comes back, so the nodes need no folder in common. They
need this package with the host extra, and a C compiler that links for the target.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailorbird.compile.base import CompileTarget
from tailorbird.errors import EnvironmentFaultError
from tailorbird.tune.builders import Builders, Compiler, WorkerLostError

_START_SECONDS = 180.0


class RayBuilders(Builders):
    """Builders whose workers are Ray actors of one CPU each. A lost node costs one request and is replaced.

    Uses the cluster that this program is connected to, that of RAY_ADDRESS, or starts one on this machine and stops it
    when it is closed. Raises EnvironmentFaultError without Ray, and where the target cannot be linked for.
    """

    def __init__(self, target: CompileTarget, *, workers: int, timeout_s: float = 60.0) -> None:
        try:
            self._ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise EnvironmentFaultError(
                "Ray is not installed", why=str(error), fix="pip install 'tailorbird[ray]'"
            ) from error
        self._ours = not self._ray.is_initialized()
        if self._ours:
            self._ray.init(include_dashboard=False, log_to_driver=False)
        try:
            super().__init__(target, workers=workers, timeout_s=timeout_s)
        except BaseException:
            self._stop()
            raise

    def start(self) -> Compiler:
        """A new worker: an actor on any node with a free CPU."""
        return _Actor(self._ray, self.target, self.folder)

    def close(self) -> None:
        """End the workers, and the cluster if it was started here."""
        super().close()
        self._stop()

    def _stop(self) -> None:
        if self._ours:
            self._ray.shutdown()


class _Actor:
    """One Ray actor."""

    def __init__(self, ray: Any, target: CompileTarget, folder: Path) -> None:
        self._ray = ray
        self._folder = folder
        fields = json.dumps(dataclasses.asdict(target))
        self._actor = ray.remote(num_cpus=1)(_Remote).remote(fields)
        self._ready = False

    @property
    def pid(self) -> int:
        """Process id on its node."""
        return int(self._ray.get(self._actor.pid.remote(), timeout=_START_SECONDS))

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a request with its files, keep what it wrote. Raises WorkerLostError."""
        files = {name: Path(name).read_bytes() for name in self._named(request) if Path(name).is_file()}
        try:
            if not self._ready:
                self._ray.get(self._actor.pid.remote(), timeout=_START_SECONDS)
                self._ready = True
            reply, output = self._ray.get(self._actor.serve.remote(request, files), timeout=timeout_s)
        except self._ray.exceptions.GetTimeoutError:
            raise WorkerLostError(f"a compile worker gave no answer in {timeout_s:g} s") from None
        except self._ray.exceptions.RayError as error:
            raise WorkerLostError(f"a compile worker was lost: {str(error).strip().splitlines()[0]}") from error
        if output is not None:
            try:
                Path(request["output"]).write_bytes(output)
            except OSError as error:
                return {"error": f"{type(error).__name__}: {error}"}
        return dict(reply)

    def end(self) -> None:
        """Kill it."""
        self._ray.kill(self._actor)

    def _named(self, value: Any) -> set[str]:
        """Paths in the pool's folder that occur anywhere in a request."""
        if isinstance(value, str):
            return {value} if value.startswith(f"{self._folder}{os.sep}") else set()
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, (list, tuple)):
            return set().union(*map(self._named, value)) if value else set()
        return set()


class _Remote:
    """What runs in an actor's process."""

    def __init__(self, target_json: str) -> None:
        from tailorbird.tune.worker import worker_of

        self._worker = worker_of(target_json)
        self._folder = tempfile.TemporaryDirectory(prefix="tailorbird-build-")

    def pid(self) -> int:
        """Process id; answering it tells that the compiler is loaded."""
        return os.getpid()

    def serve(self, request: dict[str, Any], files: Mapping[str, bytes]) -> tuple[dict[str, Any], bytes | None]:
        """The reply of worker.py, and what the request wrote."""
        from tailorbird.tune.failure import words_of

        here = {}
        for name, content in files.items():
            path = Path(self._folder.name) / Path(name).name  # names are unique in the sender's folder
            if not path.exists():
                path.write_bytes(content)
            here[name] = str(path)
        output = Path(self._folder.name) / "output"
        output.unlink(missing_ok=True)
        if "output" in request:
            here[request["output"]] = str(output)
        try:
            # Through JSON as between processes: tuples become lists, and nothing of the sender's is shared.
            reply = self._worker.handle(json.loads(json.dumps(_renamed(request, here))))
        except Exception as error:
            reply = {"error": words_of(error)}
        plain = json.loads(json.dumps(reply))
        return plain, output.read_bytes() if output.exists() else None


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, dict):
        return {key: _renamed(each, names) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_renamed(each, names) for each in value]
    return value
