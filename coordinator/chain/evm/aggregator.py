"""Many calls at one block as one, where the chain has Multicall3."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from coordinator.chain.abi import Abi
from coordinator.chain.evm.contracts import ContractCall
from coordinator.chain.networks import AGGREGATOR
from coordinator.chain.rpc.client import RpcRefusal
from coordinator.domain.errors import ChainUnavailable

# JSON-RPC's code for a reverted call.
_REVERTED: Final = 3
_NOTHING: Final = "0x"


class Aggregator:
    """Reads an account's ETH and the results of calls after one block, all together.

    Where no contract answers, they are asked one by one from then on.
    """

    def __init__(self, account: str) -> None:
        self._account = account
        self._missing = False

    def requests(self, calls: Sequence[ContractCall], at: str) -> list[tuple[str, list[Any]]]:
        """The requests that tell the account's wei and each call's result after block ``at``."""
        if self._missing:
            asked = [{"to": to, "data": data} for to, data in calls]
            balance = ("eth_getBalance", [self._account, at])
            return [balance, *(("eth_call", [request, at]) for request in asked)]
        wei = (AGGREGATOR, _abi().call("getEthBalance", self._account))
        wanted = [(to, True, bytes.fromhex(data[2:])) for to, data in (wei, *calls)]
        data = _abi().call("aggregate3", wanted)
        return [("eth_call", [{"to": AGGREGATOR, "data": data}, at])]

    def is_missing(self, answers: Sequence[Any]) -> bool:
        """Whether no contract answered the requests, which have to be made again then."""
        if self._missing or answers[0] != _NOTHING:
            return False
        self._missing = True
        return True

    def results(self, answers: Sequence[Any]) -> list[Any]:
        """Decode the answers: the account's wei as hex, then each result or its RpcRefusal.

        ChainUnavailable when the whole of them was refused.
        """
        if self._missing:
            return [*answers]
        if isinstance(answers[0], RpcRefusal):
            raise ChainUnavailable(
                f"the endpoint does not answer for that block: {answers[0].message[:200]}"
            )
        (wei_told, wei), *told = _abi().result("aggregate3", answers[0])
        results = [
            "0x" + data.hex()
            if succeeded
            else RpcRefusal(_REVERTED, "execution reverted", "0x" + data.hex())
            for succeeded, data in told
        ]
        return [hex(int.from_bytes(wei)) if wei_told else _NOTHING, *results]


@cache
def _abi() -> Abi:
    return Abi("Aggregator")
