"""Requests that do not fit are refused with what was expected."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from agentkit.bundles import X, sample
from agentkit.process import (
    TIMEOUT,
    Agent,
    infer_request,
    refused,
)

from tailorbird_api.inference import open_inference_pb2 as oip


@pytest.mark.parametrize(
    ("fields", "reason", "code", "text"),
    [
        ({"model": "nobody"}, "MODEL_NOT_FOUND", "NOT_FOUND", "models here: toy"),
        ({"version": "r9"}, "RUNG_NOT_FOUND", "NOT_FOUND", "r0, r1, r2"),
        ({"version": "000000000000/r0"}, "RUNG_NOT_FOUND", "NOT_FOUND", "does not serve"),
    ],
)
def test_an_unknown_model_or_rung_is_refused(
    agent: Agent, fields: dict[str, str], reason: str, code: str, text: str
) -> None:
    with refused(reason, grpc.StatusCode[code], text):
        agent.infer(X, **fields)


def wrong_requests() -> Iterator[tuple[str, oip.ModelInferRequest, str]]:
    yield "shape", infer_request(sample((1, 15))), '"x" is FP32[1, 16], got FP32[1, 15]'
    yield "rank", infer_request(sample((16,))), "got FP32[16]"
    kind = infer_request(X)
    kind.inputs[0].datatype = "INT64"
    yield "datatype", kind, "got INT64[1, 16]"
    name = infer_request(X)
    name.inputs[0].name = "y"
    yield "name", name, 'takes the inputs "x"; got: "y"'
    twice = infer_request(X)
    twice.inputs.append(twice.inputs[0])
    twice.raw_input_contents.append(X.tobytes())
    yield "twice", twice, "takes the inputs"
    short = infer_request(X)
    short.raw_input_contents[0] = X.tobytes()[:-1]
    yield "bytes", short, "takes 64 bytes, got 63"
    count = infer_request(X)
    count.raw_input_contents.append(b"")
    yield "count", count, "1 inputs come with 2 raw contents"
    none = infer_request(X)
    del none.inputs[:], none.raw_input_contents[:]
    yield "none", none, "got: none"
    typed = infer_request(X)
    del typed.raw_input_contents[:]
    typed.inputs[0].contents.fp32_contents.extend([1.0] * 15)
    yield "typed", typed, "takes 64 bytes, got 60"
    outputs = infer_request(X)
    outputs.outputs.add(name="z")
    yield "output", outputs, 'No output "z"; there are: y'
    slo = infer_request(X)
    slo.parameters["slo_us"].string_param = "soon"
    yield "slo", slo, "slo_us"


@pytest.mark.parametrize(("request_", "text"), [pytest.param(r, t, id=name) for name, r, t in wrong_requests()])
def test_an_input_that_does_not_fit_is_refused_with_what_was_expected(
    agent: Agent, request_: oip.ModelInferRequest, text: str
) -> None:
    with refused("INPUT_INVALID", grpc.StatusCode.INVALID_ARGUMENT, text):
        agent.inference.ModelInfer(request_, timeout=TIMEOUT)
