"""The paying clients: one key for a request, one payment for a key, and nothing guessed."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from coordinator_client.errors import InvalidRequest
from coordinator_client.x402 import (
    PayingClient,
    PaymentDenied,
    PaymentFailed,
    PaymentNotTaken,
    PaymentUnknown,
    PaymentWaiting,
    SettlementPending,
    asking,
    paid,
    paying,
)
from coordinator_client.x402.calls import Call, Memory

URL = "https://papers.example/7"
OFFER = {
    "scheme": "exact",
    "network": "eip155:84532",
    "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
    "amount": "500000",
    "payTo": "0x1111111111111111111111111111111111111111",
    "maxTimeoutSeconds": 60,
    "extra": {"name": "USDC", "version": "2", "other": None},
    "notKnownToTheSdk": {"kept": [1, None]},
}
ANSWER = {"x402Version": 2, "resource": {"url": URL}, "accepts": [OFFER]}
OLD_OFFER = {
    **{k: v for k, v in OFFER.items() if k != "amount"},
    "network": "base-sepolia",
    "maxAmountRequired": "500000",
    "resource": URL,
}
OLD_ANSWER = {"x402Version": 1, "error": "pay", "accepts": [OLD_OFFER]}


def coded(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def ask(answer: Mapping[str, Any] = ANSWER) -> httpx.Response:
    if answer["x402Version"] == 1:
        return httpx.Response(402, json=answer)
    return httpx.Response(402, headers={"PAYMENT-REQUIRED": coded(answer)})


@dataclass
class Purchase:
    status: str = "approved"
    id: str = "pur_1"
    reason: Any = None
    reasons: tuple[str, ...] = ()

    @property
    def denied(self) -> bool:
        return self.status == "denied"

    @property
    def needs_approval(self) -> bool:
        return self.status == "awaiting_approval"

    @property
    def final(self) -> bool:
        return self.status in ("denied", "failed", "settled")


@dataclass
class Said:
    purchase: Purchase
    payment: Mapping[str, Any] | None


@dataclass
class Treasury:
    """Says what it is told to, and gives each key one payment."""

    status: str = "approved"
    keys: list[str] = field(default_factory=list)

    async def authorise_x402(
        self, answer: Mapping[str, Any], *, idempotency_key: str, **_: Any
    ) -> Said:
        self.keys.append(idempotency_key)
        if self.status != "approved":
            return Said(Purchase(self.status), None)
        nonce = f"0x{list(dict.fromkeys(self.keys)).index(idempotency_key):064x}"
        payload = {"signature": "0x00", "authorization": {"nonce": nonce, "validBefore": "99"}}
        return Said(Purchase(), {"payload": payload, "accepted": answer["accepts"][0]})


@dataclass
class Shop:
    """Answers unpaid requests with ``unpaid``, and paid ones with what ``pays`` makes of them."""

    pays: Callable[[httpx.Request], httpx.Response] = lambda _: httpx.Response(200, text="paper")
    unpaid: Callable[[], httpx.Response] = ask
    payments: list[Any] = field(default_factory=list)
    asked: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        header = request.headers.get("PAYMENT-SIGNATURE") or request.headers.get("X-PAYMENT")
        if header is None:
            return self.unpaid()
        self.payments.append(json.loads(base64.b64decode(header)))
        return self.pays(request)

    @property
    def nonces(self) -> list[str]:
        return [one["payload"]["authorization"]["nonce"][-1] for one in self.payments]


def buy(
    shop: Shop, treasury: Treasury, *errors: type[Exception] | None, **terms: Any
) -> list[httpx.Response]:
    """Ask once for each expectation, by one client; the answers."""
    got: list[httpx.Response] = []

    async def story() -> None:
        transport = httpx.MockTransport(shop)
        async with PayingClient(treasury, transport=transport, **terms) as http:
            for error in errors or (None,):
                if error is None:
                    got.append(await http.get(URL))
                    continue
                with pytest.raises(error) as caught:
                    await http.get(URL)
                assert type(caught.value) is error

    asyncio.run(story())
    return got


def test_the_offer_is_repeated_word_for_word() -> None:
    shop = Shop()
    (got,) = buy(shop, Treasury())

    (payment,) = shop.payments
    assert payment["accepted"] == OFFER and payment["resource"] == {"url": URL}
    assert payment["x402Version"] == 2
    told = paid(got)
    assert told is not None and (told.purchase_id, told.valid_before) == ("pur_1", 99)


def test_a_server_of_the_first_version_is_paid_in_its_own_way() -> None:
    shop = Shop(unpaid=lambda: ask(OLD_ANSWER))
    buy(shop, Treasury())

    (payment,) = shop.payments
    assert (payment["x402Version"], payment["scheme"]) == (1, "exact")
    assert payment["network"] == "base-sepolia"
    assert "X-PAYMENT" in shop.asked[-1].headers


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda: httpx.Response(500), PaymentUnknown),
        (lambda: httpx.Response(503), PaymentUnknown),
        (lambda: httpx.Response(429), PaymentUnknown),
        (ask, PaymentNotTaken),
        (
            lambda: httpx.Response(
                402,
                headers={
                    "PAYMENT-RESPONSE": coded(
                        {"success": False, "errorReason": "settlement_pending"}
                    )
                },
            ),
            SettlementPending,
        ),
    ],
    ids=["500", "503", "429", "402", "pending"],
)
def test_a_program_that_tries_again_sends_the_same_payment(
    answer: Callable[[], httpx.Response], error: type[PaymentUnknown]
) -> None:
    answers = iter([answer(), answer(), httpx.Response(200), httpx.Response(200)])
    shop, treasury = Shop(pays=lambda _: next(answers)), Treasury()
    buy(shop, treasury, error, error, None, None)

    # What was answered at last is over: the next request is a payment of its own.
    assert len(set(shop.nonces[:3])) == 1 and shop.nonces[3] != shop.nonces[0]
    assert len(set(treasury.keys)) == 2


def test_a_connection_that_breaks_is_unknown() -> None:
    def cut(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("silent")

    shop = Shop(pays=cut)
    buy(shop, Treasury(), PaymentUnknown, PaymentUnknown)
    assert len(shop.nonces) == 2 and len(set(shop.nonces)) == 1


def test_a_body_that_is_cut_off_is_unknown() -> None:
    class Cut(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield b"half"
            raise httpx.ReadError("cut")

    shop = Shop(pays=lambda _: httpx.Response(200, stream=Cut()))
    buy(shop, Treasury(), PaymentUnknown)

    async def stream() -> None:
        async with PayingClient(Treasury(), transport=httpx.MockTransport(shop)) as http:
            with pytest.raises(PaymentUnknown):
                async with http.stream("GET", URL):
                    raise AssertionError("it was handed on before it was whole")

    asyncio.run(stream())


def test_a_cancelled_request_is_asked_again_under_its_key() -> None:
    shop, treasury = Shop(), Treasury()

    async def story() -> None:
        paying_now = asyncio.Event()

        async def answer(request: httpx.Request) -> httpx.Response:
            found = shop(request)
            if shop.payments and not paying_now.is_set():
                paying_now.set()
                await asyncio.Event().wait()
            return found

        async with PayingClient(treasury, transport=httpx.MockTransport(answer)) as http:
            asking = asyncio.create_task(http.get(URL))
            await paying_now.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert (await http.get(URL)).status_code == 200

    asyncio.run(story())
    assert len(set(treasury.keys)) == 1 and len(shop.payments) == 2


def test_requests_at_the_same_time_are_payments_of_their_own() -> None:
    treasury = Treasury()

    async def story() -> None:
        transport = httpx.MockTransport(Shop())
        async with PayingClient(treasury, transport=transport) as http:
            await asyncio.gather(*(http.get(URL) for _ in range(5)))

    asyncio.run(story())
    assert len(set(treasury.keys)) == 5


def test_requests_that_fail_at_the_same_time_are_each_asked_for_again() -> None:
    shop, treasury = Shop(), Treasury()

    async def story() -> None:
        both = asyncio.Event()

        async def answer(request: httpx.Request) -> httpx.Response:
            found = shop(request)
            if len(shop.payments) == 2:
                both.set()
            if found.status_code == 402:
                return found
            # Nobody is answered before both have paid.
            await both.wait()
            return httpx.Response(502) if len(shop.payments) == 2 else found

        async with PayingClient(treasury, transport=httpx.MockTransport(answer)) as http:
            asked = (http.get(URL) for _ in range(2))
            failed = await asyncio.gather(*asked, return_exceptions=True)
            assert [type(one) for one in failed] == [PaymentUnknown] * 2
            for _ in range(2):
                assert (await http.get(URL)).status_code == 200

    asyncio.run(story())
    assert len(shop.payments) == 4 and len(set(treasury.keys)) == 2


def test_an_unpaid_failure_does_not_forget_the_payment() -> None:
    unpaid = iter([ask(), httpx.Response(500), ask()])
    paid_for = iter([httpx.Response(502), httpx.Response(200)])
    shop = Shop(pays=lambda _: next(paid_for), unpaid=lambda: next(unpaid))
    buy(shop, Treasury(), PaymentUnknown, None, None)
    assert len(shop.nonces) == 2 and len(set(shop.nonces)) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_payment_is_not_carried_to_another_host(status: int) -> None:
    moved = httpx.Response(status, headers={"Location": "https://elsewhere.example/"})
    shop = Shop(pays=lambda _: moved)
    (got,) = buy(shop, Treasury(), follow_redirects=True)
    assert got.status_code == status and len(shop.asked) == 2
    assert {request.url.host for request in shop.asked} == {"papers.example"}


@pytest.mark.parametrize(
    ("status", "error", "same"),
    [
        ("denied", PaymentDenied, False),
        ("failed", PaymentFailed, False),
        ("awaiting_approval", PaymentWaiting, True),
    ],
)
def test_without_a_signature_nothing_is_sent(
    status: str, error: type[Exception], same: bool
) -> None:
    shop, treasury = Shop(), Treasury(status)
    buy(shop, treasury, error, error)
    assert shop.payments == []
    # A waiting one is the same payment once people approved it.
    assert (len(set(treasury.keys)) == 1) is same


def test_what_is_no_x402_answer_is_the_servers_own() -> None:
    treasury = Treasury()
    (got,) = buy(Shop(unpaid=lambda: httpx.Response(402, text="pay by post")), treasury)
    assert (got.status_code, paid(got), treasury.keys) == (402, None, [])


def test_a_malformed_answer_is_never_asked_for() -> None:
    treasury = Treasury()
    shop = Shop(unpaid=lambda: ask({"x402Version": 2, "accepts": [{"scheme": 1}]}))
    buy(shop, treasury, InvalidRequest)
    assert treasury.keys == []


def test_a_given_key_and_its_terms_reach_the_treasury() -> None:
    told: list[Mapping[str, Any]] = []

    class Listening(Treasury):
        async def authorise_x402(self, answer: Mapping[str, Any], **terms: Any) -> Said:
            told.append(terms)
            return await super().authorise_x402(answer, **terms)

    async def story() -> None:
        transport = httpx.MockTransport(Shop())
        async with PayingClient(Listening(), transport=transport) as http:
            with paying(idempotency_key="k-1", purpose="a paper", task="t-1") as key:
                await http.get(URL)
            assert key == "k-1"
            await http.get(URL, extensions={"x402": {"idempotency_key": "k-2", "session": "s"}})
            with pytest.raises(InvalidRequest, match="no price"):
                await http.get(URL, extensions={"x402": {"price": "1"}})

    asyncio.run(story())
    assert told == [
        {"idempotency_key": "k-1", "purpose": "a paper", "task": "t-1", "url": URL},
        {"idempotency_key": "k-2", "session": "s", "url": URL},
    ]


def test_a_signature_that_is_not_there_yet_is_asked_for_again() -> None:
    flow = asking.payment(Call("k-1"), ANSWER, URL, seconds=60)
    assert isinstance(next(flow), asking.Ask)
    assert isinstance(flow.send(Said(Purchase(), None)), asking.Pause)
    again = flow.send(None)
    assert isinstance(again, asking.Ask) and again.terms["idempotency_key"] == "k-1"
    with pytest.raises(StopIteration):
        flow.send(Said(Purchase(), {"payload": {}}))


def test_a_signature_that_does_not_come_is_unknown() -> None:
    flow = asking.payment(Call("k-1"), ANSWER, URL, seconds=0)
    next(flow)
    with pytest.raises(PaymentUnknown) as caught:
        flow.send(Said(Purchase(), None))
    assert (caught.value.idempotency_key, caught.value.valid_before) == ("k-1", None)


def test_a_payment_is_remembered_for_longer_than_it_is_valid_from_when_it_was_signed() -> None:
    now = [0.0]
    memory = Memory(lambda: now[0])

    def key(payment: Mapping[str, Any] | None) -> str:
        with memory.call("GET", URL, b"", None) as call:
            call.open, call.authorised = True, Said(Purchase(), payment)
            return call.key

    first = key(None)
    now[0] = 1100.0
    assert key({"payload": {}}) == first
    now[0] = 2299.0
    assert key({"payload": {}}) == first
    now[0] = 2301.0
    assert key({"payload": {}}) != first


def test_a_call_that_broke_off_keeps_the_time_of_its_signature() -> None:
    now = [0.0]
    memory = Memory(lambda: now[0])

    def key(said: Said | None) -> str:
        with memory.call("GET", URL, b"", None) as call:
            call.open, call.authorised = True, said
            return call.key

    first = key(Said(Purchase(), {"payload": {}}))
    now[0] = 1100.0
    assert key(None) == first
    now[0] = 1201.0
    assert key(None) != first
