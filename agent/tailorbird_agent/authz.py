"""Who may call what: one table, one gate in front of every method, default deny.

Roles come from the connection. gRPC does not expose SO_PEERCRED, so a Unix peer is not asked who it is: the control
socket has mode 0600 in a folder of mode 0700, and the kernel lets nobody but our user (and root) connect to it. Whoever
can is the operator. The inference socket has mode 0660, and every plain TCP peer may be anybody: both get inference
alone, the socket because its server offers nothing else. A TLS peer gets the role its certificate's SPIFFE id names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from enum import StrEnum
from typing import Any

from tailorbird_agent.errors import RequestError
from tailorbird_agent.handlers import Call, Context, Handler, Stream, Wrapper, rewrap


class Role(StrEnum):
    """What a caller may do: look, infer, measure, or change what is deployed."""

    VIEWER = "viewer"
    INFERENCE = "inference"
    TUNER = "tuner"
    OPERATOR = "operator"


_LOOK = frozenset({Role.VIEWER, Role.TUNER, Role.OPERATOR})
_MEASURE = frozenset({Role.TUNER, Role.OPERATOR})
_CHANGE = frozenset({Role.OPERATOR})
_INFER = frozenset({Role.INFERENCE, Role.OPERATOR})
_ANYBODY = frozenset(Role)

_AGENT = "/tailorbird_api.agent.v1.AgentService/"
_OPEN_INFERENCE = "/inference.GRPCInferenceService/"
_HEALTH = "/grpc.health.v1.Health/"

ALLOWED: Mapping[str, frozenset[Role]] = {
    **{
        _AGENT + name: _LOOK
        for name in (
            "GetStatus",
            "WatchStatus",
            "StatBlobs",
            "ListBundles",
            "GetPolicy",
            "ListEvents",
            "WatchEvents",
        )
    },
    **{
        _AGENT + name: _MEASURE
        for name in ("AcquireLease", "RenewLease", "ReleaseLease", "RunBenchmark", "MeasureModules", "UploadBlobs")
    },
    **{
        _AGENT + name: _CHANGE
        for name in ("StageBundle", "ActivateBundle", "CommitBundle", "RollbackBundle", "SetPolicy")
    },
    **{
        _OPEN_INFERENCE + name: _INFER
        for name in (
            "ServerLive",
            "ServerReady",
            "ModelReady",
            "ServerMetadata",
            "ModelMetadata",
            "ModelInfer",
            "ModelStreamInfer",
            "RepositoryIndex",
            "ModelStatistics",
            "SystemSharedMemoryRegister",
            "SystemSharedMemoryStatus",
            "SystemSharedMemoryUnregister",
        )
    },
    **{_OPEN_INFERENCE + name: _CHANGE for name in ("RepositoryModelLoad", "RepositoryModelUnload")},
    **{_HEALTH + name: _ANYBODY for name in ("Check", "Watch", "List")},
}


def roles_of(peer: str, identities: Mapping[str, Any]) -> frozenset[Role]:
    """Roles of a connection. peer: as gRPC names it; identities: its authentication context.

    A client certificate speaks for itself by a URI like spiffe://home/operator/laptop: the first part of the path is
    the role. A certificate without one, or with an unknown role, may do nothing.
    """
    if peer.startswith("unix:"):
        return frozenset({Role.OPERATOR})
    if identities.get("transport_security_type") != [b"ssl"]:
        return frozenset({Role.INFERENCE})
    known = {role.value: role for role in Role}
    ids = [value.decode(errors="replace") for value in identities.get("peer_spiffe_id", ())]
    named = [known.get(uri.removeprefix("spiffe://").split("/")[1]) for uri in ids if uri.count("/") >= 3]
    return frozenset(role for role in named if role is not None)


class RoleGate(Wrapper):
    """Refuses every call whose method has no row, or whose row lacks the caller's role."""

    def __init__(self, allowed: Mapping[str, frozenset[Role]] = ALLOWED) -> None:
        super().__init__()
        self._allowed = allowed

    def wrap(self, method: str, handler: Handler) -> Handler:
        """Put the check in front of the method."""
        allowed = self._allowed.get(method, frozenset())

        def check(context: Context) -> None:
            if not roles_of(context.peer(), context.auth_context()) & allowed:
                need = ", ".join(sorted(role.value for role in allowed)) or "nobody"
                raise RequestError("PERMISSION_DENIED", f"{method} is for: {need}.", method=method)

        def around_call(behaviour: Call) -> Call:
            async def call(request: Any, context: Context) -> Any:
                check(context)
                return await behaviour(request, context)

            return call

        def around_stream(behaviour: Stream) -> Stream:
            async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
                check(context)
                async with aclosing(behaviour(request, context)) as answers:  # type: ignore[type-var]
                    async for answer in answers:
                        yield answer

            return stream

        return rewrap(handler, around_call, around_stream)
