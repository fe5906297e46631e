"""The configurations and programs of the guide run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.integration.mcp.hosts import Host, over_http, play
from tests.integration.mcp.test_tools import TOOLS
from tests.integration.service.simulated import SimulatedService, simulated_service

_ROOT: Final = Path(__file__).resolve().parents[3]
_GUIDE: Final = (_ROOT / "docs" / "mcp.md").read_text()
_BIN: Final = Path(sys.executable).parent
_FRAMEWORKS: Final = _ROOT / ".venv-frameworks" / "bin"


@pytest.fixture(scope="module")
def service() -> Iterator[SimulatedService]:
    with simulated_service() as made:
        yield made


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", _GUIDE, re.MULTILINE | re.DOTALL)


def servers(service: SimulatedService) -> list[Any]:
    """The guide's servers, with this service's URL and key."""
    found = []
    for block in blocks("json"):
        text = block.replace("https://pay.example.org", service.url)
        text = text.replace("uec_…", service.tokens["agent"])
        found.append(json.loads(text)["mcpServers"]["treasury"])
    return found


async def _buys(host: Host) -> None:
    tools = {tool.name for tool in (await host.client.list_tools()).tools}
    assert tools - {"pay_x402"} == set(TOOLS)
    assert (await host.buy("guide/papers"))["status"] == "funded"


def test_a_host_starts_the_guides_command(service: SimulatedService) -> None:
    configured = servers(service)[0]
    started = StdioServerParameters(
        command=configured["command"],
        args=configured["args"],
        env={"PATH": str(_BIN), **configured["env"]},
    )
    play(_connected(stdio_client(started)), _buys)


def test_a_host_connects_to_the_guides_url(service: SimulatedService) -> None:
    configured = servers(service)[1]
    assert configured["type"] == "http"
    url = configured["url"].removesuffix("/mcp")
    play(over_http(url, None, **configured["headers"]), _buys)


def test_the_coordinators_own_command_takes_the_key_from_a_file(
    service: SimulatedService, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text(f"{service.tokens['agent']}\n")
    given = {"TREASURY_URL": service.url, "TREASURY_KEY_FILE": str(file)}
    assert '"command": "coordinator", "args": ["mcp"]' in _GUIDE
    started = StdioServerParameters(command=str(_BIN / "coordinator"), args=["mcp"], env=given)
    play(_connected(stdio_client(started)), _buys)


def test_every_tool_and_resource_is_in_the_guide() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", _GUIDE, re.MULTILINE)) == {*TOOLS, "pay_x402"}
    assert "`treasury://policy`" in _GUIDE and "`treasury://receipts/{purchase_id}`" in _GUIDE


@pytest.mark.campaign
@pytest.mark.parametrize("number", [0, 1], ids=["langgraph", "openai-agents"])
def test_a_framework_buys_over_mcp(service: SimulatedService, number: int) -> None:
    if not _FRAMEWORKS.exists():
        pytest.skip("there is no .venv-frameworks: run scripts/setup --frameworks")
    done = subprocess.run(
        [str(_FRAMEWORKS / "python"), "-c", blocks("python")[number]],
        env={
            "PATH": f"{_BIN}:{os.environ['PATH']}",
            "TREASURY_URL": service.url,
            "TREASURY_KEY": service.tokens["agent"],
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    amount = ("5.00", "6.00")[number]
    assert "funded" in done.stdout and amount in done.stdout
    assert amount in {str(one.amount) for one in service.coordinator.purchases()}


@asynccontextmanager
async def _connected(transport: Any) -> AsyncIterator[Host]:
    async with Client(transport) as client:
        yield Host(client)
