"""The two chains that tests of the chain itself run on: a real Anvil, and the simulated node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from coordinator.chain.local.anvil import Anvil
from coordinator.chain.rpc.client import Rpc
from coordinator.chain.simulated import ETHEREUM, Rules, SimulatedNode, SimulatedRpc
from tests.integration.local_chain import LocalChain

CHAINS: Final = ("anvil", "simulated")


@contextmanager
def open_chain(kind: str, folder: Path) -> Iterator[LocalChain]:
    """A deployed chain of that kind; both have Ethereum's base fee rule."""
    if kind == "simulated":
        node = SimulatedNode(84532, rules=Rules(market=ETHEREUM))
        yield LocalChain(SimulatedRpc(node), folder)
        return
    with Anvil.start() as anvil:
        yield LocalChain(Rpc([anvil.url], timeout_seconds=30), folder)
