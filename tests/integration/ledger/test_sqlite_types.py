"""SQLite keeps any type in any column; PostgreSQL refuses what these tests write."""

from __future__ import annotations

import pytest

from coordinator import Coordinator
from coordinator.ledger.proofs.verification import verify
from tests.integration.ledger.deciding import edit


@pytest.mark.parametrize(
    ("column", "value"),
    [("body", b"\xff\x00"), ("hash", b"\x00"), ("at", 1e400), ("subject", b"\x00")],
)
@pytest.mark.parametrize("event", ["journal_written", "purchase_approved"])
def test_a_row_edited_to_another_type_is_a_fault_and_not_a_crash(
    lived: Coordinator, database: str, event: str, column: str, value: object
) -> None:
    where = "seq = (SELECT min(seq) FROM audit WHERE event = ?)"
    assert edit(database, f"UPDATE audit SET {column} = ? WHERE {where}", value, event) == 1

    assert verify(lived.wiring.audit).faults


def test_an_amount_of_another_type_in_the_journal_is_found(
    lived: Coordinator, database: str
) -> None:
    assert edit(database, "UPDATE journal SET amount = x'00' WHERE kind = 'deposit'") == 1

    assert any("journal" in fault for fault in verify(lived.wiring.audit).faults)
