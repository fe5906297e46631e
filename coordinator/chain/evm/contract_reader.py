"""Ask contracts, many things at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from coordinator.chain.evm.aggregator import aggregate, results_of
from coordinator.chain.evm.answers import UNREADABLE
from coordinator.chain.evm.calls import ContractCall, eth_call
from coordinator.chain.evm.lapse import Lapse
from coordinator.chain.rpc.client import Rpc, RpcRefusal

# An escrow takes 60,000 gas to read, and endpoints run calls of 25 million at the least.
_TOGETHER_MAX: Final = 200
# Fewer cost less by themselves than an aggregate that may have to be taken apart.
_TOGETHER_FROM: Final = 4


class ContractReader:
    """Asks contracts; an answer is the result as hex, or the node's RpcRefusal.

    Many calls are made as few where the chain has Multicall3.
    """

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._no_aggregator = Lapse()

    @property
    def host(self) -> str:
        return self._rpc.current_host

    def ask(self, calls: Iterable[ContractCall], at: str) -> list[Any]:
        """The answers to ``calls`` after block ``at``, a number as hex or a tag.

        All are of one endpoint, but for those that it refuses together with others: these are
        asked again by themselves, because a node out of gas looks like a contract that says no.
        """
        asked = list(calls)
        if len(asked) < _TOGETHER_FROM or self._no_aggregator.pass_by():
            return self._one_by_one(asked, at)
        parts = [
            asked[start : start + _TOGETHER_MAX] for start in range(0, len(asked), _TOGETHER_MAX)
        ]
        told = self._rpc.batch([aggregate(part, at) for part in parts])
        if "0x" in told:
            # Nothing is there, or was there after that block.
            self._no_aggregator.begin()
        answers = [a for part, one in zip(parts, told, strict=True) for a in _taken(part, one)]
        alone = [index for index, answer in enumerate(answers) if isinstance(answer, RpcRefusal)]
        again = self._one_by_one([asked[index] for index in alone], at)
        for index, answer in zip(alone, again, strict=True):
            answers[index] = answer
        return answers

    def ask_everywhere(self, call: ContractCall) -> list[tuple[Any, Any]]:
        """(number of its newest block, answer) of each endpoint that answers."""
        asked = [("eth_blockNumber", []), eth_call(call, "latest")]
        return [(newest, answer) for newest, answer in self._rpc.everywhere(asked)]

    def _one_by_one(self, calls: Sequence[ContractCall], at: str) -> list[Any]:
        return self._rpc.batch([eth_call(call, at) for call in calls])


def _taken(part: Sequence[ContractCall], told: Any) -> list[Any]:
    """Each call's answer in an aggregate's; a refusal of each where there is none."""
    refused = [RpcRefusal(0, "no aggregate")] * len(part)
    if isinstance(told, RpcRefusal):
        return refused
    try:
        found = results_of(told)
    except UNREADABLE:
        return refused
    return found if len(found) == len(part) else refused
