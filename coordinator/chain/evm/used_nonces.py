"""Search for the transaction that took a nonce, by the account's counts in old blocks."""

from __future__ import annotations

from typing import Final

from coordinator.chain.abi import number, quantity
from coordinator.chain.rpc.client import Rpc, RpcRefusal
from coordinator.domain.errors import ChainUnavailable

_LOOKS: Final = 3
# So many transactions are believed without seeing the last of them, where a node has forgotten it.
_UNSEEN_MAX: Final = 1_000


def confirm_count(rpc: Rpc, account: str, used: int, *, at: int, known: int) -> None:
    """Refuse a count of mined transactions that only one answer tells; ``known`` are expected.

    Three readings of block ``at`` by every endpoint that has it must tell ``used``, and the
    last transaction beyond ``known`` must be found; ChainUnavailable otherwise.
    """
    asked = [("eth_getTransactionCount", [account, hex(at)])]
    told: list[int] = []
    while len(told) < _LOOKS:
        answers = [answer for (answer,) in rpc.everywhere(asked)]
        found = [number(answer) for answer in answers if not isinstance(answer, RpcRefusal)]
        if not found:
            raise ChainUnavailable(f"no endpoint tells how many transactions block {at} has")
        told += found
    if set(told) != {used}:
        raise ChainUnavailable(
            f"the endpoints tell {sorted({used, *told})} transactions of the treasury up to block"
            f" {at}: none of these is believed"
        )
    if used <= known:
        return
    if mined_at_nonce(rpc, account, used - 1, by=at) is None and used - known > _UNSEEN_MAX:
        raise ChainUnavailable(
            f"the endpoint tells {used - known} transactions of the treasury that are not known"
            " here, and can't show the last one: use an endpoint that keeps old states"
        )


def mined_at_nonce(rpc: Rpc, account: str, nonce: int, *, by: int) -> str | None:
    """Hash of the account's transaction of ``nonce``, which block ``by`` or one before it has.

    None when the node has forgotten the states that would tell the block. ChainUnavailable when it
    does not answer, or its answers do not fit together.
    """
    used, before, known, stride = by, by, True, 1
    if (_count(rpc, account, by) or 0) <= nonce:
        raise ChainUnavailable(f"the endpoint does not have nonce {nonce} in block {by}")
    while before == used:
        before = max(-1, used - stride)
        count = _count(rpc, account, before)
        known, stride = count is not None, 2 * stride
        if count is not None and count > nonce:
            used = before
    while used - before > 1:
        middle = (used + before) // 2
        count = _count(rpc, account, middle)
        if count is not None and count > nonce:
            used = middle
        else:
            before, known = middle, count is not None
    return _hash_in(rpc, account, nonce, used) if known else None


def _count(rpc: Rpc, account: str, block_number: int) -> int | None:
    """Count the account's transactions up to a block; None when its state is pruned."""
    if block_number < 0:
        return 0
    answer = rpc.batch([("eth_getTransactionCount", [account, hex(block_number)])])[0]
    if not isinstance(answer, RpcRefusal):
        return quantity(answer)
    if _is_pruned(answer.message.lower()):
        return None
    raise ChainUnavailable(f"the endpoint tells no count of block {block_number}: {answer.message}")


def _is_pruned(said: str) -> bool:
    """geth, erigon, nethermind, reth and besu say so each in words of its own."""
    return (
        "missing trie node" in said
        or "prun" in said
        or "archive" in said
        or ("state" in said and "available" in said)
    )


def _hash_in(rpc: Rpc, account: str, nonce: int, block_number: int) -> str:
    block = rpc.call("eth_getBlockByNumber", hex(block_number), True)
    for tx in (block or {}).get("transactions", ()):
        if tx["from"].lower() == account.lower() and int(tx["nonce"], 16) == nonce:
            return str(tx["hash"])
    raise ChainUnavailable(f"block {block_number} has no transaction of nonce {nonce}")
