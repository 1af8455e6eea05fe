"""A real agent, started as users start it, and a plain client of its two sockets."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from agentkit.bundles import Bundle
from tailorbird_api.agent.v1 import agent_service_pb2 as api
from tailorbird_api.agent.v1 import agent_service_pb2_grpc as api_grpc
from tailorbird_api.inference import open_inference_pb2 as oip
from tailorbird_api.inference import open_inference_pb2_grpc as oip_grpc

CHUNK = 256 << 10
TIMEOUT = 30.0


class Agent:
    """An agent process. `control` and `inference` are stubs; every call has a deadline."""

    def __init__(self, state: Path, *flags: str, wrapper: tuple[str, ...] = ()) -> None:
        self.state = state
        self._flags = flags
        self._wrapper = wrapper
        self.start()

    def start(self) -> None:
        """Start it (again) and wait until it says that it is ready."""
        command = [*self._wrapper, sys.executable, "-m", "tailorbird_agent", "run", "--state", str(self.state)]
        began = time.monotonic()
        self.process = subprocess.Popen(
            [*command, "--name", "bench-board", *self._flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], TIMEOUT)
        self.ready_line = self.process.stdout.readline().strip() if ready else ""
        self.ready_s = time.monotonic() - began
        if not self.ready_line.startswith("ready "):
            self.process.kill()
            errors = self.process.communicate()[1]
            raise AssertionError(f"the agent did not start: {errors}")
        self.fields = dict(part.split("=", 1) for part in self.ready_line.split()[1:])
        self._channels = [grpc.insecure_channel(f"unix:{self.fields[name]}") for name in ("control", "inference")]
        self.control = api_grpc.AgentServiceStub(self._channels[0])
        self.inference = oip_grpc.GRPCInferenceServiceStub(self._channels[1])

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> tuple[int, str]:
        """SIGTERM; returns the exit status and what it wrote to standard error."""
        self._close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, errors

    def kill(self) -> None:
        """SIGKILL, as the kernel does when memory runs out."""
        self._close()
        self.process.kill()
        self.process.communicate(timeout=TIMEOUT)

    def restart(self) -> None:
        self.kill()
        self.start()

    def status(self) -> api.GetStatusResponse:
        return self.control.GetStatus(api.GetStatusRequest(), timeout=TIMEOUT)

    def deployment(self, model: str = "toy") -> api.Deployment:
        return next(each for each in self.status().deployments if each.model == model)

    def lease(self, holder: str = "test", seconds: int = 60, request_id: str = "") -> api.Lease:
        request = api.AcquireLeaseRequest(request_id=request_id, holder=holder)
        request.duration.FromSeconds(seconds)
        return self.control.AcquireLease(request, timeout=TIMEOUT).lease

    def upload(self, blobs: dict[str, bytes], token: int = 0) -> list[api.BlobStat]:
        return list(self.control.UploadBlobs(chunks(blobs, token), timeout=TIMEOUT).blobs)

    def stat(self, *digests: str) -> list[api.BlobStat]:
        return list(self.control.StatBlobs(api.StatBlobsRequest(sha256=digests), timeout=TIMEOUT).blobs)

    def push(self, bundle: Bundle) -> api.StageBundleResponse:
        """Upload what is missing and stage."""
        missing = {each.sha256 for each in self.stat(*bundle.blobs) if not each.complete}
        self.upload({sha: data for sha, data in bundle.blobs.items() if sha in missing})
        return self.control.StageBundle(api.StageBundleRequest(manifest=bundle.manifest), timeout=TIMEOUT)

    def deploy(self, bundle: Bundle, *, commit: bool = True, **fields: Any) -> api.Deployment:
        """Push and activate."""
        self.push(bundle)
        request = api.ActivateBundleRequest(bundle_sha256=bundle.sha256, commit=commit, **fields)
        return self.control.ActivateBundle(request, timeout=TIMEOUT).deployment

    def infer(self, x: np.ndarray, *, version: str = "", model: str = "toy", **fields: Any) -> oip.ModelInferResponse:
        return self.inference.ModelInfer(infer_request(x, version=version, model=model, **fields), timeout=TIMEOUT)

    def infer_patiently(self, x: np.ndarray) -> oip.ModelInferResponse:
        """Retry at once what the agent says may be retried, as a client of a restarting worker does."""
        while True:
            try:
                return self.infer(x)
            except grpc.RpcError as error:
                if retry_after_s(error) is None:
                    raise

    def events(self, *kinds: str, since: int = 0) -> list[Any]:
        request = api.ListEventsRequest(since_sequence=since, kinds=kinds, page_size=1000)
        return list(self.control.ListEvents(request, timeout=TIMEOUT).events)

    def wait_event(self, kind: str, *, since: int = 0, matching: Callable[[Any], bool] = lambda _: True) -> Any:
        """The first event of a kind after `since`, when it comes."""
        stream = self.control.WatchEvents(api.WatchEventsRequest(since_sequence=since, kinds=[kind]), timeout=TIMEOUT)
        for each in stream:
            if matching(each.event):
                stream.cancel()
                return each.event
        raise AssertionError(f"the stream ended before {kind}")

    def __enter__(self) -> Agent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status, errors = self.stop()
        if kind is None:
            assert (status, "incident" in errors, "Traceback" in errors) == (0, False, False), errors

    def _close(self) -> None:
        for channel in self._channels:
            channel.close()


def chunks(blobs: dict[str, bytes], token: int = 0, *, start: int = 0) -> Iterator[api.UploadBlobsRequest]:
    """The messages that carry blobs, each from `start`."""
    for sha256, data in blobs.items():
        name, size = sha256, len(data)
        for offset in range(start, max(len(data), 1), CHUNK):
            piece = data[offset : offset + CHUNK]
            yield api.UploadBlobsRequest(
                sha256=name, size_bytes=size, offset_bytes=offset, data=piece, fencing_token=token
            )
            name, size = "", 0


def infer_request(x: np.ndarray, *, version: str = "", model: str = "toy", **fields: Any) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name=model, model_version=version, raw_input_contents=[x.tobytes()], **fields)
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    return request


def output(response: oip.ModelInferResponse) -> np.ndarray:
    return np.frombuffer(response.raw_output_contents[0], np.float32).reshape(tuple(response.outputs[0].shape))


def refusal(error: grpc.RpcError) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo of a failed call; every refusal of the agent carries one."""
    status = rpc_status.from_call(error)
    assert status is not None, f"no details: {error}"
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "tailorbird.agent"
    return info


def retry_after_s(error: grpc.RpcError) -> float | None:
    """RetryInfo of a failed call, seconds."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.RetryInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            return info.retry_delay.ToNanoseconds() / 1e9
    return None


class refused:
    """Context: the call inside must fail with this reason and code."""

    def __init__(self, reason: str, code: grpc.StatusCode, text: str = "") -> None:
        self.reason, self.code, self.text = reason, code, text

    def __enter__(self) -> refused:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        assert isinstance(error, grpc.RpcError), f"it was accepted, or failed otherwise: {error!r}"
        self.error = error
        info = refusal(error)
        assert (info.reason, error.code()) == (self.reason, self.code), error.details()
        assert info.metadata["fix"]
        assert self.text in error.details()
        return True


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
