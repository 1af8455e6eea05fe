"""The Open Inference Protocol over the models served here. The only module that imports its messages: tritonclient
brings a second copy of the same names, and protobuf refuses two in one process.

Deadlines. `slo_us` replaces, for one request, the objective that the policy serves a model by. The gRPC deadline and
Triton's parameter `timeout` (microseconds) are the caller's own: they bound the time of this request alone, which a
smaller rung then answers if need be, and never move the policy. If the time is over before the request's turn comes, it
is refused with DEADLINE_EXCEEDED and not run, as Triton's queue policy REJECT does; if it is not over and yet too short
for every rung, the smallest one answers: late for `timeout` (with `missed` set), perhaps cancelled by gRPC.

A request reads the serving reference once and hands its tensors to the worker before it awaits anything: so a swap sees
it either before, and drains it, or after, and never loses it.
"""

# ruff: noqa: N802, ARG002 -- gRPC fixes the names and the arguments of the methods

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from tailorbird_agent import __version__
from tailorbird_agent.deploy.models import Models
from tailorbird_agent.deploy.pointer import Serving
from tailorbird_agent.deploy.runner import ModelRunner
from tailorbird_agent.errors import AgentError, RequestError, ServingError
from tailorbird_agent.events import EventLog
from tailorbird_agent.handlers import Context
from tailorbird_agent.regions import Regions, Span
from tailorbird_agent.worker.arena import Tensor, tensor_bytes
from tailorbird_agent.worker.failure import WorkerError
from tailorbird_agent.worker.plan import Answer, TensorSpec
from tailorbird_api.inference import open_inference_pb2 as oip
from tailorbird_api.inference import open_inference_pb2_grpc as oip_grpc

#: How long a request waits for a worker that is being restarted.
RESTART_WAIT_S = 5.0
DEFAULT_TIMEOUT_S = 60.0
#: Of a gRPC deadline, kept for the answer's way back.
RETURN_US = 500.0
_READY = "READY"
BUNDLE_DIGITS = 12

# Datatype -> (field of InferTensorContents, array type code). The protocol has no typed field for FP16.
_TYPED: Mapping[str, tuple[str, str]] = {
    "FP32": ("fp32_contents", "f"),
    "INT64": ("int64_contents", "q"),
    "INT32": ("int_contents", "i"),
    "INT8": ("int_contents", "b"),
    "UINT8": ("uint_contents", "B"),
    "BOOL": ("bool_contents", "b"),
}
#: Triton's parameters of a tensor in shared memory.
_REGION, _BYTE_SIZE, _OFFSET = "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"
_REQUEST_ERRORS = frozenset({"INPUT_INVALID", "RUNG_NOT_FOUND", "RUNG_UNLOADED", "RUNG_IN_USE", "RUNG_TOO_LARGE"})
_RETRY_AFTER_S: Mapping[str, float] = {"WORKER_DIED": 0.5, "WORKER_TIMEOUT": 0.5, "WORKER_BUSY": 0.05}


