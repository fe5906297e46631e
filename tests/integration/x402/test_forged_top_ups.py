"""Rows that anybody wrote send no USDC but to the worker's own wallet, within its window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from coordinator.chain.abi import token_abi
from coordinator.domain.ports import KillPoint
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.ledger.tx.operations import insert_order
from tests.integration.stores import by_default, on_either
from tests.integration.world import World
from tests.integration.x402.filling import Filled

pytestmark = on_either
THIEF: Final = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
PAYS_THE_THIEF: Final = token_abi().call("transfer", THIEF, Usdc("8").base_units)


class Killed(BaseException):
    """The process ends here."""


def die() -> None:
    raise Killed


@pytest.fixture
def filled(make_world: Callable[..., World]) -> Filled:
    made = Filled(make_world)
    made.world.go()
    return made


def order(filled: Filled, recipient: str, usdc: str, *, name: str = "top_forged") -> None:
    """What the code of a certified host can write: it is authentic."""
    world = filled.world
    with world.wiring.transactions.write() as tx:
        insert_order(
            tx,
            "top_up",
            order_id=name,
            recipient=recipient,
            amount=Usdc(usdc),
            by="mallory",
            reason="a forgery",
            now=world.clock(),
        )


EDITS: Final = {
    "recipient": f"UPDATE orders SET recipient = '{THIEF}'",
    "amount": "UPDATE orders SET amount = 20000000",
    "kind": "UPDATE orders SET kind = 'withdraw'",
    "a second one": (
        'INSERT INTO orders (id, kind, recipient, amount, "by", reason, status, created_at)'
        " SELECT 'top_second', kind, recipient, amount, \"by\", reason, status, created_at"
        " FROM orders"
    ),
}


@pytest.mark.parametrize("name", by_default(EDITS, ["recipient", "a second one"]))
def test_an_edited_order_is_not_signed(filled: Filled, name: str) -> None:
    world, edit = filled.world, EDITS[name]
    order(filled, filled.wallet, "8.00", name="top_honest")
    filled.fill()
    world.edit(edit)
    world.go()
    assert (filled.balance(), world.chain.balance(THIEF)) == (Usdc("2"), ZERO)
    assert {o.status for o in world.wiring.operations.orders()} == {"failed"}
    (pause,) = world.wiring.operations.pauses()
    assert "changed outside this program" in pause.reason


@pytest.mark.parametrize(
    ("recipient", "usdc", "why"),
    [
        (THIEF, "8.00", "this worker's wallet is"),
        (None, "20.01", "the policy's top_up_daily_limit leaves 20.00 USDC"),
    ],
)
def test_an_order_of_a_host_goes_to_the_wallet_alone_and_within_the_window(
    filled: Filled, recipient: str | None, usdc: str, why: str
) -> None:
    world = filled.world
    filled.fill(top_up_below="1")
    order(filled, recipient or filled.wallet, usdc)
    world.go()
    (told,) = filled.orders()
    assert told.status == "failed" and why in (told.message or "")
    assert (filled.balance(), world.chain.balance(THIEF)) == (Usdc("2"), ZERO)


def test_two_orders_of_a_host_are_not_both_signed(filled: Filled) -> None:
    world = filled.world
    filled.fill(top_up_below="1")
    order(filled, filled.wallet, "8.00", name="top_a")
    order(filled, filled.wallet, "8.00", name="top_b")
    world.go()
    done, failed = sorted(filled.orders(), key=lambda o: o.status)
    assert (done.status, failed.status) == ("done", "failed")
    assert "another top-up is on its way" in (failed.message or "")
    order(filled, filled.wallet, "12.01", name="top_c")
    world.go()
    assert (filled.amounts(), filled.balance()) == (["8.00"], Usdc("10"))


def test_what_was_signed_counts_though_its_rows_are_gone(filled: Filled) -> None:
    world = filled.world
    filled.fill(top_up_below="1")
    order(filled, filled.wallet, "20.00", name="top_a")
    world.go()
    for table in ("attempts", "orders"):
        world.edit(f"DELETE FROM {table}")
    order(filled, filled.wallet, "1.00", name="top_b")
    world.go()
    (told,) = filled.orders()
    assert "top_up_daily_limit leaves 0.00 USDC" in (told.message or "")
    assert filled.balance() == Usdc("22")


def test_no_policy_no_top_up(filled: Filled) -> None:
    order(filled, filled.wallet, "1.00")
    filled.world.go()
    (told,) = filled.orders()
    assert told.message is not None and "no top_up_daily_limit" in told.message


def test_a_step_that_was_edited_before_it_was_signed_is_filled(filled: Filled) -> None:
    world = filled.world
    filled.fill()
    world.at(
        KillPoint.STEPS_ALLOCATED,
        lambda: world.edit("UPDATE steps SET data = ? WHERE kind = 'top_up'", PAYS_THE_THIEF),
    )
    with pytest.raises(Killed):
        world.at(KillPoint.ATTEMPTS_SIGNED, die)
        world.go()
    world.restart()
    world.go()
    assert (filled.balance(), world.chain.balance(THIEF)) == (Usdc("2"), ZERO)
    (pause,) = world.wiring.operations.pauses()
    assert "is not the one that was allocated" in pause.reason
