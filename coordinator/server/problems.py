"""Faults as RFC 9457 problem details; answers of policy, people and chain are none."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from coordinator.domain.errors import (
    ChainUnavailable,
    ConfigurationError,
    CoordinatorClosed,
    CoordinatorError,
    Denied,
    IdempotencyConflict,
    InvalidRequest,
    LedgerUnavailable,
    UnknownId,
)

log = logging.getLogger(__name__)

_MEDIA_TYPE: Final = "application/problem+json"
_RETRY_SECONDS: Final = 2
# By the most special class first.
_STATUS: Final[Sequence[tuple[type[CoordinatorError], int]]] = (
    (UnknownId, 404),
    (InvalidRequest, 422),
    (IdempotencyConflict, 409),
    (Denied, 409),
    (CoordinatorClosed, 503),
    (LedgerUnavailable, 503),
    (ChainUnavailable, 503),
    (ConfigurationError, 503),
)
# The same for what belongs to others and for what nobody has.
_NOT_FOUND: Final = "there is no such thing, or it is not yours"
_OTHERWISE: Final = "the service can't do it at the moment: its log tells why"
_UNAVAILABLE: Final = {
    "ledger_unavailable": "the ledger can't be read or written at the moment: ask again",
    "ledger_tampered": "the ledger was changed by another program: an operator has to look",
    "chain_unavailable": "the chain can't be read at the moment: ask again",
    "configuration": "the service's settings or policy are faulty: an operator has to look",
    "closed": "the service is stopping: ask again",
}
_CODES: Final = {
    400: "malformed",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    413: "too_large",
    415: "unsupported_media_type",
    421: "misdirected_request",
    422: "invalid_request",
    429: "too_many_requests",
    503: "unavailable",
}


class Fault(BaseModel):
    """One fault of a body or parameter: where it is, and what is wrong."""

    where: str = Field(description="Path of the value, such as body.amount.")
    message: str


class Problem(BaseModel):
    """RFC 9457 problem details; ``code`` is stable and for programs."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    money_moved: bool | None = Field(
        default=False, description="False: nothing left the treasury. Null: not known."
    )
    faults: list[Fault] = []


class ProblemError(HTTPException):
    """A fault of the request itself; ``code`` is the problem's."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, dict(headers) if headers else None)
        self.code = code or _CODES.get(status, "error")


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    money_moved: bool | None = False,
    faults: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Make the response of a problem."""
    body = {
        "type": f"urn:usdc-escrow-coordinator:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "money_moved": money_moved,
        "faults": list(faults),
    }
    return Response(orjson.dumps(body), status, dict(headers or {}), media_type=_MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the problems that a route may answer with, for its OpenAPI."""
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {_MEDIA_TYPE: _SCHEMA}}
        for status in statuses
    }


_SCHEMA: Final = {"schema": {"$ref": "#/components/schemas/Problem"}}
#: Of every route with a key, and of those with a body.
FAULTS: Final = documented(401, 403, 404, 422, 429, 503)
BODY_FAULTS: Final = documented(400, 401, 403, 408, 413, 415, 422, 429, 503)


def handle_problems(app: FastAPI) -> None:
    """Answer every fault with a problem."""

    @app.exception_handler(HTTPException)
    async def of_http(_: Request, fault: HTTPException) -> Response:
        code = getattr(fault, "code", None) or _CODES.get(fault.status_code, "error")
        return problem(fault.status_code, code, str(fault.detail), headers=fault.headers)

    @app.exception_handler(RequestValidationError)
    async def of_validation(_: Request, fault: RequestValidationError) -> Response:
        faults = [
            {"where": ".".join(map(str, one["loc"])), "message": _plain(str(one["msg"]))}
            for one in fault.errors()
        ]
        detail = "; ".join(f"{one['where']}: {one['message']}" for one in faults[:5])
        return problem(422, "invalid_request", detail, faults=faults)

    @app.exception_handler(CoordinatorError)
    async def of_coordinator(_: Request, fault: CoordinatorError) -> Response:
        status = next((s for kind, s in _STATUS if isinstance(fault, kind)), 500)
        headers = {"Retry-After": str(_RETRY_SECONDS)} if status == 503 else None
        # Paths, hosts and settings are for the log alone.
        said = str(fault) if status < 500 else _UNAVAILABLE.get(fault.code, _OTHERWISE)
        if status == 404:
            said = _NOT_FOUND
        if status >= 500:
            log.error("request_failed code=%s: %s", fault.code, fault)
        return problem(status, fault.code, said, money_moved=fault.money_moved, headers=headers)

    @app.exception_handler(Exception)
    async def of_bug(_: Request, fault: Exception) -> Response:
        where = traceback.extract_tb(fault.__traceback__)[-1]
        # Its text may repeat what the request carried.
        log.error(
            "request_broke fault=%s at=%s:%s", type(fault).__name__, where.filename, where.lineno
        )
        return problem(500, "internal", "unexpected: the server's log tells more", money_moved=None)


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")
