"""Serve the tools to one MCP host over stdin and stdout, with an agent's key over HTTP."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from coordinator_client import AsyncAgent
from coordinator_client.errors import ConfigurationError

if TYPE_CHECKING:
    from coordinator_client.mcp.server import Agents, Server


def _add_paying_tool(server: Server, agents: Agents) -> None:
    """Add the tool that pays x402 servers, where the extra for it is installed."""
    if find_spec("x402") is None:
        return
    from coordinator_client.mcp.paying import add_paying_tool

    add_paying_tool(server, agents)


# Add tools that act where this runs: on the agent's machine, and never on the treasury's.
_ON_THIS_MACHINE: Final[tuple[Callable[[Server, Agents], None], ...]] = (_add_paying_tool,)


def main() -> int:
    """Serve until stdin ends; settings that can't be right end it with one sentence."""
    try:
        serve(os.environ)
    except ConfigurationError as error:
        print(f"coordinator-mcp: {error}", file=sys.stderr)
        return 2
    return 0


def serve(settings: Mapping[str, str]) -> None:
    """Serve the treasury at TREASURY_URL with TREASURY_KEY, or the key in TREASURY_KEY_FILE."""
    agent = opened(settings)
    try:
        from mcp.server.mcpserver import Context

        from coordinator_client.mcp.server import make_server
    except ImportError as missing:
        raise ConfigurationError(
            f"it needs {missing.name}, which is not installed:"
            " pip install 'usdc-escrow-client[mcp]'"
        ) from None

    @asynccontextmanager
    async def agents(_: Context[Any, Any]) -> AsyncIterator[AsyncAgent]:
        yield agent

    server = make_server(agents)
    for add in _ON_THIS_MACHINE:
        add(server, agents)
    server.run("stdio")


def opened(settings: Mapping[str, str]) -> AsyncAgent:
    """Make the agent of these settings; ConfigurationError says which of them is missing."""
    url, key, file = (
        settings.get(name, "") for name in ("TREASURY_URL", "TREASURY_KEY", "TREASURY_KEY_FILE")
    )
    if not url:
        raise ConfigurationError("TREASURY_URL is missing: the URL of the treasury's service")
    if not key and not file:
        raise ConfigurationError("TREASURY_KEY is missing: an agent's API key, uec_…")
    if not key:
        try:
            key = Path(file).read_text().strip()
        except (OSError, ValueError) as fault:
            raise ConfigurationError(f"TREASURY_KEY_FILE can't be read: {fault}") from None
    return AsyncAgent(url, key)


if __name__ == "__main__":
    raise SystemExit(main())
