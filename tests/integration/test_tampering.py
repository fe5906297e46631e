"""Whoever writes to the database, and has neither the key nor the id secret, can't have it pay."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from coordinator import Purchase, Usdc
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.errors import LedgerTampered
from coordinator.domain.ports import KillPoint
from coordinator.ledger.proofs.verification import verify
from tests.chaos.test_lane import Killed, dearest, die, spike
from tests.integration.local_chain import LocalChain
from tests.integration.stores import on_either
from tests.integration.world import AGENT, World

pytestmark = on_either

THIEF = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
_ROUNDS = 4


@pytest.fixture(autouse=True)
def _base_fee_as_before(chain: LocalChain) -> Iterator[None]:
    """Taking the chain back does not take its next base fee back."""
    yield
    chain.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(1_000_000))


def rounds(world: World) -> None:
    """Let the worker do whatever it would."""
    for _ in range(_ROUNDS):
        world.round()
        world.chain.mine()


def paused(world: World) -> str:
    """Why everything is paused."""
    (pause,) = (p for p in world.wiring.operations.pauses() if p.scope_kind == "organisation")
    return pause.reason


def check_nothing_left(world: World, *, told: str, before: Usdc) -> None:
    """No USDC moved, spending is paused, and whoever looks is told what was changed."""
    assert world.chain.balance(world.treasury) == before
    assert world.chain.balance(THIEF) == Usdc.from_base_units(0)
    assert "changed outside this program" in paused(world)
    assert ("paused", "critical") in world.rows("SELECT kind, severity FROM notices")
    check_named(world, told)


def check_named(world: World, told: str) -> None:
    """``audit verify`` and ``reconcile`` name what is not what was decided.

    The log keeps escrow keys secret, so that only reconciling, which makes them, compares them.
    """
    if "escrow_key" not in told:
        assert any(told in fault for fault in verify(world.wiring.audit).faults)
    found = world.coordinator.reconcile().discrepancies
    assert any(d.kind == "row_differs" and told in d.detail for d in found)


# Purchases.


def forge_status(world: World, waiting: Purchase) -> str:
    now = world.clock()
    world.edit(
        "UPDATE purchases SET status = 'approved', approved_at = ? WHERE id = ?", now, waiting.id
    )
    return f"purchase {waiting.id}: its status is 'approved'"


def forge_status_and_approval(world: World, waiting: Purchase) -> str:
    world.edit(
        'INSERT INTO approval_decisions (approval_id, approver, decision, at, host, "user")'
        " VALUES (?, 'alice', 'approved', ?, 'h', 'u')",
        waiting.approval_id or "",
        world.clock(),
    )
    return forge_status(world, waiting)


def forge_log(world: World, waiting: Purchase) -> str:
    """A row that tells of the approval, with a hash of another row."""
    world.edit(
        "INSERT INTO audit (seq, at, event, subject, body, hash, host, signature)"
        " SELECT seq + 1, at, 'purchase_approved', ?, body, hash, host, signature FROM audit"
        " WHERE seq = (SELECT max(seq) FROM audit)",
        waiting.id,
    )
    return forge_status(world, waiting)


FORGED_APPROVALS = [forge_status, forge_status_and_approval, forge_log]


@pytest.mark.parametrize("forge", FORGED_APPROVALS)
def test_a_purchase_that_was_set_to_approved_is_not_signed(
    world: World, forge: Callable[[World, Purchase], str]
) -> None:
    world.round()
    waiting, before = world.buy("900.00"), world.chain.balance(world.treasury)

    forge(world, waiting)
    rounds(world)

    assert world.chain.balance(world.treasury) == before
    assert "check it, then unpause" in paused(world)
    assert verify(world.wiring.audit).faults


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("provider", THIEF),
        ("amount", 900_000_000),
        ("service", "else"),
        ("escrow_key", "0x" + "ab" * 32),
        ("settle", "on_delivery"),
        ("agent", "data-agent"),
        ("idempotency_key", "another"),
        ("approved_at", 4_000_000_000),
    ],
)
def test_terms_that_were_edited_are_not_signed(world: World, column: str, value: str | int) -> None:
    world.round()
    asked, before = world.buy("40.00"), world.chain.balance(world.treasury)

    world.edit(f"UPDATE purchases SET {column} = ? WHERE id = ?", value, asked.id)
    rounds(world)

    check_nothing_left(world, told=f"purchase {asked.id}: its {column}", before=before)


def test_terms_that_were_edited_while_they_waited_are_not_approved(world: World) -> None:
    waiting = world.buy("900.00")
    world.edit("UPDATE purchases SET provider = ? WHERE id = ?", THIEF, waiting.id)

    with pytest.raises(LedgerTampered, match=f"purchase {waiting.id}: its provider"):
        world.coordinator.approve(waiting.approval_id or "", approver="alice")

    assert world.status(waiting) == "awaiting_approval"
    assert f"purchase {waiting.id}: its provider" in paused(world)
    check_named(world, f"purchase {waiting.id}: its provider")


@pytest.mark.parametrize(
    "edit",
    ["UPDATE approvals SET required = 1", "UPDATE approvals SET expires_at = expires_at + 1000"],
)
def test_an_approval_that_was_edited_is_not_counted(world: World, edit: str) -> None:
    world.apply(world.policy.model_copy(update={"approvals": two_needed(world)}))
    waiting = world.buy("900.00")
    world.edit(edit)

    with pytest.raises(LedgerTampered, match="its approval is"):
        world.coordinator.approve(waiting.approval_id or "", approver="alice")


def test_a_yes_that_the_log_does_not_tell_does_not_count(world: World) -> None:
    world.apply(world.policy.model_copy(update={"approvals": two_needed(world)}))
    waiting = world.buy("900.00")
    world.edit(
        'INSERT INTO approval_decisions (approval_id, approver, decision, at, host, "user")'
        " VALUES (?, 'bob', 'approved', ?, 'h', 'u')",
        waiting.approval_id or "",
        world.clock(),
    )

    assert world.coordinator.approve(waiting.approval_id or "", approver="alice").done

    assert world.status(waiting) == "awaiting_approval"
    check_named(world, f"purchase {waiting.id}: its approvers' decisions")


def two_needed(world: World):  # type: ignore[no-untyped-def]
    return world.policy.approvals.model_copy(update={"required": 2})


@pytest.mark.parametrize(("column", "value"), [("provider", THIEF), ("amount", 900_000_000)])
def test_terms_that_were_edited_after_they_were_signed_stop_nobody(
    world: World, column: str, value: str | int
) -> None:
    asked = world.buy_and_send("25.00")
    world.edit(f"UPDATE purchases SET {column} = ? WHERE id = ?", value, asked.id)
    rounds(world)

    assert world.status(asked) == "funded"
    assert world.chain.balance(THIEF) == Usdc.from_base_units(0)
    check_named(world, f"purchase {asked.id}: its {column}")
    assert "changed outside this program" in paused(world)


# Steps: what was allocated, and what is signed.


def test_a_step_that_nobody_allocated_is_dropped(world: World) -> None:
    world.fund("1.00")
    before = world.chain.balance(world.treasury)
    world.edit(
        "INSERT INTO steps (chain_id, signer, nonce, kind, status, recipient, data, gas_limit,"
        " reference, created_at, mac) SELECT chain_id, signer, nonce + 1, 'withdraw', 'allocated',"
        " ?, '0x', gas_limit, 'wdr_x', created_at, mac FROM steps"
        " WHERE nonce = (SELECT max(nonce) FROM steps)",
        THIEF,
    )
    rounds(world)

    assert world.rows("SELECT id FROM steps WHERE recipient = ?", THIEF) == []
    assert world.chain.balance(world.treasury) == before
    assert "is not the one that was allocated" in paused(world)


def test_a_call_that_was_edited_before_it_was_signed_is_filled(world: World) -> None:
    world.fund("1.00")
    asked, before = world.buy("25.00"), world.chain.balance(world.treasury)
    world.at(KillPoint.STEPS_ALLOCATED, die)
    with pytest.raises(Killed):
        world.round()
    world.edit("UPDATE steps SET recipient = ? WHERE status = 'allocated'", THIEF)
    world.restart()
    rounds(world)

    assert world.chain.balance(world.treasury) == before
    assert "is not the one that was allocated" in paused(world)
    world.unpause()
    world.go()
    assert world.status(asked) == "funded"


def test_a_call_that_was_edited_is_not_signed_at_a_higher_fee(world: World) -> None:
    world.fund("1.00")
    world.buy_and_send("25.00")
    edited = world.in_flight()[0]
    world.edit("UPDATE steps SET recipient = ? WHERE id = ?", THIEF, edited.id)
    spike(world, 3 * dearest(world))
    world.round()

    ((attempts,),) = world.rows("SELECT count(*) FROM attempts WHERE step_id = ?", edited.id)
    assert attempts == 1
    assert any("its call is not" in fault for fault in verify(world.wiring.audit).faults)


# What is paid early, and bonds.


def test_a_settle_that_nobody_ordered_is_not_signed(world: World) -> None:
    bought = world.fund("25.00")
    world.chain.deliver(bought.escrow_id)
    world.go()
    assert world.status(bought) == "delivered"

    world.edit("UPDATE purchases SET settle_wanted = 1 WHERE id = ?", bought.id)
    rounds(world)

    assert world.status(bought) == "delivered"
    assert "settles it early" in paused(world)


def test_a_window_that_was_edited_does_not_end(world: World) -> None:
    bought = world.fund("25.00")
    world.chain.deliver(bought.escrow_id)
    world.go()

    world.edit("UPDATE escrows SET window_ends = 1 WHERE purchase_id = ?", bought.id)
    rounds(world)

    assert world.status(bought) == "delivered"
    assert "settles it early" in paused(world)


def test_a_bond_that_nobody_held_is_not_paid(world: World) -> None:
    bought = world.fund("25.00")
    world.chain.deliver(bought.escrow_id)
    world.go()
    before = world.chain.balance(world.treasury)

    world.edit(
        "INSERT INTO holds (kind, purchase_id, amount, status, posted, placed_at, charges)"
        " VALUES ('bond', ?, 1250000, 'held', 0, ?, '[]')",
        bought.id,
        world.clock(),
    )
    rounds(world)

    check_nothing_left(world, told=f"purchase {bought.id}: its bond hold", before=before)


# Policies, overlays and pauses.


def test_a_policy_that_was_edited_decides_nothing(world: World) -> None:
    world.buy("1.00")
    ((text,),) = world.rows("SELECT document FROM policies ORDER BY version DESC LIMIT 1")
    document = json.loads(text)
    document["agents"][AGENT]["approval_threshold"] = "1000000"
    world.edit("UPDATE policies SET document = ?", json.dumps(document, sort_keys=True))
    world.restart()

    with pytest.raises(LedgerTampered, match="the document of policy"):
        world.buy("950.00")
    with pytest.raises(LedgerTampered):
        world.round()
    assert "the document of policy" in paused(world)
    assert any("its document" in fault for fault in verify(world.wiring.audit).faults)


def older_in_force_again(world: World) -> None:
    """The lax policy, as it once was, on top."""
    world.edit(
        "INSERT INTO policies (hash, author, reason, activated_at, document)"
        " SELECT hash, author, reason, activated_at, document FROM policies"
        " WHERE version = (SELECT min(version) FROM policies)"
    )


def newest_gone(world: World) -> None:
    world.edit("DELETE FROM policies WHERE version = (SELECT max(version) FROM policies)")


@pytest.mark.parametrize("forge", [older_in_force_again, newest_gone])
def test_a_policy_that_was_put_back_decides_nothing(
    world: World, forge: Callable[[World], None]
) -> None:
    world.buy("1.00")
    agents = dict(world.policy.agents)
    agents[AGENT] = agents[AGENT].model_copy(update={"approval_threshold": Usdc("1")})
    strict = world.policy.model_copy(update={"agents": agents})
    world.apply(strict)
    forge(world)
    world.restart()

    with pytest.raises(LedgerTampered, match="is not the one last put in force"):
        world.buy("40.00")


def test_a_policy_cut_out_of_the_log_too_is_not_acted_upon(world: World) -> None:
    world.go()
    lax = world.policy
    agents = dict(lax.agents)
    agents[AGENT] = agents[AGENT].model_copy(update={"approval_threshold": Usdc("1")})
    world.apply(lax.model_copy(update={"agents": agents}))
    world.fund("1.00")
    newest_gone(world)
    world.edit(
        "DELETE FROM audit WHERE seq ="
        " (SELECT max(seq) FROM audit WHERE event = 'policy_activated')"
    )
    world.policy = lax
    world.coordinator.close()
    world.coordinator = world.open()
    world.buy("40.00")
    before = world.chain.balance(world.treasury)

    with pytest.raises(LedgerTampered, match="is not the one last put in force"):
        world.round()

    assert world.chain.balance(world.treasury) == before


def test_a_grant_that_nobody_made_raises_no_limit(world: World) -> None:
    world.buy("1.00")
    world.edit(
        'INSERT INTO overlays (id, kind, scope_kind, scope_id, "window", amount, starts_at,'
        " author, reason) VALUES ('ovl_x', 'grant', 'agent', ?, 'total', 900000000, 0, 'a', 'x')",
        AGENT,
    )

    with pytest.raises(LedgerTampered, match="overlay ovl_x"):
        world.buy("1.00")

    assert any("overlay ovl_x" in fault for fault in verify(world.wiring.audit).faults)


@pytest.mark.parametrize(
    "forge",
    [
        """UPDATE openings SET limits = '{"limits": {"total": 900000000}, "categories": {}}'""",
        "UPDATE openings SET status = 'open'",
        "UPDATE openings SET agent = NULL",
        "DELETE FROM openings",
    ],
)
def test_a_session_that_was_edited_admits_nothing(world: World, forge: str) -> None:
    world.coordinator.open_session("s", AGENT, {"total_limit": "5"})
    if "status" in forge:
        world.coordinator.session("s").close()
    assert world.buy("10.00", session="s").denied
    world.edit(forge)

    with pytest.raises(LedgerTampered, match="session s: "):
        world.buy("10.00", session="s")
    # Nobody else is held up by it.
    assert not world.buy("10.00").denied


def test_a_session_that_was_edited_while_people_decide_approves_nothing(world: World) -> None:
    world.coordinator.open_session("s", AGENT, {"total_limit": "500"})
    asked = world.buy("75.00", session="s")
    assert asked.needs_approval
    world.edit('UPDATE openings SET limits = \'{"limits": {}, "categories": {}}\'')

    with pytest.raises(LedgerTampered, match="session s: "):
        world.coordinator.approve(asked.approval_id or "", approver="alice")
    assert world.status(asked) == "awaiting_approval"
    assert "session s: " in paused(world)


def test_a_session_whose_opening_is_cut_out_of_the_log_is_told(world: World) -> None:
    world.coordinator.open_session("s", AGENT, {"total_limit": "5"})
    # The row of the closing is proved with the one before it.
    assert world.buy("10.00", session="s").denied
    world.coordinator.session("s").close()
    world.edit("DELETE FROM audit WHERE event = 'session_opened'")
    assert any("session s: " in fault for fault in verify(world.wiring.audit).faults)


def test_an_agent_stays_disabled_when_the_row_that_tells_so_is_gone(world: World) -> None:
    assert world.coordinator.disable_agent(AGENT, by="olga", reason="a doubt")
    assert world.buy("1.00").denied
    world.edit("DELETE FROM overlays")

    with pytest.raises(LedgerTampered, match="and it is gone"):
        world.buy("1.00")
    world.restart()
    with pytest.raises(LedgerTampered, match="and it is gone"):
        world.buy("1.00")


def test_a_pause_that_was_deleted_still_stops_what_is_signed(world: World) -> None:
    world.round()
    asked, before = world.buy("25.00"), world.chain.balance(world.treasury)
    assert world.coordinator.pause("stop", by="olga")
    world.edit("DELETE FROM pauses")
    rounds(world)

    assert world.chain.balance(world.treasury) == before
    assert world.status(asked) == "approved"
    assert "nobody unpaused it" in paused(world)
    # No nonce was given away either, which would cost gas to fill.
    assert world.rows("SELECT kind FROM steps") == []


# Rows cut out of the log below the head that the worker has seen.


def waiting_for_the_kernel(world: World) -> Purchase:
    """A purchase that is approved, and seen by the worker, and can't be signed yet."""
    world.round()
    world.chain.kernel_admin("pause")
    world.chain.mine()
    asked = world.buy("40.00")
    world.round()
    assert (world.status(asked), world.rows("SELECT id FROM steps")) == ("approved", [])
    return asked