class InferenceService(oip_grpc.GRPCInferenceServiceServicer):
    """Inference by model name; model_version "" lets the policy choose, "<rung>" or "<bundle>/<rung>" pins a rung."""

    def __init__(self, models: Models, events: EventLog, regions: Regions) -> None:
        self._models = models
        self._events = events
        self._regions = regions

    async def ServerLive(self, request: oip.ServerLiveRequest, context: Context) -> oip.ServerLiveResponse:
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(self, request: oip.ServerReadyRequest, context: Context) -> oip.ServerReadyResponse:
        return oip.ServerReadyResponse(ready=True)

    async def ServerMetadata(self, request: oip.ServerMetadataRequest, context: Context) -> oip.ServerMetadataResponse:
        return oip.ServerMetadataResponse(
            name="tailorbird-agent",
            version=__version__,
            extensions=["model_repository", "statistics", "system_shared_memory"],
        )

    async def ModelReady(self, request: oip.ModelReadyRequest, context: Context) -> oip.ModelReadyResponse:
        runner = self._models.runners.get(request.name)
        serving = runner.pointer.current if runner else None
        if serving is None:
            return oip.ModelReadyResponse(ready=False)
        try:
            rung = _pinned(serving, request.version)
        except RequestError:
            return oip.ModelReadyResponse(ready=False)
        return oip.ModelReadyResponse(ready=rung not in serving.worker.unloaded)

    async def ModelMetadata(self, request: oip.ModelMetadataRequest, context: Context) -> oip.ModelMetadataResponse:
        serving = await self._serving(self._models.get(request.name), context)
        _pinned(serving, request.version)
        manifest = serving.manifest
        return oip.ModelMetadataResponse(
            name=manifest.model,
            versions=[_version(serving, rung.name) for rung in manifest.rungs],
            platform="tailorbird_" + "_".join(sorted({rung.runtime for rung in manifest.rungs})),
            inputs=map(_metadata, manifest.inputs),
            outputs=map(_metadata, manifest.outputs),
        )

    async def ModelInfer(self, request: oip.ModelInferRequest, context: Context) -> oip.ModelInferResponse:
        runner = self._models.get(request.model_name)
        serving = await self._serving(runner, context)
        manifest = serving.manifest
        regions = _Local(self._regions, context.peer)
        tensors = _tensors(request, manifest.inputs, regions)
        chosen = _chosen(request, manifest.outputs, regions)
        slo_us, limit_us = _microseconds(request, "slo_us"), _microseconds(request, "timeout", zero_is_none=True)
        remaining = context.time_remaining()
        if remaining is not None:
            limit_us = max(0.0, min(remaining * 1e6 - RETURN_US, math.inf if limit_us is None else limit_us))
        try:
            answer = await serving.worker.infer(
                tensors,
                rung=_pinned(serving, request.model_version),
                slo_us=slo_us,
                limit_us=limit_us,
                timeout_s=DEFAULT_TIMEOUT_S if remaining is None else max(remaining, 0.0),
            )
        except WorkerError as error:
            runner.failed(serving, error.reason)
            raise _refusal(error) from None
        runner.answered(serving, answer)
        if answer.switch is not None:
            self._note_switch(manifest.model, answer)
        if answer.notice is not None:
            self._events.append(answer.notice.kind, manifest.model, answer.notice.message, answer.notice.details)
        response = oip.ModelInferResponse(
            model_name=manifest.model, model_version=_version(serving, answer.rung), id=request.id
        )
        for index, span in chosen:
            spec, data = manifest.outputs[index], answer.outputs[index]
            told = response.outputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
            if span is None:
                response.raw_output_contents.append(data)
                continue
            span.write(data)
            told.parameters[_REGION].string_param = span.region.name
            told.parameters[_BYTE_SIZE].int64_param = len(data)
            # Clients count the raw contents by output.
            response.raw_output_contents.append(b"")
        response.parameters["wall_us"].double_param = answer.wall_us
        response.parameters["cpu_us"].double_param = answer.cpu_us
        response.parameters["queue_us"].double_param = answer.queue_us
        if answer.missed is not None:
            response.parameters["missed"].bool_param = answer.missed
        return response

    async def ModelStreamInfer(
        self, request_iterator: AsyncIterator[oip.ModelInferRequest], context: Context
    ) -> AsyncIterator[oip.ModelStreamInferResponse]:
        async for request in request_iterator:
            try:
                answer = await self.ModelInfer(request, context)
            except AgentError as error:
                # The caller finds its request by the id of the answer.
                told = oip.ModelInferResponse(model_name=request.model_name[:128], id=request.id)
                yield oip.ModelStreamInferResponse(error_message=f"{error.reason}: {error}", infer_response=told)
            else:
                yield oip.ModelStreamInferResponse(infer_response=answer)

    async def RepositoryIndex(
        self, request: oip.RepositoryIndexRequest, context: Context
    ) -> oip.RepositoryIndexResponse:
        if request.repository_name:
            return oip.RepositoryIndexResponse()
        runners = (runner for _, runner in sorted(self._models.runners.items()))
        entries = (entry for runner in runners for entry in _index(runner))
        return oip.RepositoryIndexResponse(
            models=[each for each in entries if each.state == _READY or not request.ready]
        )

    async def ModelStatistics(
        self, request: oip.ModelStatisticsRequest, context: Context
    ) -> oip.ModelStatisticsResponse:
        names = [request.name] if request.name else sorted(self._models.runners)
        servings = [self._models.get(name).pointer.current for name in names]
        found = [
            each
            for serving in servings
            if serving is not None
            for each in _statistics(serving, _pinned(serving, request.version))
        ]
        return oip.ModelStatisticsResponse(model_stats=found)

    async def RepositoryModelLoad(
        self, request: oip.RepositoryModelLoadRequest, context: Context
    ) -> oip.RepositoryModelLoadResponse:
        if request.parameters:
            raise RequestError("LOAD_UNVERIFIED", f'"{min(request.parameters)[:64]}" came with the request.')
        await self._remember(request, context, "load")
        return oip.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: oip.RepositoryModelUnloadRequest, context: Context
    ) -> oip.RepositoryModelUnloadResponse:
        await self._remember(request, context, "unload")
        return oip.RepositoryModelUnloadResponse()

    async def _remember(
        self,
        request: oip.RepositoryModelLoadRequest | oip.RepositoryModelUnloadRequest,
        context: Context,
        operation: Literal["load", "unload"],
    ) -> None:
        """Have a rung in memory or not, for as long as its bundle's worker lives.

        Raises:
            RequestError: MODEL_NOT_FOUND, RUNG_NOT_FOUND, RUNG_IN_USE, RUNG_TOO_LARGE.
            ServingError: what loading it says; what `_serving` raises.
        """
        if request.repository_name:
            raise RequestError("MODEL_NOT_FOUND", f'There is one repository, "", not "{request.repository_name[:64]}".')
        model, _, version = request.model_name.partition("/")
        serving = await self._serving(self._models.get(model), context)
        rung = _pinned(serving, version)
        try:
            if operation == "load":
                await serving.worker.load(rung)
            elif rung is None:
                raise RequestError("RUNG_IN_USE", f'"{model}" serves; name one of its rungs, as in "{model}/r1".')
            else:
                await serving.worker.unload(rung)
        except WorkerError as error:
            raise _refusal(error) from None
        what = f"rung {rung} was {operation}ed" if rung else "what is in memory follows the memory plan again"
        self._events.append("memory", model, f"{what}, on request", {"rung": rung or "", "bundle": serving.bundle})

    async def SystemSharedMemoryRegister(
        self, request: oip.SystemSharedMemoryRegisterRequest, context: Context
    ) -> oip.SystemSharedMemoryRegisterResponse:
        _Local(self._regions, context.peer).regions.register(
            request.name, request.key, request.offset, request.byte_size
        )
        return oip.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryStatus(
        self, request: oip.SystemSharedMemoryStatusRequest, context: Context
    ) -> oip.SystemSharedMemoryStatusResponse:
        response = oip.SystemSharedMemoryStatusResponse()
        for name, region in _Local(self._regions, context.peer).regions.registered(request.name).items():
            status = response.regions[name]
            status.name, status.key = name, region.key
            status.offset, status.byte_size = region.offset_bytes, region.size_bytes
        return response

    async def SystemSharedMemoryUnregister(
        self, request: oip.SystemSharedMemoryUnregisterRequest, context: Context
    ) -> oip.SystemSharedMemoryUnregisterResponse:
        _Local(self._regions, context.peer).regions.unregister(request.name)
        return oip.SystemSharedMemoryUnregisterResponse()

    async def _serving(self, runner: ModelRunner, context: Context) -> Serving:
        """What answers requests for a model now; while its worker restarts, what answers them in a moment.

        Raises:
            RequestError: MODEL_NOT_FOUND, nothing of it serves.
            ServingError: REPLACING, in an announced gap; WORKER_DIED, when no worker came back in time.
        """
        if (serving := runner.pointer.current) is not None:
            return serving
        if not runner.deployment.active:
            phase = runner.deployment.phase.value
            message = f'"{runner.model}" is {phase}: no bundle of it serves.'
            raise RequestError("MODEL_NOT_FOUND", message, model=runner.model)
        if (gap_s := runner.pointer.gap_left_s()) is not None:
            raise ServingError("REPLACING", f'"{runner.model}" is back in about {gap_s:.1f} s.', retry_after_s=gap_s)
        remaining = context.time_remaining()
        waited = await runner.pointer.wait(RESTART_WAIT_S if remaining is None else min(RESTART_WAIT_S, remaining))
        if waited is None:
            raise ServingError("WORKER_DIED", f'"{runner.model}" is being restarted.', retry_after_s=1.0)
        return waited

    def _note_switch(self, model: str, answer: Answer) -> None:
        note = answer.switch
        assert note is not None
        details = {**note.details, "from": note.from_rung, "to": note.to_rung, "cause": note.cause}
        self._events.append("switch", model, note.message, details)


