"""The JSON-RPC transport whose endpoints are nodes of this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from coordinator.chain.rpc.client import Call, Rpc
from coordinator.chain.simulated.node import SimulatedNode
from coordinator.domain.ports import Ticks

Ask = Callable[[str, Sequence[Call]], list[Any]]
Tell = Callable[[str, Sequence[Call], Ask], list[Any]]
"""Stands between the transport and the nodes: asks or not, and answers what it likes."""

SIMULATED_URL = "http://simulated.localhost"


class SimulatedRpc(Rpc):
    """Batches, retries and failover of ``Rpc``; what would be posted is asked of a node here.

    ``tell`` may be set at any time: it is given the URL, the calls and a function that asks, and
    raises ChainUnavailable or answers in the node's stead.
    """

    def __init__(
        self,
        nodes: Mapping[str, SimulatedNode] | SimulatedNode,
        tell: Tell | None = None,
        *,
        sleep: Callable[[float], None] = lambda seconds: None,
        ticks: Ticks = time.monotonic,
    ) -> None:
        if isinstance(nodes, SimulatedNode):
            nodes = {SIMULATED_URL: nodes}
        super().__init__(list(nodes), sleep=sleep, ticks=ticks)
        self.nodes = dict(nodes)
        self.tell = tell

    @property
    def node(self) -> SimulatedNode:
        """The first endpoint's."""
        return next(iter(self.nodes.values()))

    def _post(self, url: str, calls: Sequence[Call]) -> list[Any]:
        return (
            self._ask_node(url, calls)
            if self.tell is None
            else self.tell(url, calls, self._ask_node)
        )

    def _ask_node(self, url: str, calls: Sequence[Call]) -> list[Any]:
        return self.nodes[url].ask(calls)
