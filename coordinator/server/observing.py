"""Name, count and log every request: its id, route and status, and nothing that it carries."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import MutableMapping
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.monitoring.logs import RequestIds, serving
from coordinator.monitoring.metrics import Metrics

log = logging.getLogger(__name__)

_HEADER: Final = b"x-request-id"
_GIVEN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_NO_ROUTE: Final = "unknown"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})


class Observed:
    """The application, with an id for each request, one line of access log, and its metrics."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        ids = RequestIds(_request_id(scope))
        scope.setdefault("state", {})["ids"] = ids
        began, status = time.monotonic(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (_HEADER, ids.request_id.encode()),
                ]
            await send(message)

        with serving(ids):
            try:
                await self._app(scope, receive, answer)
            except Exception:
                # It is logged, and answered with a problem, where nothing was sent before.
                if not status:
                    raise
            finally:
                self._note(scope, ids, status or 499, time.monotonic() - began)

    def _note(self, scope: Scope, ids: RequestIds, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or _NO_ROUTE
        # Anybody can make up a method, and each would be a series of its own.
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._metrics.request(route=route, method=method, status=status, seconds=seconds)
        ids.purchase_id = ids.purchase_id or _purchase_of(scope)
        fields: dict[str, Any] = {
            "method": method,
            "route": route,
            "status": status,
            "ms": round(seconds * 1000),
            "key_id": ids.key_id,
        }
        level = logging.DEBUG if route in _QUIET else logging.INFO
        log.log(level, "http_request", extra={"fields": fields})


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _GIVEN.fullmatch(given) else f"req_{secrets.token_hex(10)}"


def _purchase_of(scope: MutableMapping[str, Any]) -> str | None:
    """The purchase that the path names, if it can be one: anything else stays out of the log."""
    found = scope.get("path_params", {}).get("purchase_id", "")
    return found if re.fullmatch(r"pur_[0-9a-f]{8,40}", found) else None
