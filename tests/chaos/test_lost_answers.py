"""The node takes a transaction and its answer is lost: the same bytes again, no other nonce."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from coordinator import Usdc
from coordinator.chain.abi import token_abi
from coordinator.chain.actp.abi import kernel_abi
from coordinator.chain.safe.roles import EXECUTE
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import ZERO
from tests.chaos import fault_proxy as faults
from tests.chaos.evidence import check_lane, fundings, lane
from tests.chaos.fault_proxy import Fault, FaultProxy
from tests.integration.stores import on_either
from tests.integration.world import World

pytestmark = on_either

LOST = [
    faults.CUT_AFTER,
    faults.CUT_BEFORE,
    faults.BAD_GATEWAY,
    faults.HTML_PAGE,
    faults.NULL_RESULT,
    faults.NULL_BODY,
    faults.SILENCE,
    faults.TOO_MANY,
]
_TO = "0x" + "11" * 20


def selector(data: str) -> str:
    return data[2:10]


@dataclass(frozen=True)
class Moment:
    """A step whose answer is lost: what brings it about, what it sends, how the purchase ends."""

    step: str
    prepare: Callable[[World], Purchase | None]
    sends: str
    ends: str

    def __str__(self) -> str:
        return self.step


def _first(world: World) -> Purchase:
    return world.buy()


def _after_another(world: World) -> Purchase:
    world.fund("1.00")
    return world.buy()


def _to_cancel(world: World) -> Purchase:
    world.fund("1.00")
    asked = world.buy_and_send()
    world.chain.set_allowance(world.treasury, ZERO)
    world.chain.mine()
    return asked


def _to_settle(world: World) -> Purchase:
    return world.to_settle("25.00")


def _to_reclaim(world: World) -> Purchase:
    purchase = world.fund()
    assert purchase.deadline is not None
    world.pass_time_until(purchase.deadline)
    return world.get(purchase)


def _to_dispute(world: World) -> Purchase:
    purchase = world.fund()
    world.chain.deliver(purchase.escrow_id)
    world.go()
    assert world.coordinator.dispute(purchase.id, approver="alice", reason="a test").done
    return purchase


def _to_withdraw(world: World) -> None:
    world.round()
    world.wiring.treasury.withdraw(
        to=world.chain.payee, amount="10", approver="alice", reason="a test"
    )


def _to_top_up(world: World) -> None:
    world.secrets["X402_KEY"] = "0x" + "5c" * 32
    world.restart(x402_signer="env:X402_KEY")
    document = world.policy.document() | {"x402": {"top_up_daily_limit": "10"}}
    world.apply(Policy.from_dict(document))
    world.round()
    world.chain.mine(2)
    world.round()
    world.wiring.treasury.top_up("10", by="olga", reason="a test")


_TRANSITION = selector(kernel_abi().call("transitionState", bytes(32), 0, b""))
MOMENTS = [
    Moment("approve", _first, selector(token_abi().call("approve", _TO, 0)), "funded"),
    Moment(
        "create",
        _after_another,
        selector(kernel_abi().call("createTransaction", _TO, _TO, 0, 0, 0, bytes(32), 0, 0)),
        "funded",
    ),
    Moment(
        "link",
        _after_another,
        selector(kernel_abi().call("linkEscrow", bytes(32), _TO, bytes(32))),
        "funded",
    ),
    Moment("cancel", _to_cancel, _TRANSITION, "cancelled"),
    Moment("settle", _to_settle, _TRANSITION, "settled"),
    Moment("reclaim", _to_reclaim, _TRANSITION, "cancelled"),
    Moment("dispute", _to_dispute, _TRANSITION, "disputed"),
    Moment("withdraw", _to_withdraw, selector(token_abi().call("transfer", _TO, 0)), "done"),
    Moment("top_up", _to_top_up, selector(token_abi().call("transfer", _TO, 0)), "done"),
]


@pytest.mark.each_choice
@pytest.mark.parametrize("restarted", [False, True], ids=["", "restart"])
@pytest.mark.parametrize("lost", LOST, ids=str)
@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_a_lost_answer_costs_no_nonce_and_the_stored_bytes_are_mined(
    world: World,
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    moment: Moment,
    lost: Fault,
    restarted: bool,
) -> None:
    loses_an_answer(world, proxy, monkeypatch, moment, lost, restarted)


THROUGH_ROLE = [
    Moment("batch", _after_another, EXECUTE.selector.hex(), "funded"),
    Moment("settle", _to_settle, EXECUTE.selector.hex(), "settled"),
    Moment("reclaim", _to_reclaim, EXECUTE.selector.hex(), "cancelled"),
    Moment("dispute", _to_dispute, EXECUTE.selector.hex(), "disputed"),
]


@pytest.mark.each_choice
@pytest.mark.parametrize("restarted", [False, True], ids=["", "restart"])
@pytest.mark.parametrize("lost", LOST, ids=str)
@pytest.mark.parametrize("moment", THROUGH_ROLE, ids=str)
def test_a_lost_answer_to_a_call_through_the_role_costs_no_nonce(
    make_safe_world: Callable[..., World],
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    moment: Moment,
    lost: Fault,
    restarted: bool,
) -> None:
    world = make_safe_world(rpc_url=proxy.url)
    loses_an_answer(world, proxy, monkeypatch, moment, lost, restarted)


def loses_an_answer(
    world: World,
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    moment: Moment,
    lost: Fault,
    restarted: bool,
) -> None:
    chain = world.chain
    purchase = moment.prepare(world)
    if lost is faults.SILENCE:
        monkeypatch.setattr(world.wiring.rpc, "_timeout", 0.5)
    before = lane(world)
    with proxy.faulty(lost, faults.sends(moment.sends)):
        world.round()
        stored = lane(world)
        assert moment.step in [kind for kind, *_ in stored[len(before) :]]
        # Unknown is not failed: nothing is given up, and nothing is signed anew.
        world.round()
        assert lane(world) == stored
    if restarted:
        world.restart()
    world.go()

    assert lane(world)[: len(stored)] == stored
    check_lane(world)
    if purchase is None:
        assert [order.status for order in world.wiring.operations.orders()] == ["done"]
        assert chain.balance(world.wiring.wallet or chain.payee) == Usdc("10")
    else:
        assert world.status(purchase) == moment.ends
        check_escrow(world, purchase)
    next_one = world.fund("2.00")
    assert fundings(world, next_one) == 1
    world.check_books()


def check_escrow(world: World, asked: Purchase) -> None:
    """At most one escrow under the purchase's key was ever funded, and it is the one told."""
    purchase = world.get(asked)
    state = world.chain.state(purchase.escrow_id)
    wanted = {
        "funded": (EscrowState.FUNDED, 1, "25.00"),
        "settled": (EscrowState.SETTLED, 1, "0.00"),
        "disputed": (EscrowState.DISPUTED, 1, "25.00"),
        "cancelled": (EscrowState.CANCELLED, None, "0.00"),
    }
    expected, count, left = wanted[purchase.status.value]
    assert state is expected
    assert fundings(world, purchase) in ((count,) if count is not None else (0, 1))
    assert world.chain.remaining(purchase.escrow_key) == Usdc(left)