def let_the_kernel_go_on(world: World) -> None:
    world.chain.kernel_admin("unpause")
    world.chain.mine()


def test_a_purchase_whose_cancelling_is_cut_out_is_not_paid(world: World) -> None:
    asked = waiting_for_the_kernel(world)
    before = world.chain.balance(world.treasury)
    assert world.coordinator.cancel(asked.id, by=AGENT).done
    assert world.buy("1001.00").denied
    world.round()

    world.edit("DELETE FROM audit WHERE event = 'purchase_cancelled'")
    world.edit(
        "UPDATE purchases SET status = 'approved', cancel_wanted = 0, reason_code = NULL,"
        " reason_message = NULL, updated_at = created_at WHERE id = ?",
        asked.id,
    )
    world.edit("UPDATE holds SET status = 'held', posted = 0, ended_at = NULL")
    world.edit("UPDATE counters SET held = 40000000, spent = 0")
    assert world.status(asked) == "approved"
    let_the_kernel_go_on(world)
    rounds(world)

    assert world.chain.balance(world.treasury) == before
    assert f"rows of the audit log about {asked.id} are gone" in paused(world)


def test_a_pause_that_was_cut_out_with_its_row_still_stops(world: World) -> None:
    asked = waiting_for_the_kernel(world)
    before = world.chain.balance(world.treasury)
    assert world.coordinator.pause("stop", by="olga", provider="paper-api")
    assert world.buy("1001.00").denied
    world.round()
    world.edit("DELETE FROM audit WHERE event = 'paused'")
    world.edit("DELETE FROM pauses")
    let_the_kernel_go_on(world)
    rounds(world)

    assert world.chain.balance(world.treasury) == before
    assert world.status(asked) == "approved"
    assert "nobody unpaused it" in paused(world)


