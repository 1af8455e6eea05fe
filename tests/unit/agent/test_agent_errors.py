from __future__ import annotations

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from tailorbird_agent import wire
from tailorbird_agent.errors import CATALOGUE, AgentError, ConfigError

PUBLISHED = [
    "LEASE_HELD",
    "LEASE_LOST",
    "LEASE_REQUIRED",
    "BLOB_CORRUPT",
    "BLOB_OFFSET",
    "BLOB_TOO_LARGE",
    "DISK_FULL",
    "BLOB_MISSING",
    "MANIFEST_INVALID",
    "INCOMPATIBLE_TRIPLE",
    "INCOMPATIBLE_LIBC",
    "INCOMPATIBLE_ISA",
    "RUNTIME_MISSING",
    "AGENT_TOO_OLD",
    "NOT_STAGED",
    "GOLDEN_MISMATCH",
    "MODULE_INVALID",
    "WORKER_DIED",
    "WORKER_TIMEOUT",
    "WORKER_BUSY",
    "OUT_OF_MEMORY",
    "GENERATION_CONFLICT",
    "NO_PREVIOUS",
    "MODEL_NOT_FOUND",
    "RUNG_NOT_FOUND",
    "INPUT_INVALID",
    "POLICY_UNKNOWN",
    "PERMISSION_DENIED",
    "UNIMPLEMENTED_HERE",
    "INTERNAL",
]


def test_every_published_reason_is_in_the_catalogue() -> None:
    assert set(PUBLISHED) <= CATALOGUE.keys()


@pytest.mark.parametrize("reason", CATALOGUE)
def test_every_reason_reaches_the_wire_with_code_text_and_fix(reason: str) -> None:
    code, text, metadata = wire.status_of(AgentError(reason, "Found this.", retry_after_s=1.5, sha256="ab"))
    assert code is grpc.StatusCode[CATALOGUE[reason].code]
    assert text.endswith("Found this.")
    status = status_pb2.Status.FromString(dict(metadata)[wire.DETAILS_KEY])
    assert (status.code, status.message) == (code_pb2.Code.Value(CATALOGUE[reason].code), text)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (info.reason, info.domain) == (reason, "tailorbird.agent")
    assert info.metadata["fix"]
    assert info.metadata["sha256"] == "ab"
    assert retry.retry_delay.ToMilliseconds() == 1500


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\u6a21", "%", "\U0001f426"])
def test_what_is_found_is_cut_so_that_grpc_delivers_the_reason(letter: str) -> None:
    error = AgentError("MANIFEST_INVALID", letter * 500_000, first=letter * 500_000, second=letter * 500_000)
    _, text, metadata = wire.status_of(error)
    encoded = sum(1 if 0x20 <= byte < 0x7F and byte != 0x25 else 3 for byte in text.encode())
    assert encoded + 4 * len(dict(metadata)[wire.DETAILS_KEY]) / 3 < 8 * 1024
    assert text.startswith(CATALOGUE["MANIFEST_INVALID"].text)
    assert text.endswith("...")


def test_a_setting_that_is_wrong_says_what_and_how_to_mend_it() -> None:
    assert str(ConfigError("the port is taken", fix="choose another")) == "the port is taken\nfix: choose another"
