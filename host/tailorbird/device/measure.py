"""Timing a batch of modules on a device: upload, time, collect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def measure(
    transport: Transport,
    lease: Lease,
    candidates: Sequence[Candidate],
    protocol: TimingProtocol,
    *,
    runtime_library: Path | None = None,
    candidate_timeout_s: float = 10.0,
    on_result: OnResult | None = None,
) -> list[Measurement]:
    """Time modules on the device in the order given; a candidate that fails has its error as its measurement.

    The modules live on the device as long as the lease, the runtime library (libtvm_runtime.so) until it is unused.
    Raises DeviceError, LeaseError when the lease was lost, DeviceUnreachableError.
    """
    libraries: list[RuntimeBlob] = []
    if runtime_library is not None:
        sha256 = sha256_of(runtime_library)
        upload(transport, {sha256: runtime_library})
        libraries.append(RuntimeBlob("tvm", "", BlobRef(sha256, runtime_library.stat().st_size)))
    results: list[Measurement] = []
    for start in range(0, len(candidates), _BATCH):
        results += _measure_batch(
            transport,
            lease,
            candidates[start : start + _BATCH],
            protocol,
            libraries,
            candidate_timeout_s,
            start,
            on_result,
        )
    return results


def _measure_batch(
    transport: Transport,
    lease: Lease,
    candidates: Sequence[Candidate],
    protocol: TimingProtocol,
    libraries: Sequence[RuntimeBlob],
    candidate_timeout_s: float,
    first: int,
    on_result: OnResult | None,
) -> list[Measurement]:
    digests = [sha256_of(candidate.module) for candidate in candidates]
    modules: dict[str, bytes | Path] = {
        sha256: candidate.module for sha256, candidate in zip(digests, candidates, strict=True)
    }
    upload(transport, modules, token=lease.token)
    request = wire.requests.MeasureModulesRequest(
        fencing_token=lease.token,
        candidates=[wire.candidate_to(c, sha256) for c, sha256 in zip(candidates, digests, strict=True)],
        protocol=wire.protocol_to(protocol),
        runtime_blobs=[wire.runtime_blob_to(library) for library in libraries],
        candidate_timeout=wire.duration(candidate_timeout_s),
    )
    what = f"cannot measure {len(candidates)} module(s) on the device"
    # Each candidate may use its timeout and then cost a worker's restart.
    timeout_s = 30 + len(candidates) * (candidate_timeout_s + 5)
    found: dict[int, Measurement] = {}
    for message in transport.stream("MeasureModules", request, what=what, timeout_s=timeout_s):
        result = wire.measurement_from(message.measurement)
        found[message.index] = result
        if on_result is not None:
            on_result(first + message.index, result)
    missing = [index for index in range(len(candidates)) if index not in found]
    if missing:
        raise DeviceError(
            what, why=f"the agent ended the batch without {len(missing)} of its results", reason="RESPONSE_INVALID"
        )
    return [found[index] for index in range(len(candidates))]
