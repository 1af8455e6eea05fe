"""Tensors in typed fields instead of raw bytes, as clients without numpy send them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird_agent.errors import RequestError
from tailorbird_agent.inference import _Local, _tensors
from tailorbird_agent.regions import Audience, Regions
from tailorbird_agent.worker.plan import TensorSpec
from tailorbird_api.inference import open_inference_pb2 as oip

FIELDS = {
    "FP32": ("fp32_contents", np.float32, st.floats(width=32)),
    "INT64": ("int64_contents", np.int64, st.integers(-(2**63), 2**63 - 1)),
    "INT32": ("int_contents", np.int32, st.integers(-(2**31), 2**31 - 1)),
    "INT8": ("int_contents", np.int8, st.integers(-128, 127)),
    "UINT8": ("uint_contents", np.uint8, st.integers(0, 255)),
    "BOOL": ("bool_contents", np.bool_, st.booleans()),
}

#: A caller over TCP, who has no shared memory.
NOBODY = _Local(Regions(Audience(0, None)), lambda: "ipv4:127.0.0.1:1")


def request(datatype: str, values: list[object]) -> oip.ModelInferRequest:
    message = oip.ModelInferRequest()
    tensor = message.inputs.add(name="x", datatype=datatype, shape=[1, len(values)])
    getattr(tensor.contents, FIELDS[datatype][0]).extend(values)
    return message


@pytest.mark.parametrize("datatype", FIELDS)
@settings(max_examples=25)
@given(data=st.data())
def test_typed_values_become_the_bytes_numpy_would_send(datatype: str, data: st.DataObject) -> None:
    _, dtype, values = FIELDS[datatype]
    chosen = data.draw(st.lists(values, min_size=1, max_size=20))
    spec = TensorSpec("x", datatype, (1, len(chosen)))
    (packed,) = _tensors(request(datatype, chosen), [spec], NOBODY)
    assert packed == np.asarray(chosen, dtype).tobytes()


@pytest.mark.parametrize(("datatype", "value"), [("INT8", 128), ("INT8", -129), ("UINT8", 256)])
def test_a_value_that_does_not_fit_its_type_is_refused(datatype: str, value: int) -> None:
    with pytest.raises(RequestError, match="does not fit"):
        _tensors(request(datatype, [value]), [TensorSpec("x", datatype, (1, 1))], NOBODY)


def test_half_precision_has_no_typed_field_and_says_so() -> None:
    message = oip.ModelInferRequest()
    message.inputs.add(name="x", datatype="FP16", shape=[1, 2])
    with pytest.raises(RequestError, match="raw_input_contents"):
        _tensors(message, [TensorSpec("x", "FP16", (1, 2))], NOBODY)


def test_inputs_may_come_in_any_order() -> None:
    message = oip.ModelInferRequest(raw_input_contents=[b"22222222", b"1111"])
    message.inputs.add(name="b", datatype="INT64", shape=[1])
    message.inputs.add(name="a", datatype="FP32", shape=[1])
    specs = [TensorSpec("a", "FP32", (1,)), TensorSpec("b", "INT64", (1,))]
    assert _tensors(message, specs, NOBODY) == [b"1111", b"22222222"]