class _Local:
    """The regions, for a caller on the Unix socket; peer names it as gRPC does."""

    __slots__ = ("_peer", "_regions")

    def __init__(self, regions: Regions, peer: Callable[[], str]) -> None:
        self._regions = regions
        self._peer = peer

    @property
    def regions(self) -> Regions:
        """Them. Raises RequestError REGION_REMOTE for any other caller."""
        if not (peer := self._peer()).startswith("unix:"):
            raise RequestError("REGION_REMOTE", f"This connection comes from {peer[:64]}.")
        return self._regions

    def span(self, parameters: Mapping[str, oip.InferParameter], tensor: str) -> Span | None:
        """Where a tensor's parameters say that it lies, None when they do not.

        Raises:
            RequestError: INPUT_INVALID, REGION_REMOTE, REGION_NOT_FOUND, REGION_INVALID.
        """
        if _REGION not in parameters:
            return None
        region, size, offset = parameters[_REGION], parameters.get(_BYTE_SIZE), parameters.get(_OFFSET)
        numbers = [each for each in (size, offset) if each is not None]
        kinds = {each.WhichOneof("parameter_choice") for each in numbers}
        if region.WhichOneof("parameter_choice") != "string_param" or size is None or kinds != {"int64_param"}:
            message = (
                f'Tensor "{tensor[:64]}" in shared memory: {_REGION} is a text, {_BYTE_SIZE} and {_OFFSET} are int64.'
            )
            raise RequestError("INPUT_INVALID", message)
        return self.regions.span(region.string_param, 0 if offset is None else offset.int64_param, size.int64_param)


