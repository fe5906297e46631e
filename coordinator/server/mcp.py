"""Serve the tools of the Model Context Protocol at ``/mcp``: the service's own HTTP in their words.

A tool asks this application over its own routes, with the key that its caller showed: there is no
second way to the treasury.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from coordinator.domain.access.urls import LOOPBACK
from coordinator.monitoring.logs import request_ids
from coordinator.server.access import AGENT, BEARER, authenticate, check_role
from coordinator.server.problems import ProblemError

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.server.transport_security import TransportSecuritySettings

    from coordinator_client import AsyncAgent

log = logging.getLogger(__name__)

PATH: Final = "/mcp"
_WITHIN: Final = "http://127.0.0.1"


def add_mcp(app: FastAPI, public_url: str | None) -> Mcp | None:
    """Add the tools where their extra is installed; whoever runs the application runs them too."""
    if find_spec("mcp") is None or find_spec("coordinator_client") is None:
        return None
    made = Mcp(app, public_url)
    # A class, so that the path is this one exactly and every method comes here.
    app.router.routes.append(Route(PATH, endpoint=made))
    return made


class Mcp:
    """The door to the tools: it admits agents' keys alone, before anything of theirs is read."""

    def __init__(self, app: FastAPI, public_url: str | None) -> None:
        self._app = app
        self._public_url = public_url
        # One event until it runs: whoever asks an application that does not is not kept waiting.
        self._wanted = self._settled = asyncio.Event()
        self._sessions: StreamableHTTPSessionManager | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve the tools within, from the first request for them on."""
        self._wanted, self._settled = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(self._serve())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _serve(self) -> None:
        await self._wanted.wait()
        try:
            # Their library takes half a second to import, and many never ask for it.
            sessions = await run_in_threadpool(self._make)
            async with sessions.run():
                self._sessions = sessions
                self._settled.set()
                await asyncio.get_running_loop().create_future()
        except Exception:
            log.exception("mcp_failed")
        finally:
            self._sessions = None
            self._settled.set()

    def _make(self) -> StreamableHTTPSessionManager:
        from coordinator_client.mcp.server import make_server

        server = make_server(self._agent)
        server.streamable_http_app(
            stateless_http=True, json_response=True, transport_security=self._security()
        )
        return server.session_manager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = SimpleNamespace(path=PATH)
        request = Request(scope, receive)
        self._check_host(request)
        given = await BEARER(request)
        check_role(await authenticate(request, given), AGENT)
        if request.method != "POST":
            # There are no sessions to follow or to end.
            raise ProblemError(405, "send POST alone", headers={"Allow": "POST"})
        self._wanted.set()
        await self._settled.wait()
        if self._sessions is None:
            raise ProblemError(503, "the tools can't be served: the service's log tells why")
        await self._sessions.handle_request(scope, receive, send)

    def _check_host(self, request: Request) -> None:
        """Refuse names that lead here by another's doing; with a public URL that was done."""
        try:
            name = urlsplit(f"//{request.headers.get('host', '')}").hostname
        except ValueError:
            name = None
        if self._public_url is None and name not in LOOPBACK:
            raise ProblemError(
                421,
                f"{PATH} answers at this machine's own names until COORDINATOR_PUBLIC_URL is set",
            )

    def _security(self) -> TransportSecuritySettings:
        from mcp.server.transport_security import TransportSecuritySettings

        if self._public_url is not None:
            parts = urlsplit(self._public_url)
            host, usual = parts.netloc, {"http": 80, "https": 443}[parts.scheme]
            hosts, origins = [host, f"{host}:{parts.port or usual}"], [self._public_url]
        else:
            names = [f"[{name}]" if ":" in name else name for name in LOOPBACK]
            hosts = [f"{name}{port}" for name in names for port in ("", ":*")]
            origins = [f"http://{host}" for host in hosts]
        return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)

    @asynccontextmanager
    async def _agent(self, context: Context[Any, Any]) -> AsyncIterator[AsyncAgent]:
        """Open the agent whose key came with the request."""
        import httpx

        from coordinator_client import AsyncAgent

        key = (context.headers or {})["authorization"].partition(" ")[2].strip()

        class Within(httpx.ASGITransport):
            """Asks the application under the id of the request that is being answered."""

            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                if (ids := request_ids()) is not None:
                    request.headers["X-Request-Id"] = ids.request_id
                return await super().handle_async_request(request)

        transport = Within(self._app, raise_app_exceptions=False)
        # It does not leave this process, so nobody can listen.
        async with AsyncAgent(
            self._public_url or _WITHIN, key, allow_http=True, transport=transport
        ) as agent:
            yield agent
