"""Read request bodies strictly: JSON alone, of a bounded size, each name once, no NaN."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.domain.nesting import nesting
from coordinator.server.problems import ProblemError, problem

BODY_BYTES_MAX: Final = 64 * 1024
BODY_SECONDS_MAX: Final = 10.0
_DEPTH_MAX: Final = 16


class StrictRequest(Request):
    """A request whose JSON is read once and strictly."""

    async def json(self) -> Any:
        """Return the parsed body; ProblemError for everything that is not plain JSON."""
        if not hasattr(self, "_strict"):
            self._strict = self._read(await self.body())
        return self._strict

    def _read(self, body: bytes) -> Any:
        try:
            text = body.decode()
            # Before it is parsed: Python's parser recurses, and what some libraries allow it is
            # more than the stack holds.
            if nesting(text) > _DEPTH_MAX:
                raise ProblemError(400, f"the body is nested deeper than {_DEPTH_MAX}")
            return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
        except ProblemError:
            raise
        except (ValueError, RecursionError):
            raise ProblemError(400, "the body is not JSON") from None


class StrictRoute(APIRoute):
    """A route that reads its body as ``StrictRequest``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strictly


class BodyLimit:
    """Refuses bodies that are too large, too slow, compressed or no JSON, before they are read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            await problem(415, "unsupported_media_type", "send the body uncompressed")(
                scope, receive, send
            )
            return
        try:
            body = await asyncio.wait_for(_whole(headers, receive), BODY_SECONDS_MAX)
        except TimeoutError:
            said = f"the body did not arrive within {BODY_SECONDS_MAX:g} s"
            await problem(408, "too_slow", said, headers={"Connection": "close"})(
                scope, receive, send
            )
            return
        if body and not _is_json(headers):
            said = "send the body as application/json"
            await problem(415, "unsupported_media_type", said)(scope, receive, send)
            return
        if body is None:
            said = f"a body has at most {BODY_BYTES_MAX} bytes"
            await problem(413, "too_large", said, headers={"Connection": "close"})(
                scope, receive, send
            )
            return
        await self._app(scope, _again(body, receive), send)


def _is_json(headers: dict[bytes, bytes]) -> bool:
    kind = headers.get(b"content-type", b"").partition(b";")[0]
    return kind.strip().lower() == b"application/json"


async def _whole(headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
    """Return the whole body; None as soon as it is too large."""
    length = headers.get(b"content-length")
    if length is None and b"transfer-encoding" not in headers:
        return b""
    if length is not None and (not length.isdigit() or int(length) > BODY_BYTES_MAX):
        return None
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > BODY_BYTES_MAX:
            return None
    return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    told = False

    async def give() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return give


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ProblemError(400, "the body names something twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ProblemError(400, f"the body holds {name}, which is not JSON")
