"""An MCP host buys over stdio and over HTTP, and is told what the treasury says."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from tests.integration.mcp.hosts import over_stdio
from tests.integration.service.simulated import SimulatedService, simulated_service


@pytest.fixture(scope="module")
def service() -> Iterator[SimulatedService]:
    with simulated_service() as made:
        yield made


def test_a_host_buys_over_stdio(service: SimulatedService) -> None:
    async def story() -> None:
        async with over_stdio(service.url, service.tokens["agent"]) as host:
            bought = await host.buy("task-1/papers")
            assert (bought["status"], bought["amount_usdc"]) == ("funded", "5.00")
            again = await host.buy("task-1/papers")
            assert again["purchase_id"] == bought["purchase_id"]

    anyio.run(story)
    assert len(service.coordinator.purchases()) == 1
