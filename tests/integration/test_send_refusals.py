"""A node that refuses what is sent is paid what it asks for, within bounds, or told of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes

from coordinator.chain.rpc.client import RpcRefusal
from coordinator.executor import sender
from tests.integration.bad_endpoint import Ask, BadEndpoint, Call, Tell
from tests.integration.stores import on_both_payers, on_either
from tests.integration.world import World

pytestmark = [on_either, on_both_payers]
SEND = "eth_sendRawTransaction"
GWEI = 10**9


def minimum_tip(wei: int, words: str) -> Tell:
    """An endpoint that takes no transaction with a tip below ``wei``."""

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        answers = []
        for method, params in calls:
            tip = _tip(params[0]) if method == SEND else wei
            if tip < wei:
                answers.append(RpcRefusal(-32000, words.format(tip=tip, minimum=wei)))
            else:
                answers += ask(url, [(method, params)])
        return answers

    return tell


def refusing(words: str) -> Tell:
    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        refusal = RpcRefusal(-32000, words)
        return [refusal if m == SEND else ask(url, [(m, p)])[0] for m, p in calls]

    return tell


def _tip(raw: str) -> int:
    return int(TypedTransaction.from_bytes(HexBytes(raw)).as_dict()["maxPriorityFeePerGas"])


def notices(world: World) -> list[str]:
    kept = world.wiring.notices.list()
    return [one.notice.kind for one in kept if one.notice.kind.startswith("sends_refused")]


@pytest.mark.parametrize(
    "words",
    [
        "transaction gas price below minimum: gas tip cap {tip}, minimum needed {minimum}",
        "transaction underpriced: gas tip cap {tip}, minimum needed {minimum}",
        "transaction priority fee below minimum required priority fee {minimum}",
    ],
)
def test_a_tip_that_a_node_asks_for_is_paid_and_the_purchase_funded(
    world: World, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    purchase = world.buy("5.00")
    BadEndpoint(world.wiring.rpc, monkeypatch, minimum_tip(2 * GWEI, words))
    world.go()
    assert world.status(purchase) == "funded"
    tips = world.rows("SELECT max(max_priority_fee_per_gas) FROM attempts")
    assert tips == [(2 * GWEI,)]
    world.check_books()


@pytest.mark.parametrize(
    "words",
    ["Gas price below configured minimum gas price", "FeeTooLow", "gas price too low"],
)
def test_a_minimum_that_a_node_does_not_tell_is_found_by_bumping(
    world: World, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    purchase = world.buy("5.00")
    BadEndpoint(world.wiring.rpc, monkeypatch, minimum_tip(GWEI // 500, words))
    world.go()
    assert world.status(purchase) == "funded"
    world.check_books()


@pytest.mark.parametrize(
    "words",
    [
        "transaction gas price below minimum: gas tip cap 1, minimum needed 5000000000000",
        "the sequencer is not in the mood",
        "insufficient funds for gas * price + value",
    ],
)
def test_a_refusal_that_does_not_end_is_told_once_with_its_words_and_then_that_it_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setattr(sender, "_REFUSED_SECONDS", 0)
    monkeypatch.setattr(sender, "_RESEND_SECONDS", 0)
    purchase = world.buy("5.00")
    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, refusing(words))
    for _ in range(20):
        world.round()
    assert notices(world) == ["sends_refused"]
    (told,) = [k.notice for k in world.wiring.notices.list() if k.notice.kind == "sends_refused"]
    assert words in told.message
    dearest = world.rows("SELECT max(max_fee_per_gas) FROM attempts")[0][0]
    first = world.rows("SELECT min(max_fee_per_gas) FROM attempts")[0][0]
    assert dearest <= 5 * first
    endpoint.heal()
    world.go()
    assert world.status(purchase) == "funded"
    assert sorted(notices(world)) == ["sends_refused", "sends_refused_over"]
    world.check_books()


def test_a_node_that_holds_one_transaction_of_a_delegated_account_only_slows_a_purchase_down(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_RESEND_SECONDS", 0)
    purchase = world.buy("5.00")

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        words = "in-flight transaction limit reached for delegated accounts"
        return [
            RpcRefusal(-32000, words)
            if m == SEND and world.chain.pool(world.signer)
            else ask(url, [(m, p)])[0]
            for m, p in calls
        ]

    BadEndpoint(world.wiring.rpc, monkeypatch, tell)
    world.go()
    assert world.status(purchase) == "funded"
    assert notices(world) == []
    world.check_books()