def test_what_is_open_is_known_after_the_worker_restarts(world: World) -> None:
    asked = waiting_for_the_kernel(world)
    world.restart()
    world.round()
    let_the_kernel_go_on(world)
    world.go()
    assert world.status(asked) == "funded"


def test_a_purchase_that_a_reorganisation_reopens_is_funded_again(world: World) -> None:
    """What ended and goes on is nobody's forgery."""
    world.fund("1.00")
    snapshot = world.chain.rpc.call("evm_snapshot")
    asked = world.buy_and_send("25.00")
    world.chain.set_balance(world.treasury, Usdc("0"))
    world.go()
    assert world.status(asked) == "cancelled"
    world.chain.rpc.call("evm_revert", snapshot)
    world.chain.mine(3)
    rounds(world)
    assert world.status(asked) == "funded"
    assert "audit log" not in "".join(p.reason for p in world.wiring.operations.pauses())


# Counters and holds.


def test_counters_and_holds_are_proved_by_recount(world: World) -> None:
    bought = world.buy("40.00")
    world.go()

    world.edit("UPDATE counters SET held = 0, spent = 0")
    world.edit("UPDATE holds SET charges = '[]', amount = 0")

    check_named(world, f"purchase {bought.id}: its purchase hold is of 0")


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        ("UPDATE counters SET held = 0, spent = 0", "it says 0 held"),
        ("UPDATE counters SET held = 0, spent = spent + held", "it says 0 held"),
        ("UPDATE holds SET charges = '[]'", "it counts in no total"),
    ],
)
def test_what_counts_nowhere_is_named(world: World, edit: str, told: str) -> None:
    world.buy("40.00")
    world.go()
    world.edit(edit)
    check_named(world, told)


