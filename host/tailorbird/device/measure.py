"""Timing a batch of modules on a device: upload, time, collect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tailorbird import wire
from tailorbird.cache import sha256_of
from tailorbird.device.blobs import upload
from tailorbird.device.lease import Lease
from tailorbird.device.transport import Transport
from tailorbird.errors import DeviceError
from tailorbird.types import BlobRef, Candidate, Measurement, RuntimeBlob, TimingProtocol

#: Candidates per request: bounds the request's size and how much an interrupted stream costs.
_BATCH = 64

#: Called with (index, measurement) as results arrive.
OnResult = Callable[[int, Measurement], None]


def timeout_s_of(protocol: TimingProtocol) -> float:
    """Wall time a candidate may need under a protocol: its longest run, a warm-up, loading, and a busy device."""
    return 5.0 + 2.5 * protocol.max_seconds


def measure(
    transport: Transport,
    lease: Lease,
    candidates: Sequence[Candidate],
    protocol: TimingProtocol,
    *,
    runtime_library: Path | None = None,
    candidate_timeout_s: float | None = None,
    on_result: OnResult | None = None,
    interleaved: int | None = None,
    fresh_process: bool = False,
) -> list[Measurement]:
    """Time modules on the device in the order given; a candidate that fails has its error as its measurement.

    The modules live on the device as long as the lease, the runtime library (libtvm_runtime.so) until it is unused.
    candidate_timeout_s: for one candidate in all, by default what the protocol may need; on_result gets every
    measurement as it comes, so that a device that goes away costs the rest alone; interleaved: time the (2 to 8)
    candidates in turns, in an order drawn from this seed; fresh_process: each request's in a process of their own.
    Raises DeviceError, LeaseError when the lease was lost, DeviceUnreachableError.
    """
    libraries: list[RuntimeBlob] = []
    if runtime_library is not None:
        sha256 = sha256_of(runtime_library)
        upload(transport, {sha256: runtime_library})
        libraries.append(RuntimeBlob("tvm", "", BlobRef(sha256, runtime_library.stat().st_size)))
    timeout_s = candidate_timeout_s or timeout_s_of(protocol)
    batch = _Batch(transport, lease, protocol, libraries, timeout_s, on_result, interleaved, fresh_process)
    results: list[Measurement] = []
    for start in range(0, len(candidates), _BATCH):
        results += batch.measure(candidates[start : start + _BATCH], start)
    return results


@dataclass(frozen=True, slots=True)
class _Batch:
    """What all requests of one call have in common."""

    transport: Transport
    lease: Lease
    protocol: TimingProtocol
    libraries: Sequence[RuntimeBlob]
    candidate_timeout_s: float
    on_result: OnResult | None
    interleaved: int | None
    fresh_process: bool

    def measure(self, candidates: Sequence[Candidate], first: int) -> list[Measurement]:
        """Upload the modules and time them. `first` is the number of the first among all."""
        digests = [sha256_of(candidate.module) for candidate in candidates]
        modules: dict[str, bytes | Path] = {
            sha256: candidate.module for sha256, candidate in zip(digests, candidates, strict=True)
        }
        golden = [each.golden for each in candidates if each.golden is not None]
        modules |= {sha256_of(blob): blob for each in golden for blob in (each.inputs, each.outputs)}
        upload(self.transport, modules, token=self.lease.token)
        try:
            return self._time(candidates, digests, first)
        except DeviceError as error:
            if error.reason != "BLOB_MISSING":
                raise
            # The clean-up after the lease before this one took what was found there; nothing was timed yet.
            upload(self.transport, modules, token=self.lease.token)
            return self._time(candidates, digests, first)

    def _time(self, candidates: Sequence[Candidate], digests: Sequence[str], first: int) -> list[Measurement]:
        request = wire.requests.MeasureModulesRequest(
            fencing_token=self.lease.token,
            candidates=[wire.candidate_to(c, sha256) for c, sha256 in zip(candidates, digests, strict=True)],
            protocol=wire.protocol_to(self.protocol),
            runtime_blobs=[wire.runtime_blob_to(library) for library in self.libraries],
            candidate_timeout=wire.duration(self.candidate_timeout_s),
            interleaved=self.interleaved is not None,
            seed=self.interleaved or 0,
            fresh_process=self.fresh_process,
        )
        what = f"cannot measure {len(candidates)} module(s) on the device"
        # Each candidate may use its timeout and then cost a worker's restart.
        timeout_s = 30 + len(candidates) * (self.candidate_timeout_s + 5)
        found: dict[int, Measurement] = {}
        for message in self.transport.stream("MeasureModules", request, what=what, timeout_s=timeout_s):
            result = wire.measurement_from(message.measurement)
            found[message.index] = result
            if self.on_result is not None:
                self.on_result(first + message.index, result)
        missing = [index for index in range(len(candidates)) if index not in found]
        if missing:
            raise DeviceError(
                what, why=f"the agent ended the batch without {len(missing)} of its results", reason="RESPONSE_INVALID"
            )
        return [found[index] for index in range(len(candidates))]
