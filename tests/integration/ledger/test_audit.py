"""Whatever is changed behind the program's back, in the log or in the journal, is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from coordinator import Coordinator, Status
from coordinator.ledger.audit.log import AuditEntry, AuditLog, Head
from coordinator.ledger.proofs.verification import verify
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import HOUR, Clock, ask, contents, edit, rows
from tests.integration.stores import Store, is_postgresql, on_both, on_either

pytestmark = on_both


def faults(coordinator: Coordinator, head: Head | None = None) -> tuple[str, ...]:
    return verify(coordinator.wiring.audit, head).faults


def test_an_intact_log_has_no_faults_and_ends_at_its_head(
    lived: Coordinator, database: str
) -> None:
    head = lived.wiring.audit.head()

    found = verify(lived.wiring.audit, head)

    assert found.ok
    assert found.faults == ()
    assert found.head == head
    assert head.count == rows(database, "SELECT count(*) FROM audit")[0][0]
    assert Head.parse(str(head)) == head


def test_an_older_head_still_stands_in_a_log_that_grew(lived: Coordinator) -> None:
    older = lived.wiring.audit.head()
    ask(lived.agent("ada"))

    assert faults(lived, older) == ()


@pytest.mark.parametrize(
    "change",
    [
        "at = at + 1",
        "event = 'purchase_approved_by'",
        "subject = 'pur_00000000000000000000'",
        """body = replace(body, '10000000', '20000000')""",
        "hash = replace(hash, substr(hash, 1, 1), 'z')",
    ],
)
def test_an_edited_row_is_found(lived: Coordinator, database: str, change: str) -> None:
    where = "seq = (SELECT min(seq) FROM audit WHERE event = 'purchase_approved')"
    (edited,) = rows(database, f"SELECT seq FROM audit WHERE {where}")[0]

    assert edit(database, f"UPDATE audit SET {change} WHERE {where}") == 1

    assert any(fault.startswith(f"row {edited} ") for fault in faults(lived))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("body", "not JSON"),
        ("body", "[]"),
        ("hash", "é" * 64),
        ("subject", ""),
    ],
)
@pytest.mark.parametrize("event", ["journal_written", "purchase_approved"])
def test_a_row_edited_to_nonsense_is_a_fault_and_not_a_crash(
    lived: Coordinator, database: str, event: str, column: str, value: object
) -> None:
    where = "seq = (SELECT min(seq) FROM audit WHERE event = ?)"
    assert edit(database, f"UPDATE audit SET {column} = ? WHERE {where}", value, event) == 1

    assert faults(lived)


def test_a_row_that_poses_as_a_journal_entry_is_found(lived: Coordinator, database: str) -> None:
    edit(database, "UPDATE audit SET event = 'journal_written' WHERE event = 'purchase_funded'")

    assert faults(lived)


@pytest.mark.parametrize("which", ["min(seq)", "max(seq) - 1", "max(seq) / 2"])
def test_a_deleted_row_is_found(lived: Coordinator, database: str, which: str) -> None:
    (seq,) = rows(database, f"SELECT {which} FROM audit")[0]

    assert edit(database, "DELETE FROM audit WHERE seq = ?", seq) == 1

    assert f"rows {seq} to {seq} are missing" in faults(lived)


def test_a_deleted_row_is_found_though_the_later_ones_were_numbered_anew(
    lived: Coordinator, database: str
) -> None:
    edit(database, "DELETE FROM audit WHERE seq = 4")
    edit(database, "UPDATE audit SET seq = -seq WHERE seq > 4")
    edit(database, "UPDATE audit SET seq = -seq - 1 WHERE seq < 0")

    assert faults(lived)


def test_two_rows_that_changed_places_are_found(lived: Coordinator, database: str) -> None:
    for before, after in ((3, -3), (4, 3), (-3, 4)):
        assert edit(database, "UPDATE audit SET seq = ? WHERE seq = ?", after, before) == 1

    found = faults(lived)

    assert any(fault.startswith("row 3 ") for fault in found)
    assert any(fault.startswith("row 4 ") for fault in found)


def test_an_inserted_row_is_found(lived: Coordinator, database: str) -> None:
    edit(
        database,
        """INSERT INTO audit SELECT seq + 1, at, 'purchase_approved', subject, body, hash,
           host, signature FROM audit ORDER BY seq DESC LIMIT 1""",
    )

    assert faults(lived)


def test_a_cut_off_end_is_found_against_a_head_noted_before(
    lived: Coordinator, database: str
) -> None:
    with lived.wiring.transactions.write() as tx:
        tx.record(0, "looked_at", "audit", by="olga")
    head = lived.wiring.audit.head()
    assert edit(database, "DELETE FROM audit WHERE seq = ?", head.count) == 1

    assert faults(lived) == ()
    assert faults(lived, head) == (
        f"the log ends at row {head.count - 1}, before the head {head.count} given",
    )


def test_an_end_that_was_cut_off_and_grew_again_is_found_against_the_head(
    lived: Coordinator, database: str
) -> None:
    with lived.wiring.transactions.write() as tx:
        tx.record(0, "looked_at", "audit", by="olga")
    head = lived.wiring.audit.head()
    edit(database, "DELETE FROM audit WHERE seq = ?", head.count)
    ask(lived.agent("bert"))

    assert lived.wiring.audit.head().count == head.count
    assert faults(lived, head) == (f"row {head.count} is not the one of the head given",)


def test_an_emptied_log_is_found(lived: Coordinator, database: str) -> None:
    head = lived.wiring.audit.head()
    edit(database, "DELETE FROM audit")

    assert faults(lived)
    assert faults(lived, head)


def test_another_key_verifies_no_row(lived: Coordinator) -> None:
    other = AuditLog(lived.wiring.database, b"k" * 32)

    changed = [fault for fault in verify(other).faults if fault.startswith("row ")]
    assert len(changed) == lived.wiring.audit.head().count


def test_rows_made_with_another_key_are_found(
    lived: Coordinator, database: str, clock: Clock
) -> None:
    count = lived.wiring.audit.head().count
    own = lived.wiring.own_host
    other = AuditLog(lived.wiring.database, b"k" * 32, own=lambda: own)
    with lived.wiring.database.write() as connection:
        entry = AuditEntry.of(clock(), "paused", "organisation", {"by": "eve"})
        other.append_all(connection, [entry])

    (fault,) = faults(lived)
    assert fault.startswith(f"row {count + 1} (paused organisation)")


def test_a_row_of_another_history_in_the_same_place_is_found(
    coordinator: Coordinator, database: str, opener: Opener, store: Store
) -> None:
    restored = store.copy(database, "restored")
    other = opener(database=restored)
    for history, name in ((coordinator, "ada"), (other, "bert")):
        for _ in range(3):
            ask(history.agent(name))
    query = "SELECT at, event, subject, body, hash FROM audit WHERE seq = 4"

    (row,) = rows(restored, query)
    edit(
        database,
        "UPDATE audit SET (at, event, subject, body, hash) = (?, ?, ?, ?, ?) WHERE seq = 4",
        *row,
    )

    assert verify(other.wiring.audit).ok
    assert any(fault.startswith("row 4 ") for fault in faults(coordinator))


@on_either
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal SET amount = amount + 1 WHERE kind = 'payout'",
        "UPDATE journal SET debit = 'address:0xother' WHERE kind = 'payout'",
        "UPDATE journal SET kind = 'fee' WHERE kind = 'payout'",
        "UPDATE journal SET at = at - 86400 WHERE kind = 'deposit'",
        "UPDATE journal SET escrow_key = NULL WHERE kind = 'fund'",
        "UPDATE journal SET tx_hash = '0x00' WHERE kind = 'refund'",
        "UPDATE journal SET block_number = block_number + 1000 WHERE kind = 'deposit'",
        "DELETE FROM journal WHERE kind = 'opening'",
        "DELETE FROM journal WHERE kind = 'penalty'",
        """INSERT INTO journal SELECT 'made up', 7, block_number, tx_hash, at, kind, debit, credit,
           amount, escrow_key FROM journal WHERE kind = 'deposit'""",
        """INSERT INTO journal SELECT 'made up', 0, 9999, tx_hash, at, kind, debit, credit,
           amount, escrow_key FROM journal WHERE kind = 'deposit'""",
    ],
)
def test_a_changed_journal_is_found(lived: Coordinator, database: str, statement: str) -> None:
    assert faults(lived) == ()

    assert edit(database, statement) >= 1

    assert any("journal" in fault for fault in faults(lived))


def test_a_journal_whose_log_rows_were_deleted_with_it_is_found(
    lived: Coordinator, database: str
) -> None:
    (block,) = rows(database, "SELECT max(block_number) FROM journal")[0]
    (seq,) = rows(database, "SELECT max(seq) FROM audit WHERE event = 'journal_written'")[0]
    edit(database, "DELETE FROM journal WHERE block_number = ?", block)
    edit(database, "DELETE FROM audit WHERE seq = ?", seq)

    assert faults(lived)


def test_every_purchase_has_a_row_for_each_status_that_it_was_in(
    lived: Coordinator, database: str
) -> None:
    joined = "string_agg" if is_postgresql(database) else "group_concat"
    query = f"""SELECT p.status, {joined}(a.event, ' ') FROM purchases p
                JOIN (SELECT * FROM audit ORDER BY seq) a ON a.subject = p.id
                GROUP BY p.id, p.status"""

    assert sorted(rows(database, query)) == [
        (
            "cancelled",
            "purchase_approved purchase_funded purchase_started purchase_cancelled hold_posted",
        ),
        (
            "settled",
            "purchase_approved purchase_funded purchase_started purchase_delivered"
            " purchase_settled hold_posted",
        ),
    ]


def _ask(coordinator: Coordinator, amount: str = "1.00", name: str = "ada") -> str:
    return ask(coordinator.agent(name), amount).id


def _waiting(coordinator: Coordinator) -> str:
    (pending,) = coordinator.approvals()
    return pending.id


ACTIONS: list[tuple[str, Callable[[Coordinator], Any]]] = [
    ("purchase_approved", lambda c: _ask(c)),
    ("purchase_denied", lambda c: _ask(c, "0.50")),
    ("purchase_denied", lambda c: _ask(c, name="nobody")),
    ("purchase_awaiting_approval", lambda c: _ask(c, "75.00")),
    ("purchase_approved_by", lambda c: c.approve(_waiting(c), approver="alice")),
    ("purchase_approved", lambda c: c.approve(_waiting(c), approver="bob")),
    ("purchase_awaiting_approval", lambda c: _ask(c, "75.00")),
    ("purchase_rejected", lambda c: c.reject(_waiting(c), approver="bob", reason="too dear")),
    ("purchase_awaiting_approval", lambda c: _ask(c, "75.00")),
    ("purchase_cancelled", lambda c: c.cancel(c.purchases(limit=1)[0].id, by="ada")),
    ("paused", lambda c: c.pause("a look", by="olga")),
    ("purchase_denied", lambda c: _ask(c)),
    ("proposal_made", lambda c: c.unpause("all is well", by="alice")),
    ("unpaused", lambda c: c.unpause("all is well", by="bob")),
    ("paused", lambda c: c.pause("a look", by="olga", agent="ada")),
    ("proposal_approved_by", lambda c: c.unpause("all is well", by="alice", agent="ada")),
    ("unpaused", lambda c: c.approve_proposal(c.proposals()[0].id, approver="bob")),
]


def test_every_decision_and_change_of_state_has_a_row(opener: Opener, database: str) -> None:
    coordinator = opener({"approvals": {"required": 2}})

    for event, act in ACTIONS:
        before, head = contents(database), coordinator.wiring.audit.head()
        act(coordinator)
        new = list(coordinator.audit(after=head.count))
        assert contents(database) != before
        assert event in [row["event"] for row in new], event
        assert faults(coordinator) == ()


def test_an_expiry_has_a_row_of_its_own(
    coordinator: Coordinator, database: str, clock: Clock
) -> None:
    waiting = ask(coordinator.agent("ada"), "75.00")
    clock.now += HOUR
    ask(coordinator.agent("bert"))

    *_, row = coordinator.wiring.audit.rows(subject=waiting.id)
    assert row["event"] == "purchase_expired"
    assert row["at"] == clock.now
    assert coordinator.get(waiting.id).status is Status.EXPIRED


def test_a_decisions_row_tells_who_asked_what_by_which_policy_and_every_limit(
    coordinator: Coordinator, database: str
) -> None:
    purchase = ask(coordinator.agent("ada"), "10.00")

    query = "SELECT body FROM audit WHERE subject = ?"
    body = json.loads(rows(database, query, purchase.id)[0][0])
    assert (body["agent"], body["provider"], body["amount"]) == (
        "ada",
        purchase.provider,
        10_000_000,
    )
    assert body["policy"] == purchase.policy_hash
    assert [(limit["scope"], limit["window"]) for limit in body["limits"]] == [
        (str(state.limit.scope), state.limit.window.value) for state in purchase.limits
    ]


def test_an_approval_keeps_the_host_and_the_user_of_who_decided(
    coordinator: Coordinator, database: str
) -> None:
    purchase = ask(coordinator.agent("ada"), "75.00")
    coordinator.approve(purchase.approval_id or "", approver="alice")

    query = "SELECT body FROM audit WHERE event = 'purchase_approved_by'"
    body = json.loads(rows(database, query)[0][0])
    assert body["approver"] == "alice"
    ((host, user),) = rows(database, 'SELECT host, "user" FROM approval_decisions')
    assert (body["host"], body["user"]) == (host, user)
    assert host and user


def test_who_opened_a_task_and_who_ended_a_cost_are_proved_by_the_log(
    opener: Opener, database: str
) -> None:
    coordinator = opener({"tasks": {"default": {"total_limit": "10"}}})
    ada = coordinator.agent("ada")
    with ada.open_task("t", {"total_limit": "10"}):
        hold = ada.hold("1.00", task="t")
    assert verify(coordinator.wiring.audit).faults == ()
    edit(database, "UPDATE openings SET by_agent = 0")
    edit(database, "UPDATE holds SET by_owner = 1")
    assert verify(coordinator.wiring.audit).faults == (
        f"cost {hold.id}: its by_owner is 1; the audit log says 0",
        "task t: its by_agent is 0; the audit log says 1",
    )
