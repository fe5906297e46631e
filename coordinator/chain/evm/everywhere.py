"""One block as every endpoint has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from coordinator.chain.abi import number
from coordinator.chain.rpc.client import Call, Rpc
from coordinator.domain.errors import ChainUnavailable

# Three seconds without a block are more than Base takes; six are less than an executor's lease.
_LOOKS_STILL: Final = 12
_LOOKS: Final = 24
_LOOK_SECONDS: Final = 0.25


def read_everywhere(
    rpc: Rpc, block_number: int, calls: Sequence[Call]
) -> tuple[list[list[Any]], bool]:
    """Each endpoint's header of the block and answers to ``calls``, from those that have it.

    One that goes on and does not have it yet is waited for; the other value is False where one
    stands still. ChainUnavailable when one that goes on still does not have it after six seconds.
    """
    asked = [("eth_getBlockByNumber", [hex(block_number), False]), *calls, ("eth_blockNumber", [])]
    newest, still = -1, 0
    for _ in range(_LOOKS):
        states = rpc.everywhere(asked)
        behind = [_height(state[-1]) for state in states if state[0] is None]
        still = 0 if behind and max(behind) > newest else still + 1
        if not behind or still >= _LOOKS_STILL:
            return [state[:-1] for state in states if state[0] is not None], not behind
        newest = max(behind)
        rpc.wait(_LOOK_SECONDS)
    raise ChainUnavailable(
        f"an endpoint is at block {newest} and another tells block {block_number}: nothing is"
        " signed until both have it (take one that stays behind out of COORDINATOR_RPC_URL)"
    )


def _height(answer: Any) -> int:
    """Decode a block number; 0 for what is none, which no endpoint goes on from."""
    try:
        return number(answer)
    except (TypeError, ValueError, ChainUnavailable):
        return 0
