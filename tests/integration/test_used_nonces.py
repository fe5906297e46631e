"""Whose transaction used a nonce is asked of the chain before spending pauses for a stranger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from coordinator.chain.rpc.client import RpcRefusal
from coordinator.domain.chain.steps import StepKind
from coordinator.domain.errors import ChainUnavailable
from tests.integration.bad_endpoint import INTERNAL_ERROR, Ask, BadEndpoint, Call, Tell
from tests.integration.stores import on_both_payers, on_either
from tests.integration.world import World

pytestmark = [on_either, on_both_payers]


def stranger_at(world: World, nonce: int) -> None:
    world.send_as_treasury(world.chain.stranger, "0x", nonce=hex(nonce), gas=hex(30_000))
    world.chain.mine()


def no_counts(answer: RpcRefusal, *, below: int) -> Tell:
    """An endpoint that tells ``answer`` instead of counts of blocks below this one."""

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        return [
            answer if method == "eth_getTransactionCount" and int(params[1], 16) < below else real
            for (method, params), real in zip(calls, ask(url, calls), strict=True)
        ]

    return tell


@pytest.mark.parametrize(
    "said",
    [
        "missing trie node 1f (path ) state 0x2f is not available",
        "historical state 0x2f is not available",
        "old data not available due to pruning",
        "No state available for block 0x2f",
        "state at block #2 is pruned",
    ],
)
def test_where_history_is_pruned_a_used_nonce_is_a_strangers_after_finality(
    world: World, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    asked = world.buy_and_send()
    first, *_ = world.hold_back(lambda step: step.kind is world.sent_as(StepKind.APPROVE))
    stranger_at(world, first.nonce)
    endpoint = BadEndpoint(
        world.wiring.rpc,
        monkeypatch,
        no_counts(RpcRefusal(-32000, said), below=world.chain.height),
    )
    for _ in range(6):
        world.round()
        world.chain.mine()
    assert [str(p) for p in world.wiring.operations.pauses()] == ["organisation"]
    endpoint.heal()
    world.unpause()
    world.go()
    # Without the approval its link was refused; a batch is made again.
    assert world.status(asked) == ("funded" if world.safe else "cancelled")
    world.check_books()


def test_what_a_node_can_not_tell_for_a_fault_of_its_own_displaces_nothing_yet(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.buy_and_send()
    first, *_ = world.hold_back(lambda step: step.kind is world.sent_as(StepKind.APPROVE))
    stranger_at(world, first.nonce)
    endpoint = BadEndpoint(
        world.wiring.rpc, monkeypatch, no_counts(INTERNAL_ERROR, below=world.chain.height)
    )
    for _ in range(8):
        world.round()
        world.chain.mine()
    assert world.wiring.operations.pauses() == []
    assert world.in_flight()[0].id == first.id
    endpoint.heal()
    world.round()
    assert [str(p) for p in world.wiring.operations.pauses()] == ["organisation"]


def test_the_transaction_of_a_nonce_is_found_however_long_ago(world: World) -> None:
    chain, found = world.chain, {}
    for blocks in (1, 2, 5, 17):
        nonce = chain.nonce(world.signer)
        found[nonce] = world.send_as_treasury(chain.stranger, "0x", gas=hex(30_000))
        chain.mine(blocks)
    height = chain.height
    for nonce, tx_hash in found.items():
        assert world.wiring.chain.mined_at_nonce(nonce, by=height) == tx_hash
    with pytest.raises(ChainUnavailable, match=f"does not have nonce {max(found) + 1}"):
        world.wiring.chain.mined_at_nonce(max(found) + 1, by=height)
