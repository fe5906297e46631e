"""No number of one endpoint, however absurd, stops the ledger or costs more."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import pytest

from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.usdc import Usdc
from tests.integration.bad_endpoint import Ask, BadEndpoint, Call, Tell
from tests.integration.world import World

NUMBERS = {
    "eth_getBlockByNumber": ("number", "timestamp", "baseFeePerGas"),
    "eth_getTransactionReceipt": ("blockNumber", "gasUsed", "effectiveGasPrice"),
    "eth_getLogs": ("blockNumber", "logIndex"),
    "eth_getBalance": (None,),
    "eth_maxPriorityFeePerGas": (None,),
    "eth_call": (None,),
}
ABSURD = {
    "2**63": hex(2**63),
    "2**64": hex(2**64),
    "2**256 - 1": hex(2**256 - 1),
    "negative": "-0x1",
    "no hex": "0xzz",
    "a number": 5,
    "missing": None,
}


def wrong(method: str, field: str | None, value: Any) -> Tell:
    """An endpoint that tells ``value`` in the field, or as the answer, wherever it is asked."""

    def changed(answer: Any) -> Any:
        if isinstance(answer, list):
            return [changed(one) for one in answer]
        if field is None:
            # What contracts answer are words of 32 bytes.
            is_hex = isinstance(value, str) and value.startswith("0x") and method == "eth_call"
            return "0x" + value[2:].rjust(64, "0") if is_hex else value
        return {**answer, field: value} if isinstance(answer, dict) else answer

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        answers = ask(url, calls)
        return [
            changed(answer) if asked == method and answer is not None else answer
            for (asked, _), answer in zip(calls, answers, strict=True)
        ]

    return tell


@pytest.mark.each_choice
@pytest.mark.parametrize("value", ABSURD.values(), ids=list(ABSURD))
@pytest.mark.parametrize(
    ("method", "field"), [(method, field) for method, fields in NUMBERS.items() for field in fields]
)
def test_no_number_of_one_endpoint_stops_the_ledger_or_costs_more(
    world: World, monkeypatch: pytest.MonkeyPatch, method: str, field: str | None, value: Any
) -> None:
    """Whatever it tells for two rounds, with something in flight and something to sign."""
    sent = world.buy_and_send("5.00")
    waiting = world.buy("7.00")
    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, wrong(method, field, value))
    for _ in range(2):
        with contextlib.suppress(ChainUnavailable):
            world.round()
        world.chain.mine()
    endpoint.heal()
    world.go()

    ends = {world.status(purchase) for purchase in (sent, waiting)}
    assert ends <= {"funded", "failed", "approved", "created", "cancelled"}
    assert world.status(sent) == "funded"
    tips = world.rows("SELECT max_priority_fee_per_gas FROM attempts")
    assert max(int(tip) for (tip,) in tips) <= 2 * 10**9
    paid = [u for p in (sent, waiting) if world.status(p) == "funded" for u in [p.amount]]
    assert world.chain.balance(world.treasury) == sum(
        (Usdc("0") - one for one in paid), start=Usdc("1000")
    )
    assert [d for d in world.discrepancies() if d[0] != "state_behind"] == []


def test_a_base_fee_that_nobody_can_pay_does_not_jam_the_lane(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent before is lost: bytes that the account can't pay would be sent for ever."""
    world.fund("1.00")
    purchase = world.buy_and_send("7.00")
    tell = wrong("eth_getBlockByNumber", "baseFeePerGas", hex(10**16))
    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, tell)
    for _ in range(3):
        world.round()
    endpoint.heal()
    world.chain.rpc.call("anvil_dropAllTransactions")
    monkeypatch.setattr("coordinator.executor.sender._RESEND_SECONDS", 0)
    world.go()
    assert world.status(purchase) == "funded"
    world.check_books()