# A database that was put back.


def test_a_withdrawal_is_not_paid_again_by_a_database_put_back_with_its_log(
    world: World,
) -> None:
    world.go()
    order = world.wiring.treasury.withdraw(
        to=world.chain.payee, amount="10", approver="alice", reason="payday"
    )
    backup = world.store.copy(world.database, "backup")
    world.go()
    paid = world.chain.balance(world.chain.payee)
    nonce = world.chain.nonce(world.treasury)

    world.database = backup
    # Whoever acted when it was made does so no more.
    world.edit("UPDATE leases SET expires_at_ms = 0")
    world.restart(backup)
    # A step that hides that the chain is ahead of the database.
    world.edit(
        "INSERT INTO steps (chain_id, signer, nonce, kind, status, recipient, data, gas_limit,"
        " created_at, mac) VALUES (?, ?, ?, 'fill', 'mined', ?, '0x', 1, 0, '')",
        world.wiring.deployment.chain_id,
        world.treasury,
        nonce - 1,
        world.treasury,
    )
    rounds(world)

    assert world.chain.balance(world.chain.payee) == paid
    assert "the audit log is not the one that the worker has seen" in paused(world)
    world.unpause()
    rounds(world)
    assert world.chain.balance(world.chain.payee) == paid
    ended = next(o for o in world.wiring.operations.orders() if o.id == order.id)
    assert ended.status == "failed"


