"""A strict chain in memory, behind the JSON-RPC transport.

``tests/integration/test_chain_*.py`` and ``test_kernel_table.py`` hold it to what Anvil does.
"""

from coordinator.chain.simulated.gas import BASE, ETHEREUM, FeeMarket
from coordinator.chain.simulated.machine import Rules
from coordinator.chain.simulated.node import SimulatedNode
from coordinator.chain.simulated.pool import Refused
from coordinator.chain.simulated.rpc import SIMULATED_URL, Ask, SimulatedRpc, Tell

__all__ = [
    "BASE",
    "ETHEREUM",
    "SIMULATED_URL",
    "Ask",
    "FeeMarket",
    "Refused",
    "Rules",
    "SimulatedNode",
    "SimulatedRpc",
    "Tell",
]
