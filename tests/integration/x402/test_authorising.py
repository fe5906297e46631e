"""Payments for HTTP requests are held before they are signed, and signed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from coordinator.domain.errors import IdempotencyConflict, InvalidRequest
from coordinator.domain.policy.policy import Policy
from coordinator.domain.reasons import ReasonCode
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.ledger.proofs.verification import verify
from tests.integration.stores import on_either
from tests.integration.world import AGENT, World
from tests.integration.x402.paying import HOST, Payer

pytestmark = on_either


@pytest.fixture
def payer(make_world: Callable[..., World]) -> Payer:
    return Payer(make_world)


def test_a_payment_is_held_and_then_signed_once_for_its_key(payer: Payer) -> None:
    first = payer.ask("0.50")
    assert first.purchase.status == "approved" and first.payment is None
    assert payer.world.usage() == (Usdc("0.50"), ZERO)
    payer.world.round()
    paid = payer.ask("0.50")
    assert paid.payment is not None and paid.purchase.id == first.purchase.id
    told = paid.payment["payload"]["authorization"]
    assert told["from"] == payer.wallet and told["to"] == payer.world.chain.provider
    assert told["value"] == "500000" and told["nonce"] == paid.purchase.escrow_key
    assert paid.payment["accepted"] == payer.answer("0.50")["accepts"][0]
    assert paid.purchase.x402 is not None
    assert paid.purchase.x402.url == "https://papers.example/papers/7"
    payer.world.restart()
    payer.world.round()
    assert payer.ask("0.50").payment == paid.payment and payer.signatures() == 1


def test_a_payment_gets_no_escrow(payer: Payer) -> None:
    payer.pay("0.50")
    before = payer.world.chain.balance(payer.world.treasury)
    for _ in range(3):
        payer.world.round()
        payer.world.chain.mine()
    assert payer.world.rows("SELECT kind FROM steps") == []
    assert payer.world.chain.balance(payer.world.treasury) == before


def test_an_authorisation_is_valid_for_ten_minutes_at_most(payer: Payer) -> None:
    payer.ask(maxTimeoutSeconds=86_400)
    payer.world.round()
    signed = payer.ask(maxTimeoutSeconds=86_400).purchase.x402
    assert signed is not None and signed.valid_before is not None
    assert signed.signed_at is not None and signed.valid_before == signed.signed_at + 600


_UNPAYABLE: Final[list[tuple[dict[str, Any], str]]] = [
    ({"asset": "0x" + "11" * 20}, "not USDC"),
    ({"network": "eip155:1"}, "the network is 'eip155:1'"),
    ({"scheme": "upto"}, "the scheme is 'upto'"),
    ({"payTo": "0x12"}, "payTo is '0x12'"),
    ({"amount": "-1"}, "the amount is '-1'"),
    ({"amount": "1e3"}, "the amount is '1e3'"),
    ({"amount": 5}, "the amount is 5"),
    ({"maxTimeoutSeconds": 0}, "maxTimeoutSeconds is 0"),
    ({"extra": {"assetTransferMethod": "permit2"}}, "the transfer method is 'permit2'"),
]


def test_what_can_not_be_paid_is_refused_in_a_sentence_and_changes_nothing(payer: Payer) -> None:
    for terms, told in _UNPAYABLE:
        with pytest.raises(InvalidRequest, match=told) as refused:
            payer.ask(**terms)
        assert refused.value.code == "x402_not_payable"
    assert not payer.world.coordinator.purchases() and payer.world.usage() == (ZERO, ZERO)


_NOT_ALLOWED: Final[list[tuple[dict[str, Any], ReasonCode]]] = [
    ({"usdc": "1.01"}, ReasonCode.PER_PURCHASE_LIMIT),
    ({"payTo": "stranger"}, ReasonCode.PROVIDER_NOT_ALLOWED),
    ({"payTo": "other_provider"}, ReasonCode.PROVIDER_NOT_ALLOWED),
    ({"url": "https://evil.example/papers"}, ReasonCode.PROVIDER_NOT_ALLOWED),
    ({"url": f"https://{HOST}:8443/papers"}, ReasonCode.PROVIDER_NOT_ALLOWED),
    ({"url": f"https://{HOST}.evil.example/"}, ReasonCode.PROVIDER_NOT_ALLOWED),
    ({"agent": "nobody"}, ReasonCode.AGENT_NOT_REGISTERED),
]


def test_what_the_policy_does_not_allow_is_never_signed(payer: Payer) -> None:
    for number, (given, code) in enumerate(_NOT_ALLOWED):
        terms = dict(given)
        if "payTo" in terms:
            terms["payTo"] = getattr(payer.world.chain, terms["payTo"])
        denied = payer.ask(key=f"key-{number}", **terms).purchase
        assert denied.denied and denied.reason is not None and denied.reason.code is code
    payer.world.round()
    assert payer.signatures() == 0
    assert payer.world.usage() == (ZERO, ZERO)


def test_a_server_that_asks_for_more_than_its_price_is_not_paid(
    make_world: Callable[..., World],
) -> None:
    payer = Payer(make_world, provider={"price": "0.10"})
    assert payer.ask("0.10", key="fair").purchase.status == "approved"
    denied = payer.ask("0.11", key="dear").purchase
    assert denied.reason is not None
    assert denied.reason.code is ReasonCode.PRICE_ABOVE_REGISTERED


def test_one_key_with_another_price_payee_or_host_is_a_conflict(payer: Payer) -> None:
    payer.pay("0.50")
    changed: list[dict[str, Any]] = [
        {"amount": "0.51"},
        {"payTo": payer.world.chain.other_provider},
        {"url": "https://other.example/"},
    ]
    for terms in changed:
        with pytest.raises(IdempotencyConflict):
            payer.ask(terms.pop("amount", "0.50"), **terms)
    assert payer.signatures() == 1


@pytest.mark.parametrize("run", ["task", "session"])
def test_a_task_and_a_session_have_limits_of_their_own(
    make_world: Callable[..., World], run: str
) -> None:
    payer = Payer(make_world, **{f"per_{run}_limit": "1.00"})
    payer.pay("0.60", key="a", **{run: "t"})
    over = payer.ask("0.41", key="b", **{run: "t"}).purchase
    assert over.reason is not None and over.reason.code.value == f"{run}_limit"
    assert payer.ask("0.40", key="c", **{run: "t"}).purchase.status == "approved"
    assert payer.ask("0.60", key="d", **{run: "another"}).purchase.status == "approved"
    # An escrow counts in the usual limits of the same run alone.
    assert payer.world.buy("25.00", **{run: "t"}).status == "approved"
    assert payer.signatures() == 1


def test_an_unknown_payee_waits_for_people(make_world: Callable[..., World]) -> None:
    payer = Payer(make_world, unknown_payees="ask")
    stranger = {"payTo": payer.world.chain.stranger}
    waiting = payer.ask("0.50", **stranger)
    assert waiting.purchase.needs_approval and waiting.payment is None
    payer.world.round()
    assert payer.signatures() == 0
    approval = waiting.purchase.approval_id or ""
    assert payer.world.coordinator.approve(approval, approver="alice").done
    payer.world.round()
    paid = payer.ask("0.50", **stranger)
    assert paid.payment is not None
    assert paid.payment["payload"]["authorization"]["to"] == payer.world.chain.stranger


def test_what_is_not_signed_can_be_cancelled_and_what_is_can_not(payer: Payer) -> None:
    unsigned = payer.ask("0.50", key="a").purchase
    assert payer.world.coordinator.cancel(unsigned.id, by="olga").done
    assert payer.world.usage() == (ZERO, ZERO)
    payer.world.round()
    assert payer.signatures() == 0
    signed = payer.pay("0.50", key="b").purchase
    refused = payer.world.coordinator.cancel(signed.id, by="olga")
    assert not refused.done and refused.reason is not None
    assert "signed" in refused.reason.message
    assert payer.world.usage()[0] == Usdc("0.50")


def test_nothing_is_signed_while_payments_are_paused(payer: Payer) -> None:
    payer.ask("0.50")
    payer.world.coordinator.pause("look", by="olga")
    payer.world.round()
    assert payer.signatures() == 0
    payer.world.unpause()
    payer.world.round()
    assert payer.signatures() == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE purchases SET provider = ?",
        "UPDATE authorisations SET wallet = ?",
        "UPDATE authorisations SET signature = NULL, valid_before = NULL WHERE wallet <> ?",
    ],
)
def test_an_edited_row_is_not_paid(payer: Payer, statement: str) -> None:
    if "signature" in statement:
        payer.pay("0.50")
    else:
        payer.ask("0.50")
    payer.world.edit(statement, payer.world.chain.stranger)
    before = payer.signatures()
    payer.world.round()
    assert payer.signatures() == before


def test_a_payment_for_a_request_is_no_duplicate_of_an_escrow(
    make_world: Callable[..., World],
) -> None:
    payer = Payer(make_world, provider={"service": None})
    paid = payer.ask("1.00").purchase
    bought = payer.world.coordinator.agent(AGENT).purchase(
        provider="paper-api",
        amount="1.00",
        purpose="a paper",
        unless_duplicate=True,
        wait=False,
    )
    assert (bought.id != paid.id, bought.settle) == (True, "after_window")


def test_what_is_kept_back_keeps_nobody_else_waiting(payer: Payer) -> None:
    for number in range(100):
        payer.ask("0.01", key=f"kept-{number}")
    payer.world.coordinator.pause("look", by="olga", agent=AGENT)
    payer.ask("0.50", agent="data-agent")
    for _ in range(2):
        payer.world.round()
    assert payer.signatures() == 1


def test_the_float_is_never_promised_twice(make_world: Callable[..., World]) -> None:
    payer = Payer(make_world, float_="1.00")
    payer.pay("0.60", key="a")
    short = payer.ask("0.41", key="b").purchase
    assert short.reason is not None and short.reason.code is ReasonCode.INSUFFICIENT_USDC
    assert "wallet" in short.reason.message
    assert payer.world.buy("900.00", agent="data-agent").needs_approval


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE authorisations SET url = 'https://papers.example/'",
        "UPDATE authorisations SET valid_before = valid_before + 1",
        "UPDATE authorisations SET signature = NULL",
        "DELETE FROM authorisations",
    ],
)
def test_an_edited_payment_is_told(payer: Payer, statement: str) -> None:
    paid = payer.pay("0.50").purchase
    assert verify(payer.world.wiring.audit).ok
    payer.world.edit(statement)
    (fault,) = verify(payer.world.wiring.audit).faults
    assert paid.id in fault
    assert [d.kind for d in payer.world.coordinator.reconcile().discrepancies] == ["row_differs"]


def test_another_policy_judges_the_past_s_payments_as_payments(payer: Payer) -> None:
    payer.pay("0.50", key="a")
    payer.pay("0.60", key="b")
    same = payer.world.coordinator.replay(payer.world.policy, days=1)
    assert same.judged == 2 and not same.differences
    document = payer.world.policy.document()
    document["x402"] = {"per_request_limit": "0.55"}
    (changed,) = payer.world.coordinator.replay(Policy.from_dict(document), days=1).differences
    assert changed.request.amount == Usdc("0.60") and changed.after == "denied"


def test_a_change_of_the_policy_counts_payments_where_they_belong(payer: Payer) -> None:
    payer.pay("0.60", key="a", task="t")
    payer.world.edit("DELETE FROM counters WHERE scope_kind = 'x402_task'")
    document = payer.world.policy.document()
    document["x402"] = {"per_task_limit": "1.00"}
    document["organisation"]["weekly_limit"] = "9000"
    payer.world.apply(Policy.from_dict(document))
    over = payer.ask("0.41", key="b", task="t").purchase
    assert over.reason is not None and over.reason.code is ReasonCode.TASK_LIMIT
