"""Facilitators that fail in each way they know, and what the chain and the treasury then say."""

from __future__ import annotations

import secrets
import threading
from typing import Any

import pytest
import requests
from eth_account import Account
from x402.http.clients.requests import PaymentError
from x402.http.utils import decode_payment_required_header

from coordinator.domain import errors
from coordinator.domain.usdc import ZERO, Usdc
from coordinator_client.errors import CoordinatorError, InvalidRequest
from coordinator_client.x402 import (
    PaymentDenied,
    PaymentNotTaken,
    PaymentUnknown,
    SettlementPending,
    paid,
)
from coordinator_client.x402.exact import TreasuryExact
from tests.integration.local_chain import LocalChain
from tests.integration.stores import by_default, on_either
from tests.integration.x402 import buyers, facilitator, shop
from tests.integration.x402.bench import PRICE, Bench, Working
from tests.integration.x402.facilitator import Facilitator
from tests.integration.x402.paying import Payer
from tests.integration.x402.shop import Books, Offer

pytestmark = on_either

_UNKNOWN: dict[str, type[PaymentUnknown]] = {
    facilitator.SILENT: PaymentUnknown,
    facilitator.BAD_GATEWAY: PaymentUnknown,
    facilitator.ASKS_TWICE: PaymentNotTaken,
    facilitator.PENDING: SettlementPending,
}
_UNPAID = (facilitator.NEVER, facilitator.LATE, facilitator.PENDING)


@pytest.mark.parametrize("fault", by_default(facilitator.FAULTS[:3], (facilitator.BAD_GATEWAY,)))
def test_a_client_that_signs_again_pays_twice(
    fault: str, chain: LocalChain, host: tuple[Any, str]
) -> None:
    """What the bench must catch, or it shows nothing."""
    account = Account.from_key(secrets.token_bytes(32))
    chain.fund(account.address, usdc="100", wei=0)
    books, settling = Books.begin(chain, account.address), Facilitator(chain, fault)
    offer = Offer(str(PRICE.base_units), chain.provider, chain.deployment.usdc)
    with shop.opened(host, settling, offer) as selling, buyers.naive(account) as session:
        try:
            assert session.get(f"{selling.url}/paid", timeout=3).status_code in (402, 502)
        except PaymentError:
            assert fault == facilitator.SILENT
        settling.fault = facilitator.HONEST
        assert session.get(f"{selling.url}/paid", timeout=30).json()["paper"] == "x402"

    assert books.payments() == [(chain.provider, PRICE)] * 2
    assert chain.balance(account.address) == Usdc("99")


@pytest.mark.parametrize("face", buyers.FACES)
def test_an_honest_payment_is_made_once(face: str, bench: Bench, chain: LocalChain) -> None:
    with buyers.opened(face, bench.agent) as buyer:
        got = buyer.get(bench.url, "k-1", purpose="one paper", task="t-1")

    assert got.json()["paper"] == "x402"
    assert bench.books.payments() == [(chain.provider, PRICE)]
    assert bench.balance == Usdc("19.50")
    asked = bench.agent.asked[0]
    assert (asked["url"], asked["idempotency_key"]) == (bench.url, "k-1")
    assert (asked["purpose"], asked["task"]) == ("one paper", "t-1")
    assert asked["answer"]["accepts"][0]["extra"]["note"] == {"ours": None}
    told = paid(got)
    assert told is not None and told.settlement is not None
    found = bench.payer.world.coordinator.agent("research-agent").get(idempotency_key="k-1")
    assert (told.idempotency_key, told.purchase_id) == ("k-1", found.id)
    assert told.settlement["success"] is True
    assert bench.payer.signatures() == 1
    assert bench.ends() == {found.id: ("settled", "posted", PRICE)}
    report = bench.payer.world.coordinator.task("t-1").report()
    assert report["spent"] == str(sum((paid for _, paid in bench.books.payments()), ZERO))


@pytest.mark.each_choice
@pytest.mark.parametrize("keyed", [True, False], ids=["with its key", "just again"])
@pytest.mark.parametrize("face", buyers.FACES)
@pytest.mark.parametrize("fault", _UNKNOWN)
def test_an_unknown_outcome_is_asked_again_with_the_same_payment(
    fault: str, face: str, keyed: bool, bench: Bench, chain: LocalChain
) -> None:
    bench.settling.fault = fault
    seconds = 1 if fault == facilitator.SILENT else 60
    with buyers.opened(face, bench.agent, timeout_seconds=seconds) as buyer:
        with pytest.raises(PaymentUnknown) as caught:
            buyer.get(bench.url, "k-1" if keyed else None)
        assert type(caught.value) is _UNKNOWN[fault]
        assert caught.value.money_moved is None
        assert len(bench.books.payments()) == (0 if fault in _UNPAID else 1)

        bench.settling.fault = facilitator.HONEST
        again = caught.value.idempotency_key if keyed else None
        assert buyer.get(bench.url, again).json()["paper"] == "x402"
    bench.settling.submit_late()

    assert len(bench.settling.nonces) > 1 and len(set(bench.settling.nonces)) == 1
    assert bench.books.used_nonces() == bench.settling.nonces[:1]
    assert bench.books.payments() == [(chain.provider, PRICE)]
    assert bench.balance == Usdc("19.50")
    assert bench.payer.signatures() == 1
    assert list(bench.ends().values()) == [("settled", "posted", PRICE)]


