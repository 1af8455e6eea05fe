"""The daemon: puts the parts together, serves until it is told to stop, drains, and leaves.

Architecture invariant: this process never loads a model and imports neither numpy nor a runtime.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import signal
import sys
import time
import uuid
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tailorbird_agent import __version__, wire
from tailorbird_agent.benching import Bench
from tailorbird_agent.config import Config
from tailorbird_agent.deploy.models import Models
from tailorbird_agent.deploy.room import available_bytes, has_room
from tailorbird_agent.deploy.runner import Surroundings
from tailorbird_agent.errors import ConfigError
from tailorbird_agent.events import EventLog
from tailorbird_agent.handlers import Activity, Door
from tailorbird_agent.hardware import SensorReader, read_card
from tailorbird_agent.hardware.tree import Tree
from tailorbird_agent.idempotency import Replies
from tailorbird_agent.inference import InferenceService
from tailorbird_agent.lease import Lease, Leases
from tailorbird_agent.ledger import Ledger
from tailorbird_agent.listeners import control_server, inference_server, listen_tcp, listen_unix
from tailorbird_agent.notify import keep_watchdog_fed, notify
from tailorbird_agent.regions import Audience, Regions
from tailorbird_agent.runtimes import memory
from tailorbird_agent.sensing import Sensing
from tailorbird_agent.service import AgentService, Parts
from tailorbird_agent.sockets import check_tcp, lock_state, prepare_folder
from tailorbird_agent.store.blobs import Blobs
from tailorbird_agent.store.quota import Quota
from tailorbird_agent.uploads import Uploads
from tailorbird_agent.worker.plan import Notice
from tailorbird_api.agent.v1 import agent_service_pb2_grpc as api_grpc
from tailorbird_api.inference import open_inference_pb2_grpc as oip_grpc

logger = logging.getLogger(__name__)

CONTROL_SERVICE = "tailorbird_api.agent.v1.AgentService"
INFERENCE_SERVICE = "inference.GRPCInferenceService"
#: Streams (watchers) are cut so long after the last change; changes and inference get the configured drain time.
CONTROL_GRACE_S = 0.5
#: Calls on their way when the end begins are waited for: until none came for so long, and no longer than the limit.
DOOR_QUIET_S, DOOR_LIMIT_S = 0.02, 0.3
#: A model's rungs may take this part of the memory, unless the configuration says otherwise.
MODEL_SHARE = 4
#: mallopt's parameter, from glibc's malloc.h.
M_ARENA_MAX = -8


class Background:
    """Tasks that live as long as the daemon. One that fails is logged and does not take the others down."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` beside everything else."""
        task = self._group.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        """End whatever still runs."""
        for task in self._tasks:
            task.cancel()

    @staticmethod
    async def _guarded(work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            logger.exception("incident %s in the background", uuid.uuid4().hex[:12])


class Daemon:
    """One agent. `run` is its whole life."""

    def __init__(self, config: Config, background: Background) -> None:
        self._config = config
        self._background = background
        self._sockets: list[Path] = []
        self.activity = Activity()
        self._store_lock = asyncio.Lock()
        self.events = EventLog(config.state)
        self._ledger = Ledger(config.state)
        quota = Quota(config.quota_bytes, config.reserve_bytes)
        self._blobs = Blobs(config.state, quota=quota)
        self._card = read_card(__version__, name=config.name, root=config.hardware_root)
        self._leases = Leases(self._ledger.next_fencing_token, on_end=self._on_lease_end)
        self._bench = Bench(self._leases, config.hardware_root)
        around = Surroundings(
            self._blobs,
            self._ledger,
            self.events,
            wire.manifest_from_json,
            background.spawn,
            config.worker_timeout_s,
            config.drain_timeout_s,
            config.model_memory_bytes or _physical_bytes() // MODEL_SHARE,
            lambda needed_bytes: has_room(config.swap, needed_bytes, available_bytes()),
        )
        self.models = Models(
            around, self._card, store_lock=self._store_lock, leased=self._leased, blob_grace_s=config.blob_grace_s
        )
        self._sensing = Sensing(SensorReader(config.hardware_root, config.state))
        self._replies = Replies()
        # The package adds `aio` at run time, unseen by type checkers.
        self._health: Any = getattr(health, "aio").HealthServicer()  # noqa: B009
        self._door = Door()
        self._control = control_server(self.activity, self._door)
        self._inference = inference_server(self.activity, self._door)

    async def start(self) -> str:
        """Serve; returns the line that says where."""
        config = self._config
        uploads = Uploads(
            self._blobs, self._leases, store_lock=self._store_lock, make_room=lambda: self.models.collect_locked(60.0)
        )
        parts = Parts(
            self._card,
            Tree(config.hardware_root),
            self._sensing,
            self.events,
            self._blobs,
            self._leases,
            uploads,
            self._bench,
            self.models,
            self._replies,
        )
        api_grpc.add_AgentServiceServicer_to_server(AgentService(parts), self._control)
        for server in (self._control, self._inference):
            health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        for server, path, mode in (
            (self._control, config.control_socket, 0o600),
            (self._inference, config.inference_socket, 0o660),
        ):
            listen_unix(server, path, mode)
            self._sockets.append(path)
        regions = Regions(Audience.of(config.inference_socket))
        inference = InferenceService(self.models, self.events, regions)
        oip_grpc.add_GRPCInferenceServiceServicer_to_server(inference, self._inference)
        line = f"ready control={config.control_socket} inference={config.inference_socket}"
        if config.tcp:
            line += f" tcp={listen_tcp(self._inference, config.tcp, config)}"
        if config.tcp_control:
            line += f" tcp-control={listen_tcp(self._control, config.tcp_control, config)}"
        if self._ledger.set_aside:
            self.events.append(
                "state_lost", message=f"the state was unreadable; it is kept as {self._ledger.set_aside}"
            )
        self.events.append("started", message=f"agent {__version__} started", details={"pid": str(os.getpid())})
        self.models.resume()
        await self._control.start()
        await self._inference.start()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        spawn = self._background.spawn
        spawn(self._sensing.feed(self.models.workers, config.sensor_interval_s, self._tell))
        spawn(keep_watchdog_fed())
        spawn(self._tidy())
        spawn(asyncio.to_thread(memory.settle))
        return line

    async def stop(self) -> None:
        """Take nothing new, finish what runs, end the workers."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        drain_s = self._config.drain_timeout_s
        self._leases.close()
        await self._door.close(quiet_s=DOOR_QUIET_S, limit_s=DOOR_LIMIT_S)
        stopping = [asyncio.create_task(server.stop(drain_s)) for server in (self._inference, self._control)]
        await asyncio.sleep(0)
        self._door.turn_away()
        try:
            await asyncio.wait_for(self._replies.finish(), drain_s)
        except TimeoutError:
            logger.warning("a change was still under way after %g s", drain_s)
        await self._control.stop(CONTROL_GRACE_S)
        await asyncio.gather(*stopping)
        await asyncio.gather(self.models.shut_down(), self._bench.stop())
        self.events.append("stopped", message="agent stopped")

    def remove_sockets(self) -> None:
        """Remove the sockets this agent made, and no other's."""
        for path in self._sockets:
            path.unlink(missing_ok=True)

    def _tell(self, model: str, notice: Notice) -> None:
        self.events.append(notice.kind, model, notice.message, notice.details)

    def _leased(self) -> frozenset[str]:
        lease = self._leases.current
        return frozenset(lease.blobs) if lease else frozenset()

    def _on_lease_end(self, lease: Lease, how: str) -> None:
        details = {"state": how, "holder": lease.holder, "token": str(lease.token)}
        self.events.append("lease", message=f"the lease of {lease.holder} was {how}", details=details)
        self._background.spawn(self._clean_up_after(lease, time.time()))

    async def _clean_up_after(self, lease: Lease, ended_s: float) -> None:
        if self._leases.current is None:
            await self._bench.stop()
        if lease.blobs:
            # What somebody has asked for since then is about to be used under the next lease.
            grace_s = max(time.time() - ended_s, 0.0)
            swept = await self.models.collect(grace_s=grace_s, only=frozenset(lease.blobs))
            details = {"blobs": str(swept.blobs), "freed_bytes": str(swept.freed_bytes), "token": str(lease.token)}
            self.events.append("blobs_collected", message="blobs of the ended lease are gone", details=details)

    async def _tidy(self) -> None:
        """What a death in the middle of something left behind."""
        async with self._store_lock:
            await asyncio.to_thread(self._blobs.recover)
        await self.models.collect()

    async def _set_health(self, status: Any) -> None:
        for service in ("", CONTROL_SERVICE, INFERENCE_SERVICE):
            await self._health.set(service, status)


async def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT, or until nobody has called for `idle_exit_s`.

    Raises:
        ConfigError: the agent cannot start as asked.
    """
    _limit_arenas()
    _raise_file_limit()
    check_tcp(config)
    prepare_folder(config.state)
    prepare_folder(config.socket_dir)
    lock = lock_state(config.state)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    refused: ConfigError | None = None
    try:
        async with asyncio.TaskGroup() as group:
            await _serve(config, Background(group), stop)
    except* ConfigError as errors:  # a group wraps whatever ends it
        refused = next(error for error in errors.exceptions if isinstance(error, ConfigError))
    finally:
        os.close(lock)
    if refused is not None:
        raise refused


async def _serve(config: Config, background: Background, stop: asyncio.Event) -> None:
    try:
        daemon = Daemon(config, background)
    except OSError as error:
        raise ConfigError(
            f"cannot keep state in {config.state}: {error.strerror}",
            fix="free space there and make it writable, or give --state another folder",
        ) from None
    try:
        line = await daemon.start()
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        notify("READY=1")
        if config.idle_exit_s:
            background.spawn(_stop_when_idle(daemon.activity, config.idle_exit_s, stop))
        await stop.wait()
        notify("STOPPING=1")
        await daemon.stop()
    finally:
        background.cancel()
        daemon.remove_sockets()


def _physical_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _limit_arenas() -> None:
    """Let threads share two heaps: with glibc's one per thread, each keeps what it once needed for a large message."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)


def _raise_file_limit() -> None:
    """Take as many descriptors as we may: clients that only connect must not keep workers from starting."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _stop_when_idle(activity: Activity, limit_s: float, stop: asyncio.Event) -> None:
    while True:
        left_s = limit_s - activity.idle_s
        if left_s <= 0:
            stop.set()
            return
        await asyncio.sleep(max(left_s, 0.05))