def _refusal(error: WorkerError) -> AgentError:
    if error.reason in _REQUEST_ERRORS:
        return RequestError(error.reason, f"{error.message}.")
    return ServingError(error.reason, f"{error.message}.", retry_after_s=_RETRY_AFTER_S.get(error.reason))


def _version(serving: Serving, rung: str) -> str:
    return f"{serving.bundle[:BUNDLE_DIGITS]}/{rung}"


def _pinned(serving: Serving, version: str) -> str | None:
    """The rung a model_version pins, None when the policy chooses.

    Raises:
        RequestError: RUNG_NOT_FOUND.
    """
    if not version:
        return None
    bundle, _, rung = version.rpartition("/")
    if bundle and bundle != serving.bundle[:BUNDLE_DIGITS]:
        raise RequestError(
            "RUNG_NOT_FOUND", f"Bundle {bundle[:64]} does not serve, {serving.bundle[:BUNDLE_DIGITS]} does."
        )
    names = [each.name for each in serving.manifest.rungs]
    if rung not in names:
        raise RequestError("RUNG_NOT_FOUND", f'"{rung[:128]}"; there are: {", ".join(names)}.')
    return rung


def _tensors(request: oip.ModelInferRequest, specs: Sequence[TensorSpec], local: _Local) -> list[Tensor]:
    """The request's tensors as raw bytes, or where those lie, in the order of the signature.

    Raises:
        RequestError: INPUT_INVALID, with what was expected; what `_Local.span` raises.
    """
    raw = request.raw_input_contents
    spans = [local.span(tensor.parameters, tensor.name) for tensor in request.inputs]
    carried = [index for index, span in enumerate(spans) if span is None]
    if raw and len(raw) != len(carried):
        raise RequestError("INPUT_INVALID", f"{len(carried)} inputs come with {len(raw)} raw contents.")
    given = {tensor.name: index for index, tensor in enumerate(request.inputs)}
    names = {spec.name for spec in specs}
    if len(given) != len(request.inputs) or given.keys() != names:
        got = ", ".join(f'"{tensor.name[:64]}"' for tensor in request.inputs) or "none"
        wanted = ", ".join(f'"{name}"' for name in sorted(names))
        raise RequestError("INPUT_INVALID", f"The model takes the inputs {wanted}; got: {got}.")
    tensors: list[Tensor] = []
    for spec in specs:
        index = given[spec.name]
        tensor = request.inputs[index]
        if tensor.datatype != spec.datatype or tuple(tensor.shape) != spec.shape:
            raise RequestError(
                "INPUT_INVALID",
                f'Input "{spec.name}" is {spec.datatype}{list(spec.shape)}, '
                f"got {tensor.datatype[:16]}{list(tensor.shape)[:16]}.",
            )
        data = spans[index] or (raw[carried.index(index)] if raw else _packed(tensor, spec))
        if (size_bytes := tensor_bytes(data)) != spec.size_bytes:
            raise RequestError("INPUT_INVALID", f'Input "{spec.name}" takes {spec.size_bytes} bytes, got {size_bytes}.')
        tensors.append(data)
    return tensors


