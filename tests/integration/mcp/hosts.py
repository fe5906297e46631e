"""MCP hosts: the SDK's own client over stdio, as an agent's machine starts it, and over HTTP."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

CLIENT: Final = Path(__file__).parents[3] / "client"
PAPER: Final = {"provider": "paper-api", "amount": "5.00", "purpose": "a paper"}


@dataclass(frozen=True)
class Host:
    """A connected client whose calls give either a result or an error's sentence."""

    client: Client

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The structured result; AssertionError with the tool's words where it refuses."""
        found = await self.client.call_tool(tool, arguments)
        assert not found.is_error, found.content
        assert found.structured_content is not None
        return found.structured_content

    async def refused(self, tool: str, **arguments: Any) -> str:
        """The words of a tool's error; AssertionError where it did what it was asked."""
        found = await self.client.call_tool(tool, arguments)
        assert found.is_error, found.structured_content
        (said,) = found.content
        text: str = said.text  # type: ignore[union-attr]
        return text

    async def read(self, uri: str) -> dict[str, Any]:
        """The JSON of a resource."""
        (found,) = (await self.client.read_resource(uri)).contents
        told: dict[str, Any] = json.loads(found.text)  # type: ignore[union-attr]
        return told

    async def buy(self, reference: str, **terms: Any) -> dict[str, Any]:
        return await self.call("request_purchase", reference=reference, **{**PAPER, **terms})


Story = Callable[[Host], Coroutine[Any, Any, None]]


def play(opened: AbstractAsyncContextManager[Host], story: Story) -> None:
    """Run a story with a host; what fails in it is raised without the groups of its tasks."""

    async def whole() -> None:
        async with opened as host:
            await story(host)

    try:
        anyio.run(whole)
    except BaseExceptionGroup as group:
        fault: BaseException = group
        while isinstance(fault, BaseExceptionGroup) and len(fault.exceptions) == 1:
            (fault,) = fault.exceptions
        raise fault from None


@asynccontextmanager
async def over_stdio(url: str, key: str, **settings: str) -> AsyncIterator[Host]:
    """A host that starts the tools as a process of their own."""
    given = {"TREASURY_URL": url, "TREASURY_KEY": key, "PYTHONPATH": str(CLIENT), **settings}
    started = StdioServerParameters(
        command=sys.executable, args=["-m", "coordinator_client.mcp.stdio"], env=given
    )
    async with Client(stdio_client(started)) as client:
        yield Host(client)


@asynccontextmanager
async def over_http(url: str, key: str | None, **headers: str) -> AsyncIterator[Host]:
    """A host of the service's own /mcp."""
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
    ):
        yield Host(client)
