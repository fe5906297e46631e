"""Many calls at one block as one, where the chain has Multicall3."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from coordinator.chain.abi import Abi
from coordinator.chain.evm.calls import ContractCall
from coordinator.chain.evm.lapse import Lapse
from coordinator.chain.networks import AGGREGATOR
from coordinator.chain.rpc.client import RpcRefusal
from coordinator.chain.words import WORD_DIGITS, hex_digits
from coordinator.domain.errors import ChainUnavailable

# JSON-RPC's code for a reverted call.
_REVERTED: Final = 3
_NOTHING: Final = "0x"
_SELECTOR_LENGTH: Final = 10
_WORD_BYTES: Final = WORD_DIGITS // 2
_TRUE: Final = f"{1:064x}"
# Where in its parts a list and a call's data stand, in bytes.
_LIST_AT: Final = f"{_WORD_BYTES:064x}"
_CALL_AT: Final = f"{3 * _WORD_BYTES:064x}"


class Aggregator:
    """Reads an account's ETH and the results of calls after one block, all together.

    Where no contract answers, they are asked one by one for a while.
    """

    def __init__(self, account: str) -> None:
        self._account = account
        self._missing = Lapse()

    def try_again(self) -> None:
        """Count a reading without the contract; after many it is tried, before the next one."""
        self._missing.pass_by()

    def requests(self, calls: Sequence[ContractCall], at: str) -> list[tuple[str, list[Any]]]:
        """The requests that tell the account's wei and each call's result after block ``at``."""
        if self._missing.lasts:
            asked = [{"to": to, "data": data} for to, data in calls]
            balance = ("eth_getBalance", [self._account, at])
            return [balance, *(("eth_call", [request, at]) for request in asked)]
        wei = (AGGREGATOR, _abi().call("getEthBalance", self._account))
        return [aggregate([wei, *calls], at)]

    def is_missing(self, answers: Sequence[Any]) -> bool:
        """Whether no contract answered the requests, which have to be made again then."""
        if self._missing.lasts or answers[0] != _NOTHING:
            return False
        self._missing.begin()
        return True

    def results(self, answers: Sequence[Any]) -> list[Any]:
        """Decode the answers: the account's wei as hex, then each result or its RpcRefusal.

        ChainUnavailable when the whole of them was refused.
        """
        if self._missing.lasts:
            return [*answers]
        if isinstance(answers[0], RpcRefusal):
            raise ChainUnavailable(
                f"the endpoint does not answer for that block: {answers[0].message[:200]}"
            )
        wei, *results = results_of(answers[0])
        return [hex(int(wei, 16)) if isinstance(wei, str) else _NOTHING, *results]


def aggregate(calls: Sequence[ContractCall], at: str) -> tuple[str, list[Any]]:
    """The request for all results of ``calls`` after block ``at``."""
    # By hand: the general encoder takes as long for each as the chain takes to answer it.
    items = []
    for to, data in calls:
        digits = hex_digits(data)
        padded = digits.ljust(-(-len(digits) // WORD_DIGITS) * WORD_DIGITS, "0")
        length = f"{len(digits) // 2:064x}"
        items.append("".join((_word(to), _TRUE, _CALL_AT, length, padded)))
    places, place = [], len(items) * _WORD_BYTES
    for item in items:
        places.append(f"{place:064x}")
        place += len(item) // 2
    data = "".join((_selector(), _LIST_AT, f"{len(items):064x}", *places, *items))
    return "eth_call", [{"to": AGGREGATOR, "data": data}, at]


def results_of(answer: str) -> list[Any]:
    """Each call's result as hex, or its RpcRefusal; ValueError for what can't be read."""
    digits = hex_digits(answer)
    base = 2 * _number(digits, 0)
    count, start = _number(digits, base), base + WORD_DIGITS
    if count * WORD_DIGITS > len(digits):
        raise ValueError(f"{count} results don't fit into the answer")
    return [
        _result(digits, start + 2 * _number(digits, start + index * WORD_DIGITS))
        for index in range(count)
    ]


def _result(digits: str, at: int) -> Any:
    succeeded = _number(digits, at)
    length_at = at + 2 * _number(digits, at + WORD_DIGITS)
    first, length = length_at + WORD_DIGITS, 2 * _number(digits, length_at)
    data = digits[first : first + length]
    if succeeded > 1 or len(data) != length:
        raise ValueError("a result of the aggregator is cut off")
    if succeeded:
        return "0x" + data
    return RpcRefusal(_REVERTED, "execution reverted", "0x" + data)


def _number(digits: str, at: int) -> int:
    text = digits[at : at + WORD_DIGITS]
    if len(text) < WORD_DIGITS:
        raise ValueError("the aggregator's answer is cut off")
    return int(text, 16)


def _word(address: str) -> str:
    return hex_digits(address).rjust(WORD_DIGITS, "0")


@cache
def _selector() -> str:
    return _abi().call("aggregate3", [])[:_SELECTOR_LENGTH]


@cache
def _abi() -> Abi:
    return Abi("Aggregator")