# Escrows, explanations.


def swap_escrows(world: World, one: Purchase, other: Purchase) -> None:
    """Each purchase's row of its escrow has the id of the other's."""
    ids = (one.escrow_id or "", other.escrow_id or "")
    for after, before in (("x", ids[0]), (ids[0], ids[1]), (ids[1], "x")):
        world.edit("UPDATE escrows SET escrow_id = ? WHERE escrow_id = ?", after, before)


def two_delivered(world: World) -> tuple[Purchase, Purchase]:
    mine, theirs = world.fund("25.00"), world.fund("40.00")
    for purchase in (mine, theirs):
        world.chain.deliver(purchase.escrow_id)
    world.go()
    return mine, theirs


def test_an_early_settle_pays_the_escrow_of_its_own_purchase(world: World) -> None:
    mine, theirs = two_delivered(world)
    swap_escrows(world, mine, theirs)
    assert world.coordinator.settle(mine.id, approver="alice").done
    rounds(world)

    assert world.chain.state(theirs.escrow_id) is EscrowState.DELIVERED
    assert "escrow_key" in paused(world)


def test_a_bond_disputes_the_escrow_of_its_own_purchase(world: World) -> None:
    mine, theirs = two_delivered(world)
    swap_escrows(world, mine, theirs)
    asked = world.wiring.treasury.dispute(
        mine.id, approver="alice", reason="empty", bond=Usdc("1.25")
    )
    assert asked.done
    rounds(world)

    assert world.chain.state(theirs.escrow_id) is EscrowState.DELIVERED
    assert "escrow_key" in paused(world)


