"""What is signed in one transaction is proved one by one, though it is read together."""

from __future__ import annotations

from coordinator.domain.chain.gas import Fees
from coordinator.domain.chain.steps import Receipt, Step
from coordinator.domain.errors import LedgerTampered
from coordinator.domain.usdc import Usdc
from tests.integration.stores import on_both
from tests.integration.world import World

pytestmark = on_both

_FEES = Fees(10**9, 10**6)


def test_a_purchase_with_a_forged_row_of_the_log_hides_no_other(world: World) -> None:
    world.round()
    one, forged, two = (world.buy("25.00") for _ in range(3))
    world.edit("UPDATE audit SET at = at + 1 WHERE subject = ?", forged.id)

    wiring, ids = world.wiring, [one.id, forged.id, two.id, "pur_unknown"]
    with wiring.database.read() as connection:
        found = wiring.evidence.purchases(connection, ids)

    assert [type(found[of]) for of in (forged.id, "pur_unknown")] == [LedgerTampered] * 2
    amounts = [told.amount for told in found.values() if not isinstance(told, LedgerTampered)]
    assert amounts == [25_000_000] * 2


def test_an_order_with_two_steps_is_signed_once(world: World) -> None:
    world.round()
    order = world.wiring.treasury.withdraw(
        to=world.chain.payee, amount="10", approver="alice", reason="payday"
    )
    wiring, lease, now = world.wiring, world.executor._lease, world.clock()
    assert lease is not None
    call = wiring.chain.withdraw(
        order_id=order.id, recipient=world.chain.payee, amount=Usdc("10.00")
    )
    floor = world.chain.nonce(world.treasury)
    composed = wiring.chain.composed
    steps = wiring.steps.allocate(
        lease, [call, call], composed=composed, nonce_floor=floor, now=now, seen=None
    )
    assert len(steps) == 2

    signed = [(s, wiring.chain.sign(s.call, nonce=s.nonce, fees=_FEES)) for s in steps]
    kept = wiring.steps.store_attempts(
        lease, signed, composed=composed, fill=wiring.chain.fill(), now=now, seen=None
    )

    assert kept == [signed[0][1]]
    assert [step.kind.value for step in world.in_flight()] == ["withdraw", "fill"]


def test_a_receipt_that_another_executor_stored_is_told_once(world: World) -> None:
    world.round()
    asked = world.buy("25.00")
    world.round()
    steps, now = world.steps_of(asked), world.clock()
    proofs = [(step, _receipt(step), None) for step in steps]

    world.wiring.steps.store_receipts(proofs[:1], now=now)
    world.wiring.steps.store_receipts(proofs, now=now)

    events = "SELECT event FROM audit WHERE subject = ? AND event LIKE '%_mined' ORDER BY seq"
    assert world.rows(events, asked.id) == [("create_mined",), ("link_mined",)]
    assert [step.status.value for step in world.steps_of(asked)] == ["mined", "mined"]


def _receipt(step: Step) -> Receipt:
    return Receipt(
        tx_hash=step.attempts[-1].hash,
        block_number=1,
        block_hash="0x" + "ab" * 32,
        succeeded=True,
        gas_used=1,
        effective_gas_price=1,
        l1_fee_wei=0,
    )
