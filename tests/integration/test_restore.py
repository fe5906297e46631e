"""A database of yesterday is put back: what happened since is learnt from the chain, once."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from coordinator import InvalidRequest, Purchase, Usdc
from coordinator.domain.audit import Head
from coordinator.domain.errors import ConfigurationError, LedgerUnavailable
from coordinator.domain.usdc import ZERO
from coordinator.ledger.proofs.verification import verify
from tests.integration.stores import file_of, on_postgresql, url_of
from tests.integration.world import World

PAYEE = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


def put_back(world: World, copy: Path) -> None:
    """Stop, put the copy in the database's place, start: as docs/operations.md says."""
    world.coordinator.close()
    file = file_of(world.database)
    for beside in ("-wal", "-shm"):
        file.with_name(file.name + beside).unlink(missing_ok=True)
    shutil.copy(copy, file)
    # Whoever acted when it was made does so no more.
    world.edit("UPDATE leases SET expires_at_ms = 0")
    world.restart()


def withdraw(world: World, amount: str = "10") -> str:
    """The id of an approved withdrawal that is not sent yet."""
    order = world.wiring.treasury.withdraw(
        to=PAYEE, amount=amount, approver="alice", reason="payday"
    )
    return order.id


def order_status(world: World, order_id: str) -> str:
    return next(o.status for o in world.wiring.operations.orders() if o.id == order_id)


def approve(world: World, purchase: Purchase) -> None:
    assert purchase.approval_id is not None
    assert world.coordinator.approve(purchase.approval_id, approver="alice").done


def paused_because(world: World) -> str:
    pauses = world.wiring.operations.pauses()
    return next((p.reason for p in pauses if p.scope_kind == "organisation"), "")


def explain_what_left(world: World) -> None:
    """Somebody has compared what left with what was ordered and asked for since the copy."""
    for item in world.coordinator.reconcile().discrepancies:
        assert item.kind in ("unexplained_outflow", "unknown_escrow")
        world.wiring.operations.explain(item.id, by="alice", reason="payday", now=world.clock())


# The copy.


def test_a_copy_is_whole_private_and_tells_the_audit_head(world: World, tmp_path: Path) -> None:
    world.fund()
    copy = tmp_path / "copy.db"

    made = world.coordinator.backup(copy)

    assert made.ok
    assert made.head == world.wiring.audit.head()
    assert made.as_dict()["audit_head"] == str(made.head)
    assert (made.path, made.size_bytes) == (copy, copy.stat().st_size)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir() if "copy" in p.name] == ["copy.db"]
    opened = world.open(url_of(copy))
    assert [p.status for p in opened.purchases()] == ["funded"]
    assert verify(opened.wiring.audit, made.head).ok


def test_no_file_is_ever_replaced_by_a_copy(world: World, tmp_path: Path) -> None:
    world.fund()
    there = tmp_path / "there.db"
    there.write_text("something else")
    with pytest.raises(InvalidRequest, match="exists already"):
        world.coordinator.backup(there)
    dangling = tmp_path / "dangling.db"
    dangling.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InvalidRequest, match="exists already"):
        world.coordinator.backup(dangling)
    with pytest.raises(InvalidRequest, match="can't be written"):
        world.coordinator.backup(tmp_path / "no folder" / "copy.db")
    assert there.read_text() == "something else"
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".*.part"))


def test_a_database_without_a_first_use_is_not_copied(world: World, tmp_path: Path) -> None:
    fresh = world.open(world.store.url("fresh"))
    with pytest.raises(InvalidRequest, match="nothing to back up"):
        fresh.backup(tmp_path / "copy.db")