def test_a_link_funds_the_escrow_of_its_own_provider(world: World) -> None:
    """Of two escrows that wait to be linked again, each purchase's row has the other's id."""
    mine, theirs = world.buy("25.00"), world.buy("25.00", provider="other-api")
    world.round()
    # Both links miss their escrows, and are made again in the next round.
    world.chain.set_create_nonce(world.treasury, 1)
    world.chain.mine()
    world.coordinator.wiring.follower.follow(world.coordinator.wiring.chain.observe())
    swap_escrows(world, world.get(mine), world.get(theirs))
    rounds(world)

    ids = [world.get(p).escrow_id for p in (mine, theirs)]
    assert EscrowState.FUNDED not in [world.chain.state(escrow_id) for escrow_id in ids]
    assert "was made from" in paused(world)


def test_a_cancelling_that_was_taken_back_by_hand_pays_nothing(world: World) -> None:
    asked, before = world.buy("25.00"), world.chain.balance(world.treasury)
    world.round()
    # Its link misses the escrow, and would be made again in the next round.
    world.chain.set_create_nonce(world.treasury, 7)
    world.chain.mine()
    seen, books = world.coordinator.wiring.chain.observe(), world.coordinator.wiring.books
    world.coordinator.wiring.follower.follow(seen)
    world.executor._sender.store_receipts(seen, books.cursor(), None)
    assert world.coordinator.cancel(asked.id, by=AGENT).done
    assert world.status(asked) == "created"

    world.edit("UPDATE purchases SET cancel_wanted = 0 WHERE id = ?", asked.id)
    told = f"purchase {asked.id}: its cancel_wanted is 0"
    assert any(told in fault for fault in verify(world.wiring.audit).faults)
    rounds(world)
    assert world.chain.balance(world.treasury) == before
    assert told in paused(world)
    assert world.status(asked) == "cancelled"


