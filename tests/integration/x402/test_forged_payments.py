"""Payments that a host or a database made up are not signed: people's word alone allows them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any, Final

import pytest

from coordinator.chain.signers.opening import load_signer
from coordinator.domain.errors import ConfigurationError
from coordinator.domain.policy.policy import Policy
from coordinator.domain.usdc import ZERO
from tests.integration.forger.host_forger import HostForger
from tests.integration.forger.stage import THIEF, Stage
from tests.integration.stores import by_default, on_either
from tests.integration.world import World

pytestmark = on_either
UNREADABLE: list[dict[str, Any]] = [
    {"seconds": "x"},
    {"seconds": None},
    {"wallet": 5},
    {"url": []},
]

HOST: Final = "papers.example"


class Forger:
    """A worker that pins approvers, with a wallet for HTTP requests, and a host that lies to it."""

    def __init__(self, make_world: Callable[..., World]) -> None:
        key = "0x" + secrets.token_hex(32)
        self.wallet = load_signer("env:KEY", {"KEY": key}).address
        settings: dict[str, Any] = {"more_secrets": {"X402_KEY": key}}
        self.stage = Stage(make_world, x402_signer="env:X402_KEY", **settings)
        document = json.loads(json.dumps(self.stage.policy().document()))
        document["providers"]["paper-api"] |= {"hosts": [HOST], "price": "0.90"}
        self.stage.people.put_in_force(Policy.from_dict(document), "alice", "bob")
        self.stage.world.round()
        self.host = HostForger(self.stage)

    def pay(self, amount: str = "0.50", **terms: Any) -> str:
        """A payment that nobody asked for; ``terms`` replace what an honest host writes."""
        x402 = {"wallet": self.wallet, "host": HOST, "url": f"https://{HOST}/", "seconds": 60}
        x402 |= {name: terms.pop(name) for name in tuple(x402) if name in terms}
        made = {"settle": "x402", "service": None, "x402": x402} | terms
        # Only the log has its terms; its row is an insert of our own.
        told = made.pop("x402")
        of = self.host.purchase(amount, logged={"x402": told}, **made)
        self.host.edit(
            "INSERT INTO authorisations (purchase_id, wallet, host, url, offer)"
            " VALUES (?, ?, ?, ?, '{}')",
            *(of, told["wallet"], told["host"], told["url"]),
        )
        return of

    def signatures(self) -> list[str]:
        rows = self.stage.world.rows("SELECT subject FROM audit WHERE event = 'x402_signed'")
        return [of for (of,) in rows]


_FORGERIES: Final[list[tuple[dict[str, Any], str]]] = [
    ({"provider": THIEF, "name": None}, "is no provider of the policy"),
    ({"host": "evil.example"}, "is paid for requests to its hosts alone"),
    ({"amount": "0.95"}, "allows at most 0.90 USDC"),
    ({"wallet": THIEF}, "this worker has the key of"),
    ({"agent": "nobody"}, "has no agent nobody"),
    ({"at": -7_200}, ""),
]


def test_what_a_host_made_up_is_signed_within_what_people_signed_alone(
    make_world: Callable[..., World],
) -> None:
    forger = Forger(make_world)
    honest = forger.pay()
    forged = []
    for given, _ in _FORGERIES:
        terms = dict(given)
        if "at" in terms:
            terms["at"] = forger.host.now + terms["at"]
        forged.append(forger.pay(terms.pop("amount", "0.50"), **terms))
    forger.stage.work()
    assert forger.signatures() == [honest]
    for (_, told), of in zip(_FORGERIES, forged, strict=True):
        stranded = forger.stage.world.coordinator.get(of).stranded
        assert told in (stranded.message if stranded else ""), of


def test_one_purchase_is_never_paid_in_both_ways(make_world: Callable[..., World]) -> None:
    forger = Forger(make_world)
    of = forger.pay(settle="after_window")
    forger.stage.work()
    assert forger.signatures() == [] and forger.stage.left() == ZERO
    assert "audit row" in forger.stage.told() and of in forger.stage.told()


@pytest.mark.parametrize("wrong", by_default(UNREADABLE, UNREADABLE[:1]))
def test_what_can_not_be_read_keeps_no_other_payment_back(
    make_world: Callable[..., World], wrong: dict[str, Any]
) -> None:
    forger = Forger(make_world)
    x402 = {"wallet": forger.wallet, "host": HOST, "url": f"https://{HOST}/", "seconds": 60}
    of = forger.host.purchase("0.50", logged={"x402": x402 | wrong}, settle="x402", service=None)
    forger.host.edit(
        "INSERT INTO authorisations (purchase_id, wallet, host, url, offer)"
        " VALUES (?, ?, ?, ?, '{}')",
        *(of, forger.wallet, HOST, x402["url"]),
    )
    honest = forger.pay()
    forger.stage.work()
    assert forger.signatures() == [honest], forger.stage.told()
    assert of in forger.stage.told()


def test_no_host_tells_that_a_payment_was_signed(make_world: Callable[..., World]) -> None:
    forger = Forger(make_world)
    of = forger.pay()
    with pytest.raises(ConfigurationError):
        forger.host.write("x402_signed", of, nonce="0x", usdc=0)


def test_the_worker_s_own_limit_covers_payments(make_world: Callable[..., World]) -> None:
    forger = Forger(make_world)
    forger.stage.world.restart(worker_daily_limit="1.20")
    paid = [forger.pay("0.50") for _ in range(3)]
    forger.stage.work()
    assert forger.signatures() == paid[:2]
    assert "the worker's own limit leaves 0.20 USDC" in forger.stage.told()
