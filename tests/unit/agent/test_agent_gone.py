"""What gRPC logs of callers that have gone."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tailorbird_agent import gone

CORE = logging.getLogger("grpc._cython.cygrpc")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = list(CORE.filters)
    gone.keep_quiet()
    yield
    CORE.filters = before


def logged(message: str) -> None:
    CORE.error(message, exc_info=RuntimeError("Failed"))


def test_an_answer_that_finds_nobody_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    unsent = "ExecuteBatchError raised in core by servicer method [/agent/WatchStatus]"
    logged(unsent)
    with caplog.at_level(logging.DEBUG):
        logged(unsent)
    (record,) = caplog.records
    assert (record.levelno, record.exc_info) == (logging.DEBUG, None)


def test_every_other_error_is_told_in_full(caplog: pytest.LogCaptureFixture) -> None:
    logged("ValueError raised in core by servicer method [/agent/WatchStatus]")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info
