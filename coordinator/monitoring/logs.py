"""Write log events for people as lines, or for programs as JSON, with the ids of the request."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from coordinator.domain.plain_text import visible
from coordinator.extras import needs_extra

Format = Literal["text", "json"]
_EVENT: Final = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_ID: Final = re.compile(r"\b([a-z_]+_(?:id|hash))=([\w.:-]+?)(?=[:,;.]?(?:\s|$))", re.ASCII)


@dataclass(slots=True)
class RequestIds:
    """The ids of the request that is being answered, as far as they are known."""

    request_id: str
    key_id: str | None = None
    purchase_id: str | None = None


_serving: Final[ContextVar[RequestIds | None]] = ContextVar("coordinator_request", default=None)


@contextmanager
def serving(ids: RequestIds) -> Iterator[None]:
    """Give these ids to every event that is logged within, in this task and its threads."""
    token = _serving.set(ids)
    try:
        yield
    finally:
        _serving.reset(token)


def request_ids() -> RequestIds | None:
    """Return the ids of the request that is being answered; None outside of any."""
    return _serving.get()


def set_up(level: str, *, format: Format, tracebacks: bool) -> None:
    """Log events to stderr in this format.

    ConfigurationError for JSON where the extra `server` is not installed.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_json(tracebacks) if format == "json" else _EventLine(tracebacks))
    logging.basicConfig(level="WARNING", handlers=[handler], force=True)
    logging.getLogger("coordinator").setLevel(level)


class _EventLine(logging.Formatter):
    """UTC time, level, and the event with its ids."""

    default_msec_format = "%s.%03dZ"

    def __init__(self, tracebacks: bool) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")
        self._tracebacks = tracebacks

    @staticmethod
    def converter(seconds: float | None) -> time.struct_time:
        return time.gmtime(seconds)

    def formatMessage(self, record: logging.LogRecord) -> str:
        said = " ".join(
            f"{name}={value}" for name, value in _fields(record, record.message).items()
        )
        # One event, one line, whatever a node or an agent put into it.
        record.message = visible(f"{record.message} {said}" if said else record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        if self._tracebacks:
            return super().formatException(ei)
        return f"  {_fault(ei)} (--debug shows where)" if ei[0] else ""


def _json(tracebacks: bool) -> logging.Formatter:
    with needs_extra("server", "COORDINATOR_LOG_FORMAT=json"):
        import structlog

    def described(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Name the event and its ids beside the message."""
        record: logging.LogRecord = event["_record"]
        message: str = event["event"]
        event["event"] = (_EVENT.match(message) or [message])[0]
        if message != event["event"]:
            event["message"] = visible(message)
        event.update(_ID.findall(message), **_fields(record, message))
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        event["timestamp"] = when.replace("+00:00", "Z")
        fault = event.pop("exc_info", None) or record.exc_info
        if fault and fault[0] is not None:
            event["fault"] = _fault(fault)
            if tracebacks:
                event["traceback"] = logging.Formatter().formatException(fault)
        return event

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name],
        processors=[
            described,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        keep_exc_info=True,
    )


def _fields(record: logging.LogRecord, message: str) -> dict[str, Any]:
    """The event's own fields and the ids of the request, without those that are not known."""
    found: dict[str, Any] = dict(getattr(record, "fields", {}))
    if (ids := _serving.get()) is not None:
        found |= {"request_id": ids.request_id}
        # The message of an event about a purchase names it already.
        if ids.purchase_id is not None and "purchase_id=" not in message:
            found |= {"purchase_id": ids.purchase_id}
    return {name: value for name, value in found.items() if value is not None}


def _fault(ei: Any) -> str:
    return f"{ei[0].__name__}: {visible(str(ei[1]))}"
