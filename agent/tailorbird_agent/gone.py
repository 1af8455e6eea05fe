"""Callers that have gone: gRPC says so with an error and a traceback for each answer that found nobody any more."""

from __future__ import annotations

import logging

_LOGGER = "grpc._cython.cygrpc"
#: What gRPC logs when a message of a stream cannot be sent, which it is only when its call has ended.
_UNSENT = "ExecuteBatchError raised in core by servicer method"


def keep_quiet() -> None:
    """Tell of such answers at debug level, in one line: callers come and go."""
    logging.getLogger(_LOGGER).addFilter(_demoted)


def _demoted(record: logging.LogRecord) -> bool:
    if record.getMessage().startswith(_UNSENT):
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        record.exc_info, record.exc_text = None, None
        return logging.getLogger().isEnabledFor(logging.DEBUG)
    return True
