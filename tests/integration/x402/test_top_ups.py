"""The worker fills the wallet's float from the treasury, within the policy's window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator import doctor
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import KillPoint
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.ledger.tx.pausing import Pause
from tests.integration.signers_of_approvers import People, credential, signing
from tests.integration.stores import by_default, on_either
from tests.integration.world import World
from tests.integration.x402.filling import DAY, TERMS, Filled

pytestmark = on_either
# Of the kill points those around what is stored and sent.
DEFAULT = frozenset(
    {KillPoint.BEFORE_ALLOCATE, KillPoint.ATTEMPTS_STORED, KillPoint.RECEIPTS_STORED}
)
POINTS = (
    KillPoint.BEFORE_ALLOCATE,
    KillPoint.STEPS_ALLOCATED,
    KillPoint.ATTEMPTS_SIGNED,
    KillPoint.ATTEMPTS_STORED,
    KillPoint.ATTEMPTS_SENT,
    KillPoint.EVENTS_STORED,
    KillPoint.RECEIPTS_READ,
    KillPoint.RECEIPTS_STORED,
)


class Killed(BaseException):
    """The process ends here."""


def die() -> None:
    raise Killed


@pytest.fixture
def filled(make_world: Callable[..., World]) -> Filled:
    return Filled(make_world)


def test_a_float_below_its_mark_is_filled_once_and_is_nobodys_spending(filled: Filled) -> None:
    world = filled.world
    world.go()
    assert filled.orders() == []
    filled.fill()
    world.go()
    (order,) = filled.orders()
    assert (order.status, order.amount, order.by) == ("done", Usdc("8"), "worker")
    assert (filled.balance(), filled.amounts()) == (Usdc("10"), ["8.00"])
    world.go()
    assert len(filled.orders()) == 1
    assert world.usage() == (ZERO, ZERO)
    report = world.coordinator.report().as_dict()
    assert (report["paid"], report["withdrawals"], report["by_agent"]) == ("0.00", "0.00", {})
    world.check_books()


def test_what_is_held_for_payments_is_not_in_the_float(filled: Filled) -> None:
    filled.fill(top_up_below="1", top_up_to="3")
    filled.world.go()
    assert filled.orders() == []
    filled.ask("0.60", key="a")
    filled.ask("0.60", key="b")
    filled.world.go()
    # 0.80 are free, and both may still be used.
    assert (filled.amounts(), filled.balance()) == (["2.20"], Usdc("4.20"))


def test_a_day_after_what_was_signed_there_is_room_again(filled: Filled) -> None:
    world = filled.world
    filled.fill(top_up_daily_limit="11")
    world.go()
    filled.fill(top_up_below="15", top_up_to="20", top_up_daily_limit="11")
    world.go()
    assert filled.amounts() == ["8.00", "3.00"]
    world.pass_time(DAY - 120)
    world.go()
    assert filled.amounts() == ["8.00", "3.00"]
    assert "the policy's top_up_daily_limit leaves 0.00 USDC" in filled.warned()[-1]
    world.restart()
    world.pass_time(120)
    world.go()
    assert filled.amounts() == ["8.00", "3.00", "7.00"]
    world.check_books()


def test_a_treasury_short_of_funds_sends_what_nothing_is_held_for(filled: Filled) -> None:
    world = filled.world
    waiting = world.buy("997.00")
    filled.fill()
    world.go()
    assert filled.amounts() == ["3.00"]
    filled.fill(top_up_below="6")
    world.go()
    assert filled.amounts() == ["3.00"]
    assert "the treasury has 0.00 USDC beside what it holds" in filled.warned()[-1]
    assert world.coordinator.cancel(waiting.id, by="alice").done
    world.go()
    assert filled.amounts() == ["3.00", "5.00"]
    assert not world.wiring.notices.is_active("x402_float_low")


@pytest.mark.parametrize("scope", by_default(["x402", "organisation"], ["x402"]))
def test_nothing_is_sent_while_it_is_paused(filled: Filled, scope: str) -> None:
    world = filled.world
    pause = Pause(scope, "", "look", by="olga", at=world.clock())
    assert world.wiring.operations.pause(pause)
    filled.fill()
    world.go()
    assert filled.orders() == []
    assert f"{scope} is paused" in filled.warned()[-1]
    # Whoever writes to the database can't lift it.
    world.edit("DELETE FROM pauses")
    world.go()
    assert filled.amounts() == []


def test_a_pause_between_order_and_signature_ends_the_order(filled: Filled) -> None:
    world = filled.world
    filled.fill()
    pause = Pause("x402", "", "look", by="olga", at=world.clock())
    world.at(KillPoint.BEFORE_ALLOCATE, lambda: world.wiring.operations.pause(pause))
    world.go()
    (order,) = filled.orders()
    assert (order.status, filled.balance()) == ("failed", Usdc("2"))
    assert "x402 is paused" in (order.message or "")


def test_what_the_token_refuses_is_not_tried_in_every_round(filled: Filled) -> None:
    world = filled.world
    world.chain.token_admin("blacklist", filled.wallet)
    world.chain.mine()
    filled.fill()
    for _ in range(3):
        world.round()
    assert [order.status for order in filled.orders()] == ["failed"]
    assert "the last one failed" in filled.warned()[-1]
    world.chain.token_admin("unBlacklist", filled.wallet)
    world.chain.mine()
    world.pass_time(600)
    world.go()
    assert filled.balance() == Usdc("10")


def test_a_wallet_that_the_journal_does_not_follow_yet_is_sent_nothing(
    make_world: Callable[..., World],
) -> None:
    world = make_world()
    world.round()
    world.secrets["X402_KEY"] = "0x" + "5c" * 32
    world.restart(x402_signer="env:X402_KEY")
    document = world.policy.document() | {"x402": dict(TERMS)}
    world.apply(Policy.from_dict(document))
    world.round()
    assert world.wiring.operations.orders() == []
    # People's order waits, too.
    world.wiring.treasury.top_up("1", by="olga", reason="a test")
    world.round()
    assert world.in_flight() == []
    world.chain.mine(2)
    world.go()
    assert [order.status for order in world.wiring.operations.orders()] == ["done", "done"]
    assert "outflow" not in {kind for kind, _ in world.moves()}
    world.check_books()


@pytest.mark.parametrize("point", by_default(POINTS, DEFAULT))
def test_a_kill_leaves_one_top_up(filled: Filled, point: KillPoint) -> None:
    world = filled.world
    filled.fill()
    world.at(point, die)
    with pytest.raises(Killed):
        world.go()
    world.restart()
    world.go()
    assert (filled.amounts(), filled.balance()) == (["8.00"], Usdc("10"))
    assert [order.status for order in filled.orders()] == ["done"]
    world.check_books()


def test_a_lost_block_takes_it_back_and_nothing_is_sent_twice(filled: Filled) -> None:
    world = filled.world
    filled.fill()
    world.go()
    world.chain.rpc.call("anvil_reorg", 1, [])
    world.round()
    assert [order.status for order in filled.orders()] == ["approved"]
    assert filled.balance() == Usdc("2")
    world.go()
    assert (filled.amounts(), filled.balance()) == (["8.00"], Usdc("10"))
    assert [order.status for order in filled.orders()] == ["done"]


def test_a_database_put_back_sends_nothing_again(filled: Filled) -> None:
    world = filled.world
    filled.fill()
    world.at(KillPoint.BEFORE_ALLOCATE, die)
    with pytest.raises(Killed):
        world.round()
    backup = world.store.copy(world.database, "backup")
    world.restart()
    world.go()
    # The wallet has room for another one.
    world.chain.set_balance(filled.wallet, Usdc("2"))
    world.database = backup
    world.edit("UPDATE leases SET expires_at_ms = 0")
    world.restart(backup)
    world.round()
    world.unpause()
    world.go()
    (order,) = filled.orders()
    assert (order.status, filled.balance()) == ("failed", Usdc("2"))


def test_people_order_within_the_same_window(filled: Filled) -> None:
    world, coordinator = filled.world, filled.world.coordinator
    with pytest.raises(InvalidRequest, match=r"no \[x402\] top_up_daily_limit"):
        world.wiring.treasury.top_up("1", by="olga", reason="a test")
    filled.put(top_up_daily_limit="20")
    order = world.wiring.treasury.top_up("12", by="olga", reason="a test")
    with pytest.raises(InvalidRequest, match="another top-up is on its way"):
        world.wiring.treasury.top_up("1", by="olga", reason="a test")
    world.go()
    assert (filled.amounts(), filled.balance()) == (["12.00"], Usdc("14"))
    assert [(o.id, o.status, o.by) for o in filled.orders()] == [(order.id, "done", "olga")]
    with pytest.raises(InvalidRequest, match=r"top_up_daily_limit leaves 8\.00 USDC"):
        world.wiring.treasury.top_up("8.01", by="olga", reason="a test")
    coordinator.pause("look", by="olga")
    with pytest.raises(InvalidRequest, match="organisation is paused"):
        world.wiring.treasury.top_up("8", by="olga", reason="a test")
    assert world.usage() == (ZERO, ZERO)
    world.check_books()


def test_people_see_the_wallet(filled: Filled) -> None:
    filled.fill()
    filled.ask("0.60")
    filled.world.go()
    found = filled.world.coordinator.x402_wallet()
    assert found is not None
    assert found["as_of_block"] > 0
    assert found | {"as_of_block": 0} == {
        "address": filled.wallet,
        "usdc": "10.60",
        "as_of_block": 0,
        "booked": "10.60",
        "held": "0.60",
        "free": "10.00",
        "top_ups": "8.60",
        "top_up_below": "5.00",
        "top_up_to": "10.00",
        "top_up_daily_limit": "20.00",
        "top_up_left": "11.40",
    }
    assert filled.world.coordinator.report().as_dict()["wallet"] == found


def test_the_doctor_tells_what_fills_the_wallet(filled: Filled, tmp_path: Path) -> None:
    world, file = filled.world, tmp_path / "policy.toml"
    terms = "".join(f'{name} = "{usdc}"\n' for name, usdc in TERMS.items())
    file.write_text(f'[organisation]\ntotal_limit = "1"\n[x402]\n{terms}')
    settings = {"x402_signer": "env:X402_KEY", "policy_file": str(file)}
    found = doctor.run(world.environment(**settings) | world.secrets)
    (check,) = (one for one in found if one.name == "x402 wallet")
    assert check.status == "warn"
    assert check.found == (
        f"{filled.wallet} has 2.00 USDC, 0.00 held for payments, filled below 5.00 up to 10.00,"
        " at most 20.00 in 24 hours, ETH is not needed"
    )


def test_a_worker_that_pins_approvers_believes_their_table_alone(
    make_world: Callable[..., World],
) -> None:
    filled = Filled(make_world, worker_approvers=str(credential("alice")))
    world = filled.world
    filled.fill()
    world.go()
    assert (filled.orders(), filled.balance()) == ([], Usdc("2"))
    assert "no policy is signed" in filled.warned()[-1]
    approvals = world.policy.approvals.model_copy(
        update={"signatures": "required", "approvers": signing("alice")}
    )
    world.apply(world.policy.model_copy(update={"approvals": approvals}))
    People(world).put_in_force(world.coordinator.wiring.policies.current(), "alice")
    world.go()
    assert filled.balance() == Usdc("10")
