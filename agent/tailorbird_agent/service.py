"""AgentService: translate, call, translate. Every decision is made elsewhere."""

# ruff: noqa: N802, ARG002 -- gRPC fixes the names and the arguments of the methods

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from tailorbird_agent import wire
from tailorbird_agent.bench import FIGURE_NAMES
from tailorbird_agent.benching import Bench
from tailorbird_agent.deploy.models import Models
from tailorbird_agent.deploy.plan import available_policies
from tailorbird_agent.errors import RequestError
from tailorbird_agent.events import EventLog
from tailorbird_agent.handlers import Context
from tailorbird_agent.hardware import Card, read_power_mode
from tailorbird_agent.hardware.tree import Tree
from tailorbird_agent.idempotency import Replies
from tailorbird_agent.lease import Leases
from tailorbird_agent.sensing import Sensing
from tailorbird_agent.store.blobs import Blobs
from tailorbird_agent.uploads import Uploads
from tailorbird_api.agent.v1 import agent_service_pb2 as api
from tailorbird_api.agent.v1 import agent_service_pb2_grpc as api_grpc

Reply = TypeVar("Reply")
MIN_INTERVAL_S, DEFAULT_INTERVAL_S = 0.1, 1.0
DEFAULT_CANDIDATE_S, MAX_CANDIDATE_S = 10.0, 3600.0
MAX_INTERLEAVED = 8
PAGE = 100


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service speaks for."""

    card: Card
    tree: Tree
    sensing: Sensing
    events: EventLog
    blobs: Blobs
    leases: Leases
    uploads: Uploads
    bench: Bench
    models: Models
    replies: Replies


class AgentService(api_grpc.AgentServiceServicer):
    """The control service; see protos/tailorbird_api/agent/v1/agent_service.proto for what each method promises."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._card = wire.card_to_proto(parts.card)
        self._started_s = time.monotonic()

    async def GetStatus(self, request: api.GetStatusRequest, context: Context) -> api.GetStatusResponse:
        return await self._status()

    async def WatchStatus(
        self, request: api.WatchStatusRequest, context: Context
    ) -> AsyncIterator[api.WatchStatusResponse]:
        interval_s = wire.seconds_of(request, "interval")
        interval_s = DEFAULT_INTERVAL_S if interval_s is None else interval_s
        if interval_s < MIN_INTERVAL_S:
            raise RequestError(
                "INPUT_INVALID", f"interval is {interval_s:g} s, at least {MIN_INTERVAL_S:g} s is allowed."
            )
        while True:
            yield api.WatchStatusResponse(status=await self._status())
            await asyncio.sleep(interval_s)

    async def AcquireLease(self, request: api.AcquireLeaseRequest, context: Context) -> api.AcquireLeaseResponse:
        wait_s = wire.seconds_of(request, "wait") or 0.0

        async def act() -> api.AcquireLeaseResponse:
            duration_s = wire.seconds_of(request, "duration")
            lease = await self._parts.leases.acquire(
                request.holder, duration_s, wait_s=wait_s, priority=request.priority
            )
            details = {"state": "granted", "holder": lease.holder, "token": str(lease.token)}
            self._parts.events.append("lease", message=f"{lease.holder} holds the device", details=details)
            return api.AcquireLeaseResponse(lease=wire.lease_to_proto(lease))

        # A place in line goes with the call: a caller that went away must not be given the device.
        return await (act() if wait_s > 0.0 else self._once("AcquireLease", request, act))

    async def RenewLease(self, request: api.RenewLeaseRequest, context: Context) -> api.RenewLeaseResponse:
        lease = self._parts.leases.renew(request.lease_id, wire.seconds_of(request, "duration"))
        return api.RenewLeaseResponse(lease=wire.lease_to_proto(lease))

    async def ReleaseLease(self, request: api.ReleaseLeaseRequest, context: Context) -> api.ReleaseLeaseResponse:
        self._parts.leases.release(request.lease_id)
        return api.ReleaseLeaseResponse()

    async def RunBenchmark(self, request: api.RunBenchmarkRequest, context: Context) -> api.RunBenchmarkResponse:
        protocol = wire.protocol_from_proto(request.protocol)
        figures = await self._parts.bench.benchmark(request.fencing_token, tuple(request.names), protocol)
        return api.RunBenchmarkResponse(figures=map(wire.figure_to_proto, figures))

    async def MeasureModules(
        self, request: api.MeasureModulesRequest, context: Context
    ) -> AsyncIterator[api.MeasureModulesResponse]:
        # The lease is the first thing to be wrong about: nothing is looked up for somebody without one.
        self._parts.leases.check(request.fencing_token)
        blobs = self._parts.blobs
        candidates = [wire.candidate_from_proto(each, blobs.path) for each in request.candidates]
        libraries = tuple((each.runtime, blobs.path(each.blob.sha256)) for each in request.runtime_blobs)
        if request.interleaved and not 2 <= len(candidates) <= MAX_INTERLEAVED:
            raise RequestError(
                "INPUT_INVALID", f"{len(candidates)} candidates, 2 to {MAX_INTERLEAVED} can be interleaved."
            )
        timeout_s = wire.positive_seconds_of(request, "candidate_timeout") or DEFAULT_CANDIDATE_S
        results = self._parts.bench.measure(
            request.fencing_token,
            candidates,
            wire.protocol_from_proto(request.protocol),
            libraries,
            min(timeout_s, MAX_CANDIDATE_S),
            interleaved=request.interleaved,
            fresh_process=request.fresh_process,
            seed=request.seed,
        )
        async with aclosing(results):  # type: ignore[type-var]
            async for index, timings in results:
                yield api.MeasureModulesResponse(index=index, measurement=wire.timings_to_proto(timings))

    async def StatBlobs(self, request: api.StatBlobsRequest, context: Context) -> api.StatBlobsResponse:
        stats = await self._parts.uploads.stat(list(request.sha256))
        return api.StatBlobsResponse(blobs=map(wire.blob_to_proto, stats))

    async def UploadBlobs(
        self, request_iterator: AsyncIterator[api.UploadBlobsRequest], context: Context
    ) -> api.UploadBlobsResponse:
        stats = await self._parts.uploads.receive(wire.chunk_from_proto(each) async for each in request_iterator)
        return api.UploadBlobsResponse(blobs=map(wire.blob_to_proto, stats))

    async def StageBundle(self, request: api.StageBundleRequest, context: Context) -> api.StageBundleResponse:
        async def act() -> api.StageBundleResponse:
            expected = wire.optional_int(request, "expected_generation")
            bundle, runner = await self._parts.models.stage(request.manifest, expected)
            deployment = wire.deployment_to_proto(runner.status())
            return api.StageBundleResponse(bundle_sha256=bundle, deployment=deployment)

        return await self._once("StageBundle", request, act)

    async def ActivateBundle(self, request: api.ActivateBundleRequest, context: Context) -> api.ActivateBundleResponse:
        async def act() -> api.ActivateBundleResponse:
            runner = self._parts.models.holding(request.bundle_sha256)
            await runner.activate(
                request.bundle_sha256,
                wire.optional_int(request, "expected_generation"),
                commit=request.commit,
                trial_timeout_s=wire.positive_seconds_of(request, "trial_timeout"),
            )
            if request.commit:
                await self._parts.models.collect()
            return api.ActivateBundleResponse(deployment=wire.deployment_to_proto(runner.status()))

        return await self._once("ActivateBundle", request, act)

    async def CommitBundle(self, request: api.CommitBundleRequest, context: Context) -> api.CommitBundleResponse:
        async def act() -> api.CommitBundleResponse:
            runner = self._parts.models.get(request.model)
            await runner.commit(wire.optional_int(request, "expected_generation"))
            await self._parts.models.collect()
            return api.CommitBundleResponse(deployment=wire.deployment_to_proto(runner.status()))

        return await self._once("CommitBundle", request, act)

    async def RollbackBundle(self, request: api.RollbackBundleRequest, context: Context) -> api.RollbackBundleResponse:
        async def act() -> api.RollbackBundleResponse:
            runner = self._parts.models.get(request.model)
            await runner.roll_back(wire.optional_int(request, "expected_generation"))
            return api.RollbackBundleResponse(deployment=wire.deployment_to_proto(runner.status()))

        return await self._once("RollbackBundle", request, act)

    async def ListBundles(self, request: api.ListBundlesRequest, context: Context) -> api.ListBundlesResponse:
        size = _page_size(request.page_size)
        # The token is the last model of the page before: models that come and go do not shift the pages.
        names = sorted(name for name in self._parts.models.runners if name > request.page_token)
        page = names[:size]
        deployments = [wire.deployment_to_proto(self._parts.models.runners[name].status()) for name in page]
        return api.ListBundlesResponse(
            deployments=deployments, next_page_token=page[-1] if len(names) > len(page) else ""
        )

    async def SetPolicy(self, request: api.SetPolicyRequest, context: Context) -> api.SetPolicyResponse:
        async def act() -> api.SetPolicyResponse:
            runner = self._parts.models.get(request.model)
            await runner.choose_policy(request.policy, wire.optional_float(request, "slo_us"))
            return api.SetPolicyResponse(deployment=wire.deployment_to_proto(runner.status()))

        return await self._once("SetPolicy", request, act)

    async def GetPolicy(self, request: api.GetPolicyRequest, context: Context) -> api.GetPolicyResponse:
        status = self._parts.models.get(request.model).status()
        manifest = status.serving.manifest if status.serving else None
        return api.GetPolicyResponse(policy=status.policy, slo_us=status.slo_us, available=available_policies(manifest))

    async def ListEvents(self, request: api.ListEventsRequest, context: Context) -> api.ListEventsResponse:
        events, _ = await asyncio.to_thread(
            self._parts.events.read,
            request.since_sequence,
            limit=_page_size(request.page_size),
            kinds=frozenset(request.kinds),
            model=request.model,
        )
        return api.ListEventsResponse(events=map(wire.event_to_proto, events))

    async def WatchEvents(
        self, request: api.WatchEventsRequest, context: Context
    ) -> AsyncIterator[api.WatchEventsResponse]:
        events = self._parts.events.watch(request.since_sequence, kinds=frozenset(request.kinds), model=request.model)
        async for event in events:
            yield api.WatchEventsResponse(event=wire.event_to_proto(event))

    async def _status(self) -> api.GetStatusResponse:
        parts = self._parts
        readings = await parts.sensing.fresh()
        lease = parts.leases.current
        return api.GetStatusResponse(
            card=self._card,
            readings=wire.readings_to_proto(readings),
            deployments=[
                wire.deployment_to_proto(runner.status()) for _, runner in sorted(parts.models.runners.items())
            ],
            lease=None if lease is None else wire.lease_to_proto(lease),
            uptime=wire.duration(time.monotonic() - self._started_s),
            sandbox=parts.models.sandbox(),
            last_event_sequence=parts.events.last_sequence,
            power_mode=await asyncio.to_thread(read_power_mode, parts.tree),
            benchmarks=FIGURE_NAMES,
        )

    async def _once(self, method: str, request: Any, act: Callable[[], Coroutine[Any, Any, Reply]]) -> Reply:
        content = request.SerializeToString(deterministic=True)
        return await self._parts.replies.once(method, request.request_id, content, act)


def _page_size(asked: int) -> int:
    if asked < 0:
        raise RequestError("INPUT_INVALID", f"page_size is {asked}.")
    return min(asked or PAGE, 1000)