def _packed(tensor: Any, spec: TensorSpec) -> bytes:
    """Typed contents as raw little-endian bytes.

    Raises:
        RequestError: INPUT_INVALID.
    """
    if spec.datatype not in _TYPED:
        raise RequestError("INPUT_INVALID", f'Input "{spec.name}" is {spec.datatype}: send it as raw_input_contents.')
    field, code = _TYPED[spec.datatype]
    try:
        values = array(code, getattr(tensor.contents, field))
    except OverflowError:
        raise RequestError("INPUT_INVALID", f'A value of input "{spec.name}" does not fit {spec.datatype}.') from None
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _chosen(
    request: oip.ModelInferRequest, specs: Sequence[TensorSpec], local: _Local
) -> Sequence[tuple[int, Span | None]]:
    """Indices of the outputs asked for, all when none is named, and where each goes if not into the answer.

    Raises:
        RequestError: INPUT_INVALID, also for a place that is too small; what `_Local.span` raises.
    """
    if not request.outputs:
        return [(index, None) for index in range(len(specs))]
    names = [spec.name for spec in specs]
    unknown = [each.name for each in request.outputs if each.name not in names]
    if unknown:
        raise RequestError("INPUT_INVALID", f'No output "{unknown[0][:64]}"; there are: {", ".join(names)}.')
    chosen = [(names.index(each.name), local.span(each.parameters, each.name)) for each in request.outputs]
    for index, span in chosen:
        if span is not None and span.size_bytes < specs[index].size_bytes:
            message = f'Output "{names[index]}" takes {specs[index].size_bytes} bytes of shared memory, '
            raise RequestError("INPUT_INVALID", f"{message}got {span.size_bytes}.")
    return chosen


def _microseconds(request: oip.ModelInferRequest, name: str, *, zero_is_none: bool = False) -> float | None:
    """A parameter of the request that is a time, None when it is absent.

    Raises:
        RequestError: INPUT_INVALID.
    """
    if name not in request.parameters:
        return None
    parameter = request.parameters[name]
    kind = parameter.WhichOneof("parameter_choice")
    value = getattr(parameter, kind) if kind in {"double_param", "int64_param", "uint64_param"} else -1
    if zero_is_none and value == 0:
        return None
    if not 0 < value < math.inf:
        raise RequestError("INPUT_INVALID", f"The parameter {name} is a number of microseconds above zero.")
    return float(value)


def _index(runner: ModelRunner) -> Iterator[oip.RepositoryIndexResponse.ModelIndex]:
    """One entry for each rung that serves; one that says why when none does."""
    serving = runner.pointer.current
    entry = oip.RepositoryIndexResponse.ModelIndex
    if serving is None:
        gap = runner.pointer.gap_left_s()
        reason = runner.deployment.phase.value if gap is None else f"being replaced, back in about {gap:.1f} s"
        yield entry(name=runner.model, state="UNAVAILABLE", reason=reason)
        return
    for rung in serving.manifest.rungs:
        version = _version(serving, rung.name)
        if rung.name in serving.worker.unloaded:
            yield entry(name=runner.model, version=version, state="UNAVAILABLE", reason="unloaded on request")
        else:
            yield entry(name=runner.model, version=version, state=_READY)


def _statistics(serving: Serving, only: str | None) -> Iterator[oip.ModelStatistics]:
    """What each rung, or only one, did since the worker started; failures belong to the worker and stand with each."""
    stats = serving.worker.stats
    for rung in serving.manifest.rungs:
        if only not in {None, rung.name}:
            continue
        count, times = stats.rungs[rung.name], stats.times[rung.name]
        yield oip.ModelStatistics(
            name=serving.manifest.model,
            version=_version(serving, rung.name),
            last_inference=round(1e3 * times.last_unix_s),
            inference_count=count,
            execution_count=count,
            inference_stats=oip.InferStatistics(
                success=_duration(count, times.wall_us + times.queue_us),
                fail=oip.StatisticDuration(count=stats.failures),
                queue=_duration(count, times.queue_us),
                compute_infer=_duration(count, times.wall_us),
            ),
        )


def _duration(count: int, total_us: float) -> oip.StatisticDuration:
    return oip.StatisticDuration(count=count, ns=round(1e3 * total_us))


def _metadata(spec: TensorSpec) -> oip.ModelMetadataResponse.TensorMetadata:
    return oip.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)
