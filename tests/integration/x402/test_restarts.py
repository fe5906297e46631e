"""Kills between a payment's hold, its signature, the server's answer and its settlement."""

from __future__ import annotations

import pytest

from coordinator.domain.ports import KillPoint
from coordinator.domain.usdc import Usdc
from coordinator_client.x402 import PaymentUnknown
from tests.integration.local_chain import LocalChain
from tests.integration.stores import on_either
from tests.integration.x402 import buyers, facilitator
from tests.integration.x402.bench import PRICE, Bench

pytestmark = on_either


class Killed(BaseException):
    """No handler of the program sees it."""


def _die() -> None:
    raise Killed


@pytest.mark.parametrize(
    ("point", "signed"),
    [
        (KillPoint.REQUEST_COMMITTED, 0),
        (KillPoint.AUTHORISATIONS_SIGNED, 0),
        (KillPoint.AUTHORISATIONS_STORED, 1),
    ],
)
def test_a_kill_before_the_answer_leaves_one_payment(
    point: KillPoint, signed: int, bench: Bench, chain: LocalChain
) -> None:
    world = bench.payer.world
    world.at(point, _die)
    with (
        buyers.opened(buyers.REQUESTS, bench.agent) as buyer,
        pytest.raises((Killed, Exception)) as caught,
    ):
        buyer.get(bench.url, "k-1")
    assert caught.type is Killed
    assert (bench.payer.signatures(), bench.settling.nonces) == (signed, [])
    assert world.usage() == (PRICE, Usdc("0"))
    world.restart()

    with buyers.opened(buyers.REQUESTS, bench.agent) as buyer:
        assert buyer.get(bench.url, "k-1").status_code == 200

    assert bench.payer.signatures() == 1
    assert bench.books.payments() == [(chain.provider, PRICE)]


@pytest.mark.parametrize("fault", [facilitator.BAD_GATEWAY, facilitator.PENDING])
def test_a_restart_between_answer_and_settlement_leaves_one_payment(
    fault: str, bench: Bench, chain: LocalChain
) -> None:
    bench.settling.fault = fault
    for _ in range(2):
        with buyers.opened(buyers.REQUESTS, bench.agent) as buyer, pytest.raises(PaymentUnknown):
            buyer.get(bench.url, "k-1")
        bench.payer.world.restart()
    bench.settling.submit_late()
    bench.settling.fault = facilitator.HONEST

    with buyers.opened(buyers.REQUESTS, bench.agent) as buyer:
        assert buyer.get(bench.url, "k-1").status_code == 200

    assert bench.payer.signatures() == 1
    assert bench.books.used_nonces() == bench.settling.nonces[:1]
    assert bench.books.payments() == [(chain.provider, PRICE)]