def test_a_damaged_copy_is_not_kept(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fund()
    database = world.wiring.database
    whole = database.copy_to

    def damaging(path: Path) -> None:
        whole(path)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE steps SET purchase_id = 'pur_gone' WHERE id = 2")

    monkeypatch.setattr(database, "copy_to", damaging)
    with pytest.raises(LedgerUnavailable, match="damaged"):
        world.coordinator.backup(tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_copy_of_an_edited_audit_log_is_kept_and_says_so(world: World, tmp_path: Path) -> None:
    world.fund()
    world.edit("UPDATE audit SET subject = 'pur_other' WHERE seq = 2")
    made = world.coordinator.backup(tmp_path / "copy.db")
    assert not made.ok
    assert "row 2" in made.faults[0]
    assert (tmp_path / "copy.db").exists()


@on_postgresql
def test_other_databases_have_their_own_tools(world: World, tmp_path: Path) -> None:
    world.fund()
    with pytest.raises(ConfigurationError, match="pg_dump"):
        world.coordinator.backup(tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_copies_made_while_purchases_are_asked_for_are_consistent(
    world: World, tmp_path: Path
) -> None:
    stop, faults = threading.Event(), []

    def ask() -> None:
        try:
            while not stop.is_set():
                world.buy("1.00")
        except Exception as fault:
            faults.append(fault)

    world.buy("1.00")
    writer = threading.Thread(target=ask)
    writer.start()
    try:
        heads = [world.coordinator.backup(tmp_path / f"{n}.db").head for n in range(5)]
    finally:
        stop.set()
        writer.join()
    assert faults == []
    assert all(a.count < b.count for a, b in pairwise(heads))
    for number, head in enumerate(heads):
        assert_consistent(world, tmp_path / f"{number}.db", head)


def assert_consistent(world: World, copy: Path, head: Head) -> None:
    opened = world.open(url_of(copy))
    assert verify(opened.wiring.audit, head).ok
    held = world.rows("SELECT sum(amount) FROM holds", database=copy)
    total = "SELECT held FROM counters WHERE scope_kind = 'organisation' AND window = 'total'"
    assert world.rows(total, database=copy) == held


# The restore.


def yesterday(world: World, copy: Path) -> dict[str, Purchase]:
    """The database as it is copied: purchases at every point at which it may be."""
    bought = {
        "funded": world.fund("20.00", idempotency_key="funded"),
        "delivered": world.fund("21.00", idempotency_key="delivered"),
        "waiting": world.buy("60.00", idempotency_key="waiting"),
        "rejected": world.buy("61.00", idempotency_key="rejected"),
        "still waiting": world.buy("62.00", idempotency_key="still waiting"),
        "approved": world.buy("22.00", idempotency_key="approved"),
    }
    world.chain.deliver(bought["delivered"].escrow_id)
    withdraw(world)
    world.coordinator.backup(copy)
    return bought


def today(world: World, bought: dict[str, Purchase]) -> dict[str, Purchase]:
    """What happens after the copy was made."""
    approve(world, bought["waiting"])
    assert bought["rejected"].approval_id is not None
    world.coordinator.reject(bought["rejected"].approval_id, approver="bob", reason="too dear")
    new = {
        "new": world.buy("23.00", idempotency_key="new", agent="data-agent"),
        "new settled": world.buy("24.00", idempotency_key="new settled"),
        "new denied": world.buy("1001.00", idempotency_key="new denied"),
    }
    world.go()
    world.coordinator.settle(bought["delivered"].id, approver="alice")
    settled = world.get(new["new settled"])
    world.chain.deliver(settled.escrow_id)
    world.go()
    assert world.coordinator.settle(settled.id, approver="alice").done
    world.go()
    new["new waiting"] = world.buy("63.00", idempotency_key="new waiting")
    return new


def test_a_database_of_yesterday_catches_up_and_nothing_is_paid_twice(
    world: World, tmp_path: Path
) -> None:
    chain, copy = world.chain, tmp_path / "yesterday.db"
    bought = yesterday(world, copy)
    (order,) = world.wiring.operations.orders()
    new = today(world, bought)
    assert order_status(world, order.id) == "done"
    nonce, balance = chain.nonce(world.treasury), chain.balance(world.treasury)
    escrows = {p.escrow_key: world.get(p).escrow_id for p in [*bought.values(), *new.values()]}

    put_back(world, copy)
    assert order_status(world, order.id) == "approved"
    world.round()

    assert "not in this database" in paused_because(world)
    assert order_status(world, order.id) == "failed"
    world.go()
    wanted = {
        "funded": "funded",
        "delivered": "settled",
        "waiting": "funded",
        "rejected": "awaiting_approval",
        "still waiting": "awaiting_approval",
        "approved": "funded",
    }
    assert {name: world.status(p) for name, p in bought.items()} == wanted
    unattributed = [p for p in world.coordinator.purchases() if p.agent is None]
    assert sorted(str(p.amount) for p in unattributed) == ["23.00", "24.00"]
    # 20 + 60 + 22 + 23 funded, 61 + 62 waiting; 21 + 24 settled.
    assert world.usage() == (Usdc("248"), Usdc("45"))
    denied = world.buy("1.00")
    assert denied.denied and denied.reason and denied.reason.code == "paused"

    again = world.buy("23.00", idempotency_key="new", agent="data-agent")
    settled = world.buy("24.00", idempotency_key="new settled")
    assert (again.status, again.escrow_id) == ("funded", escrows[new["new"].escrow_key])
    assert settled.status == "settled"
    assert world.usage("agent", "data-agent") == (Usdc("23"), ZERO)
    assert world.buy("60.00", idempotency_key="waiting").id == bought["waiting"].id
    world.go()
    assert (chain.nonce(world.treasury), chain.balance(world.treasury)) == (nonce, balance)

    assert not world.coordinator.unpause("it was me", by="research-agent")
    world.unpause()
    explain_what_left(world)
    assert world.fund("5.00", idempotency_key="after").ok
    assert chain.balance(world.treasury) == balance - Usdc("5")
    world.check_books()


def test_what_people_decided_since_is_decided_again_and_paid_once(
    world: World, tmp_path: Path
) -> None:
    copy = tmp_path / "yesterday.db"
    bought = yesterday(world, copy)
    today(world, bought)
    put_back(world, copy)
    # An approver comes before the first round: the purchase is on the chain already.
    approve(world, bought["waiting"])
    assert world.status(bought["waiting"]) == "approved"
    world.go()
    assert world.status(bought["waiting"]) == "funded"
    world.unpause()
    approve(world, bought["still waiting"])
    world.go()
    assert world.status(bought["still waiting"]) == "funded"
    explain_what_left(world)
    world.check_books()


def test_what_expired_by_the_clock_follows_the_chain_all_the_same(
    world: World, tmp_path: Path
) -> None:
    copy = tmp_path / "yesterday.db"
    world.fund("1.00")
    waiting = world.buy("60.00", idempotency_key="waiting")
    world.coordinator.backup(copy)
    approve(world, waiting)
    world.go()
    world.pass_time(23 * 3600)
    put_back(world, copy)
    world.pass_time(3601)
    assert world.buy("1001.00").denied
    assert world.status(waiting) == "expired"
    world.go()
    assert world.get(waiting).escrow_id is not None
    assert world.status(waiting) in ("funded", "cancelled")
    assert paused_because(world) != ""
    world.check_books()


def lose_bytes(world: World, **terms: Any) -> Purchase:
    """A purchase whose create and link are signed and were never seen by a node."""
    purchase = world.buy_and_send(**terms)
    world.hold_back(lambda step: True)
    return purchase


def test_signed_bytes_whose_nonce_others_used_since_are_not_paid_for_again(
    world: World, tmp_path: Path
) -> None:
    chain, copy = world.chain, tmp_path / "yesterday.db"
    world.fund("1.00")
    signed = lose_bytes(world, amount="20.00", idempotency_key="signed")
    world.coordinator.backup(copy)
    # Whoever went on gave the two nonces to something else.
    world.send_usdc_away("1.00")
    world.send_usdc_away("2.00")
    chain.mine()
    balance = chain.balance(world.treasury)

    put_back(world, copy)
    for _ in range(8):
        world.round()
        chain.mine()

    assert "treasury's key" in paused_because(world)
    assert world.status(signed) == "approved"
    assert chain.balance(world.treasury) == balance
    world.unpause()
    world.go()
    assert world.status(signed) == "funded"
    assert chain.balance(world.treasury) == balance - Usdc("20")
    explain_what_left(world)
    world.check_books()


def test_signed_bytes_that_were_sent_since_are_found_mined(world: World, tmp_path: Path) -> None:
    chain, copy = world.chain, tmp_path / "yesterday.db"
    world.fund("1.00")
    signed = lose_bytes(world, amount="20.00")
    order = withdraw(world)
    world.coordinator.backup(copy)
    world.go()
    assert (world.status(signed), order_status(world, order)) == ("funded", "done")
    nonce, balance = chain.nonce(world.treasury), chain.balance(world.treasury)
    put_back(world, copy)
    world.go()
    assert (world.status(signed), order_status(world, order)) == ("funded", "failed")
    assert (chain.nonce(world.treasury), chain.balance(world.treasury)) == (nonce, balance)
    explain_what_left(world)
    world.check_books()


@pytest.mark.parametrize("looked", [True, False])
def test_a_copy_from_before_the_first_step_sends_no_order_again(
    world: World, tmp_path: Path, looked: bool
) -> None:
    chain, copy = world.chain, tmp_path / "first.db"
    if chain.time < world.clock():
        # The chain of the tests was taken back in time; a real one tells the time.
        chain.rpc.call("evm_setNextBlockTimestamp", world.clock())
        chain.mine()
    if looked:
        world.round()
    order = withdraw(world)
    approved = world.buy("20.00", idempotency_key="approved")
    world.coordinator.backup(copy)
    unknown = world.buy("21.00", idempotency_key="unknown")
    world.go()
    assert order_status(world, order) == "done"
    escrow_id = world.get(unknown).escrow_id
    nonce, balance = chain.nonce(world.treasury), chain.balance(world.treasury)

    put_back(world, copy)
    world.round()

    why = "not in this database" if looked else "unknown to this database"
    assert why in paused_because(world)
    world.unpause()
    world.go()
    assert (world.status(approved), order_status(world, order)) == ("funded", "failed")
    assert world.buy("21.00", idempotency_key="unknown").escrow_id == escrow_id
    world.go()
    assert (chain.nonce(world.treasury), chain.balance(world.treasury)) == (nonce, balance)
    explain_what_left(world)
    again = withdraw(world, "11")
    world.go()
    assert order_status(world, again) == "done"
    world.check_books()


def test_a_second_restore_to_an_older_point_catches_up_again(world: World, tmp_path: Path) -> None:
    chain = world.chain
    world.fund("1.00", idempotency_key="a")
    world.coordinator.backup(tmp_path / "1.db")
    world.fund("2.00", idempotency_key="b")
    world.coordinator.backup(tmp_path / "2.db")
    world.fund("3.00", idempotency_key="c")
    keys = [("1.00", "a"), ("2.00", "b"), ("3.00", "c")]
    for number in (2, 1, 1):
        put_back(world, tmp_path / f"{number}.db")
        world.go()
        assert "not in this database" in paused_because(world)
        nonce = chain.nonce(world.treasury)
        bought = [world.buy(amount, idempotency_key=key) for amount, key in keys]
        world.go()
        assert [world.status(p) for p in bought] == ["funded"] * len(keys)
        assert chain.nonce(world.treasury) == nonce
        world.unpause()
        keys.append(("4.00", f"after {number} {len(keys)}"))
        world.fund(keys[-1][0], idempotency_key=keys[-1][1])
    assert world.usage() == world.usage("agent", "research-agent") == (Usdc("18"), ZERO)
    world.check_books()


def test_a_key_that_was_used_before_the_database_began_is_no_alarm(
    make_world: Callable[..., World],
) -> None:
    world = make_world()
    world.send_usdc_away("1.00")
    world.chain.mine()
    world.round()
    assert paused_because(world) == ""
    order = withdraw(world)
    world.go()
    assert order_status(world, order) == "done"