@pytest.mark.parametrize("early", [False, True])
def test_a_settle_that_a_crash_left_unsigned_is_signed_and_alarms_nobody(
    world: World, early: bool
) -> None:
    bought = world.fund("25.00")
    world.chain.deliver(bought.escrow_id)
    world.go()
    if early:
        assert world.coordinator.settle(bought.id, approver="alice").done
    else:
        world.pass_time_until(world.chain.window_ends(bought.escrow_id) + 1)
    world.at(KillPoint.STEPS_ALLOCATED, die)
    with pytest.raises(Killed):
        world.round()
    world.restart()
    world.go()

    assert world.status(bought) == "settled"
    assert world.wiring.operations.pauses() == []


def test_an_explanation_that_nobody_gave_hides_nothing(world: World) -> None:
    world.fund("1.00")
    world.send_usdc_away("12.50")
    world.chain.mine()
    (found,) = world.coordinator.reconcile().discrepancies
    world.edit(
        'INSERT INTO explanations (discrepancy_id, "by", reason, at) VALUES (?, ?, ?, 1)',
        found.id,
        "alice",
        "a gift",
    )

    assert [d.id for d in world.coordinator.reconcile().discrepancies] == [found.id]


def test_a_comparison_that_was_edited_hides_nothing(world: World) -> None:
    purchase = world.fund("25.00")
    world.chain.mine(3)
    world.go()
    world.edit("UPDATE journal SET amount = 1 WHERE escrow_key = ?", purchase.escrow_key)
    world.edit(
        "INSERT INTO rescans (from_block, reached, events, found) VALUES (1, ?, 9,"
        """ '{"kept": [], "more": 0, "mac": "x"}')""",
        world.chain.height,
    )
    found = world.coordinator.reconcile(from_block=1).discrepancies
    assert "entry_differs" in {d.kind for d in found}
