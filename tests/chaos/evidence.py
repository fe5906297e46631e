"""What chaos must end in, read from rows, receipts and balances."""

from __future__ import annotations

from typing import Any

from coordinator.chain.actp.abi import vault_abi
from coordinator.domain.purchase.purchase import Purchase
from tests.integration.world import World


def lane(world: World) -> list[tuple[str, int, str]]:
    """(kind, nonce, hash) of every attempt, in nonce order and then from cheap to dear."""
    return [
        (kind, nonce, tx_hash)
        for kind, nonce, tx_hash in world.rows(
            "SELECT kind, nonce, hash FROM steps JOIN attempts ON steps.id = step_id"
            " ORDER BY nonce, max_fee_per_gas"
        )
    ]


def mined(world: World, tx_hash: str) -> bool:
    found = world.chain.rpc.call("eth_getTransactionByHash", tx_hash)
    return found is not None and found["blockNumber"] is not None


def check_lane(world: World) -> None:
    """Every nonce that the chain has used is one step's, with one attempt mined; none is open."""
    used = world.chain.nonce(world.signer)
    found = lane(world)
    assert sorted({nonce for _, nonce, _ in found}) == list(range(used))
    for nonce in range(used):
        assert [mined(world, h) for _, n, h in found if n == nonce].count(True) == 1
    assert world.rows("SELECT count(DISTINCT nonce), count(*) FROM steps WHERE position = 0") == [
        (used, used)
    ]
    assert world.in_flight() == []
    assert world.chain.pool(world.signer) == []


def fundings(world: World, purchase: Purchase) -> int:
    """How often the vault was funded under the purchase's key, by the chain's own logs."""
    asked: dict[str, Any] = {
        "fromBlock": "0x0",
        "address": world.chain.deployment.vault,
        "topics": [vault_abi().topic("EscrowCreated"), purchase.escrow_key],
    }
    return len(world.chain.rpc.call("eth_getLogs", asked))
