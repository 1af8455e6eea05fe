"""Device: an agent seen from the host. Synchronous; every call has a deadline."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from tailorbird import wire
from tailorbird.device.address import Address
from tailorbird.device.blobs import Progress, upload
from tailorbird.device.compare import Comparison, compare
from tailorbird.device.context import context_of
from tailorbird.device.lease import Lease, LeaseBook, OnWait
from tailorbird.device.measure import OnResult, measure, timeout_s_of
from tailorbird.device.rounds import LEAST, MOST, PRECISION, Rounds, in_groups, measure_rounds
from tailorbird.device.transport import Transport
from tailorbird.errors import DeviceError, DeviceUnreachableError
from tailorbird.types import (
    KERNEL,
    QUICK,
    AgentStatus,
    Candidate,
    Deployment,
    DeviceCard,
    Event,
    Figure,
    Inference,
    Measurement,
    Policy,
    Sensors,
    TensorSpec,
    TimingProtocol,
)

if TYPE_CHECKING:
    from tailorbird.device.local import LocalAgent

_CALL_S = 10.0
#: Loading, warming and golden-checking a ladder on a slow board.
_ACTIVATE_S = 180.0
_BENCHMARK_S = 60.0


class Device:
    """A connected device. Usable from several threads and as a context manager.

    name is the card's; address is where the agent listens; agent is the handle of the process when local() started it.
    All calls raise DeviceUnreachableError when the agent went away, LeaseError when somebody else holds the device, and
    DeviceError with the agent's reason otherwise.
    """

    def __init__(self, address: Address, transport: Transport, card: DeviceCard, book: LeaseBook | None = None) -> None:
        self.address = address
        self.agent: LocalAgent | None = None
        self._transport = transport
        self._card = card
        self._book = book
        self._context: str | None = None

    @classmethod
    def connect(cls, address: str | Path, *, timeout_s: float = 5.0, book: LeaseBook | None = None) -> Self:
        """Dial an agent at "unix:/dir/control.sock" or "/dir" and read its card.

        book: where to write down the leases taken (a db.Store). Raises DeviceUnreachableError, UsageError.
        """
        where = Address.parse(address)
        transport = Transport(where)
        try:
            response = transport.call(
                "GetStatus",
                wire.requests.GetStatusRequest(),
                what=f"cannot reach the device at {where}",
                timeout_s=timeout_s,
                retry=False,
            )
        except DeviceError as error:
            transport.close()
            if error.reason == "DEADLINE":
                raise DeviceUnreachableError(error.what, why=error.why, fix=error.fix) from error
            raise
        return cls(where, transport, wire.status_from(response).card, book)

    @property
    def name(self) -> str:
        """The device's name."""
        return self._card.name

    @property
    def card(self) -> DeviceCard:
        """The device's identity, as read on connecting."""
        return self._card

    def close(self) -> None:
        """Close the connection. The agent keeps running."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Device({self.name!r}, {str(self.address)!r})"

    # -- state

    def status(self) -> AgentStatus:
        """Card, sensors, deployments and lease in one snapshot."""
        message = self._call("GetStatus", wire.requests.GetStatusRequest(), f"cannot read the status of {self.name}")
        return wire.status_from(message)

    def sensors(self) -> Sensors:
        """Sensor readings now."""
        return self.status().sensors

    @property
    def context(self) -> str:
        """What measurements on this device depend on beside the runtime: its kernel and its power mode.

        Read once for each connection. A device with another context is measured anew: nothing is mixed.
        """
        if self._context is None:
            status = self.status()
            self._context = context_of(status.card, status.power_mode)
        return self._context

    def watch_status(self, interval_s: float = 1.0) -> Iterator[AgentStatus]:
        """Snapshots at the interval, without end: close the iterator to stop."""
        request = wire.requests.WatchStatusRequest(interval=wire.duration(interval_s))
        what = f"cannot watch the status of {self.name}"
        for message in self._transport.stream("WatchStatus", request, what=what, timeout_s=None):
            yield wire.status_from(message.status)

    # -- measuring

    def lease(
        self,
        holder: str | None = None,
        duration_s: float = 60.0,
        *,
        wait_s: float = 0.0,
        priority: int = 0,
        on_wait: OnWait | None = None,
        give_up: Callable[[], bool] | None = None,
    ) -> Lease:
        """Take the device for measuring; a context manager that renews itself.

        wait_s: how long to wait in line while somebody else holds it; on_wait is told who. See Lease.
        Raises LeaseError when it is held.
        """
        return Lease(
            self._transport,
            self.name,
            holder or whoami(),
            duration_s,
            self._book,
            wait_s=wait_s,
            priority=priority,
            on_wait=on_wait,
            give_up=give_up,
        )

    def measure(
        self,
        candidates: Sequence[Candidate],
        protocol: TimingProtocol,
        *,
        runtime_library: Path | None = None,
        lease: Lease | None = None,
        candidate_timeout_s: float | None = None,
        on_result: OnResult | None = None,
        interleaved: int | None = None,
        fresh_process: bool = False,
    ) -> list[Measurement]:
        """Time modules in order, under the given lease or one of its own; failures of candidates are values.

        runtime_library: libtvm_runtime.so for the device's triple, needed by TVM modules; candidate_timeout_s: by
        default what the protocol may need; on_result: called with (index, measurement) as they come; interleaved: time
        them (2 to 8) in turns, in an order drawn from this seed: one that fails fails them all; fresh_process: in a
        process that has timed nothing before, whose memory lies elsewhere.
        """
        if lease is None:
            with self.lease() as own:
                return self.measure(
                    candidates,
                    protocol,
                    runtime_library=runtime_library,
                    lease=own,
                    candidate_timeout_s=candidate_timeout_s,
                    on_result=on_result,
                    interleaved=interleaved,
                    fresh_process=fresh_process,
                )
        return measure(
            self._transport,
            lease,
            candidates,
            protocol,
            runtime_library=runtime_library,
            candidate_timeout_s=candidate_timeout_s,
            on_result=on_result,
            interleaved=interleaved,
            fresh_process=fresh_process,
        )

    def measure_rounds(
        self,
        candidates: Sequence[Candidate],
        protocol: TimingProtocol = KERNEL,
        *,
        runtime_library: Path | None = None,
        lease: Lease | None = None,
        least: int = LEAST,
        most: int = MOST,
        precision: float = PRECISION,
        seed: int = 0,
    ) -> list[Rounds]:
        """Time modules so that the same median can be had again: see device.rounds.

        Raises DeviceError, LeaseError.
        """
        with nullcontext(lease) if lease is not None else self.lease() as held:

            def together(some: Sequence[Candidate], order: int) -> list[Measurement]:
                return self.measure(
                    some,
                    protocol,
                    runtime_library=runtime_library,
                    lease=held,
                    interleaved=order if len(some) > 1 else None,
                    fresh_process=True,
                )

            once = in_groups(together, seed)
            return measure_rounds(once, candidates, least=least, most=most, precision=precision, seed=seed)

    def compare(
        self,
        first: Candidate,
        second: Candidate,
        protocol: TimingProtocol = QUICK,
        *,
        runtime_library: Path | None = None,
        lease: Lease | None = None,
        seed: int = 0,
    ) -> Comparison:
        """Time two modules in turns, in random order, and tell the ratio of their on-CPU times with its interval.

        Raises DeviceError also when one of them cannot be timed.
        """
        with nullcontext(lease) if lease is not None else self.lease() as held:
            pair = measure(
                self._transport,
                held,
                [first, second],
                protocol,
                runtime_library=runtime_library,
                interleaved=seed,
            )
        return compare(*pair, seed=seed)

    def benchmark(
        self, names: Sequence[str] = (), protocol: TimingProtocol = QUICK, *, lease: Lease | None = None
    ) -> list[Figure]:
        """The agent's own micro-benchmarks (AgentStatus.benchmarks), all of them when no names are given."""
        if lease is None:
            with self.lease() as own:
                return self.benchmark(names, protocol, lease=own)
        response = self._transport.call(
            "RunBenchmark",
            wire.requests.RunBenchmarkRequest(
                fencing_token=lease.token, names=names, protocol=wire.protocol_to(protocol)
            ),
            what=f"cannot benchmark {self.name}",
            timeout_s=_BENCHMARK_S + timeout_s_of(protocol) * (len(names) or 2),
            retry=False,
        )
        return [wire.figure_from(figure) for figure in response.figures]

    # -- deploying

    def push(
        self, blobs: Mapping[str, Path | bytes], *, lease: Lease | None = None, on_progress: Progress | None = None
    ) -> int:
        """Bring blobs to the device, resuming what is partly there; returns the bytes sent.

        They live as long as the lease, or until garbage collection finds them unused.
        """
        return upload(self._transport, blobs, token=0 if lease is None else lease.token, on_progress=on_progress)

    def stage(self, manifest: bytes, *, expected_generation: int | None = None) -> tuple[str, Deployment]:
        """Verify a bundle whose blobs are present; loads nothing. Returns (its SHA-256, where the model stands)."""
        response = self._call(
            "StageBundle",
            wire.requests.StageBundleRequest(
                request_id=_request_id(), manifest=manifest, expected_generation=expected_generation
            ),
            f"{self.name} does not accept the bundle",
            timeout_s=60.0,
        )
        return response.bundle_sha256, wire.deployment_from(response.deployment)

    def activate(
        self,
        bundle: str,
        *,
        commit: bool = False,
        trial_timeout_s: float | None = None,
        expected_generation: int | None = None,
        timeout_s: float = _ACTIVATE_S,
    ) -> Deployment:
        """Load, warm and golden-check a staged bundle in a new worker, then move traffic to it."""
        response = self._call(
            "ActivateBundle",
            wire.requests.ActivateBundleRequest(
                request_id=_request_id(),
                bundle_sha256=bundle,
                commit=commit,
                trial_timeout=None if trial_timeout_s is None else wire.duration(trial_timeout_s),
                expected_generation=expected_generation,
            ),
            f"{self.name} could not activate bundle {bundle[:12]}",
            timeout_s=timeout_s,
        )
        return wire.deployment_from(response.deployment)

    def commit(self, model: str, *, expected_generation: int | None = None) -> Deployment:
        """End a trial: the active bundle survives a restart."""
        request = wire.requests.CommitBundleRequest(
            request_id=_request_id(), model=model, expected_generation=expected_generation
        )
        response = self._call("CommitBundle", request, f"cannot commit {model!r} on {self.name}")
        return wire.deployment_from(response.deployment)

    def rollback(self, model: str, *, expected_generation: int | None = None) -> Deployment:
        """Return to the bundle before."""
        request = wire.requests.RollbackBundleRequest(
            request_id=_request_id(), model=model, expected_generation=expected_generation
        )
        what = f"cannot roll back {model!r} on {self.name}"
        return wire.deployment_from(self._call("RollbackBundle", request, what, timeout_s=_ACTIVATE_S).deployment)

    def deployments(self) -> list[Deployment]:
        """What is deployed, one per model."""
        found: list[Deployment] = []
        token = ""
        while True:
            request = wire.requests.ListBundlesRequest(page_size=100, page_token=token)
            response = self._call("ListBundles", request, f"cannot list the deployments of {self.name}")
            found += [wire.deployment_from(message) for message in response.deployments]
            token = response.next_page_token
            if not token:
                return found

    def deployment(self, model: str) -> Deployment:
        """Where one model stands. Raises DeviceError (MODEL_NOT_FOUND) when the device does not have it."""
        for deployment in self.deployments():
            if deployment.model == model:
                return deployment
        raise DeviceError(
            f"{self.name} does not have the model {model!r}",
            why="nothing of that name was deployed there",
            fix="deploy it, or list what is there with `tailorbird devices`",
            reason="MODEL_NOT_FOUND",
        )

    # -- policy and events

    def set_policy(self, model: str, policy: str = "", slo_us: float | None = None) -> Deployment:
        """Choose a model's adaptation policy and deadline; "" and None leave them as they are."""
        request = wire.requests.SetPolicyRequest(request_id=_request_id(), model=model, policy=policy, slo_us=slo_us)
        response = self._call("SetPolicy", request, f"cannot set the policy of {model!r} on {self.name}")
        return wire.deployment_from(response.deployment)

    def policy(self, model: str) -> Policy:
        """The policy in force and those available."""
        request = wire.requests.GetPolicyRequest(model=model)
        return wire.policy_from(self._call("GetPolicy", request, f"cannot read the policy of {model!r}"))

    def events(
        self, since: int = 0, kinds: Sequence[str] = (), model: str = "", *, limit: int | None = None
    ) -> list[Event]:
        """Events after sequence number `since`, oldest first; at most `limit` of them."""
        found: list[Event] = []
        while limit is None or len(found) < limit:
            size = 100 if limit is None else min(100, limit - len(found))
            request = wire.requests.ListEventsRequest(since_sequence=since, page_size=size, kinds=kinds, model=model)
            page = self._call("ListEvents", request, f"cannot read the events of {self.name}").events
            found += [wire.event_from(message) for message in page]
            if len(page) < size:
                break
            since = found[-1].sequence
        return found

    def watch_events(self, since: int = 0, kinds: Sequence[str] = (), model: str = "") -> Iterator[Event]:
        """Events after `since`, then live ones, without end: close the iterator to stop."""
        request = wire.requests.WatchEventsRequest(since_sequence=since, kinds=kinds, model=model)
        what = f"cannot watch the events of {self.name}"
        for message in self._transport.stream("WatchEvents", request, what=what, timeout_s=None):
            yield wire.event_from(message.event)

    # -- serving

    def infer(
        self,
        model: str,
        inputs: Mapping[str, NDArray[np.generic]],
        version: str = "",
        slo_us: float | None = None,
        timeout_s: float = _CALL_S,
    ) -> Inference:
        """One request over the Open Inference Protocol. version "" lets the policy choose, "r3" pins a rung."""
        request = wire.infer_request(model, inputs, version, slo_us)
        what = f"{self.name} could not answer for {model!r}"
        return wire.inference_from(self._transport.infer("ModelInfer", request, what=what, timeout_s=timeout_s))

    def signature(self, model: str) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """(inputs, outputs) of a served model."""
        what = f"cannot read the signature of {model!r} on {self.name}"
        message = self._transport.infer("ModelMetadata", wire.metadata_request(model), what=what, timeout_s=_CALL_S)
        return wire.signature_from(message)

    def _call(self, method: str, request: Any, what: str, *, timeout_s: float = _CALL_S) -> Any:
        return self._transport.call(method, request, what=what, timeout_s=timeout_s)


def _request_id() -> str:
    return uuid.uuid4().hex


def whoami() -> str:
    """How this program names itself as a holder: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"
