"""coordinator mcp: the tools of an agent for an MCP host on the same machine."""

from __future__ import annotations

import os

from coordinator.cli.exits import ExitCode
from coordinator.domain.errors import ConfigurationError
from coordinator.extras import needs_extra


def mcp() -> int:
    """Serve an agent's tools over stdio to the MCP host that starts it.

    It asks the service at TREASURY_URL with the agent's API key in TREASURY_KEY (or in the file
    TREASURY_KEY_FILE), and needs neither the treasury's key nor its database.
    """
    with needs_extra("mcp", "coordinator mcp"):
        import mcp.server.mcpserver  # noqa: F401

        from coordinator_client.errors import ConfigurationError as Misconfigured
        from coordinator_client.mcp.stdio import serve
    try:
        serve(os.environ)
    except Misconfigured as fault:
        raise ConfigurationError(*fault.faults) from None
    return ExitCode.OK