def test_a_fresh_process_with_the_key_sends_the_same_payment(
    bench: Bench, chain: LocalChain
) -> None:
    bench.settling.fault = facilitator.BAD_GATEWAY
    for face in buyers.FACES:
        with buyers.opened(face, bench.agent) as buyer, pytest.raises(PaymentUnknown):
            buyer.get(bench.url, "k-1")
        bench.payer.world.restart()

    assert len(bench.settling.nonces) == 2
    assert bench.books.used_nonces() == bench.settling.nonces[:1]
    assert bench.books.payments() == [(chain.provider, PRICE)]
    assert bench.payer.signatures() == 1


@pytest.mark.parametrize("face", by_default(buyers.FACES, [buyers.REQUESTS]))
def test_requests_that_were_answered_are_payments_of_their_own(
    face: str, bench: Bench, chain: LocalChain
) -> None:
    with buyers.opened(face, bench.agent) as buyer:
        for _ in range(2):
            assert buyer.get(bench.url).status_code == 200

    assert bench.books.payments() == [(chain.provider, PRICE)] * 2
    assert bench.payer.signatures() == 2


def test_a_slow_settlement_is_waited_for(bench: Bench, chain: LocalChain) -> None:
    bench.settling.fault = facilitator.SLOW
    got: list[Any] = []
    with buyers.opened(buyers.REQUESTS, bench.agent) as buyer:
        asking = threading.Thread(target=lambda: got.append(buyer.get(bench.url)))
        asking.start()
        assert bench.settling.reached.wait(30)
        assert bench.books.payments() == []
        bench.settling.go.set()
        asking.join()

    assert got[0].json()["paper"] == "x402"
    assert bench.books.payments() == [(chain.provider, PRICE)]


@pytest.mark.parametrize("fault", [facilitator.NEVER, facilitator.LATE])
def test_what_is_not_settled_in_time_stays_with_the_payer(fault: str, bench: Bench) -> None:
    bench.settling.fault = fault
    with buyers.opened(buyers.REQUESTS, bench.agent) as buyer:
        assert buyer.get(bench.url).json()["paper"] == "x402"
    assert list(bench.ends().values()) == [("approved", "held", ZERO)]
    bench.payer.world.pass_time(3600)
    bench.settling.submit_late()

    assert bench.books.payments() == [] and bench.books.used_nonces() == []
    assert bench.balance == Usdc("20")
    assert list(bench.ends().values()) == [("failed", "voided", ZERO)]


@pytest.mark.parametrize("face", by_default(buyers.FACES, [buyers.HTTPX]))
def test_the_offer_that_the_treasury_took_is_paid(
    face: str, payer: Payer, chain: LocalChain, host: tuple[Any, str]
) -> None:
    price, usdc = str(PRICE.base_units), chain.deployment.usdc
    offers = [
        Offer(price, chain.provider, chain.deployment.kernel),
        Offer(price, chain.provider, usdc, network="eip155:8453"),
        Offer(price, chain.provider, usdc),
    ]
    books = Books.begin(chain, payer.wallet)
    with (
        shop.opened(host, Facilitator(chain), *offers) as selling,
        buyers.opened(face, Working(payer.world)) as buyer,
    ):
        assert buyer.get(f"{selling.url}/paid").status_code == 200

    assert books.payments() == [(chain.provider, PRICE)]


@pytest.mark.parametrize("face", by_default(buyers.FACES, [buyers.HTTPX]))
@pytest.mark.parametrize("asked", by_default(["token", "chain", "price", "address"], ["chain"]))
def test_what_asks_for_something_else_gets_no_signature(
    asked: str, face: str, payer: Payer, chain: LocalChain, host: tuple[Any, str]
) -> None:
    offer = Offer(str(PRICE.base_units), chain.provider, chain.deployment.usdc)
    error: type[Exception] = InvalidRequest
    if asked == "token":
        offer.asset = chain.deployment.kernel
    elif asked == "chain":
        offer.network = "eip155:8453"
    elif asked == "price":
        offer.amount, error = "1000001", PaymentDenied
    else:
        offer.pay_to, error = chain.stranger, PaymentDenied
    settling, books = Facilitator(chain), Books.begin(chain, payer.wallet)
    with (
        shop.opened(host, settling, offer) as selling,
        buyers.opened(face, Working(payer.world)) as buyer,
        pytest.raises((CoordinatorError, errors.CoordinatorError)) as caught,
    ):
        buyer.get(f"{selling.url}/paid")

    # In process the errors are those of the Python API, which have the same names.
    assert type(caught.value).__name__ == error.__name__
    assert (payer.signatures(), settling.nonces, books.payments()) == (0, [], [])


@pytest.mark.parametrize("face", by_default(buyers.FACES, [buyers.REQUESTS]))
def test_a_redirect_after_a_payment_is_not_paid_again(
    face: str, payer: Payer, chain: LocalChain, host: tuple[Any, str]
) -> None:
    offer = Offer(str(PRICE.base_units), chain.provider, chain.deployment.usdc)
    books = Books.begin(chain, payer.wallet)
    with (
        shop.opened(host, Facilitator(chain), offer, moved=offer) as selling,
        buyers.opened(face, Working(payer.world)) as buyer,
    ):
        got = buyer.get(f"{selling.url}/moved")
        assert (got.status_code, got.headers["Location"]) == (307, "/paid")
        assert selling.served == 1

    assert books.payments() == [(chain.provider, PRICE)]
    assert payer.signatures() == 1


def test_the_scheme_signs_nothing_of_its_own(bench: Bench) -> None:
    asked = requests.get(bench.url, timeout=30)
    required = decode_payment_required_header(asked.headers["PAYMENT-REQUIRED"])
    with pytest.raises(CoordinatorError, match="was not asked"):
        TreasuryExact().create_payment_payload(required.accepts[0])
