"""The worker's state of the log forgets what can't count any more, and nothing else."""

from __future__ import annotations

from typing import Any

from coordinator.domain.audit import AuditRow
from coordinator.domain.canonical import canonical_json
from coordinator.executor.checkpoint_state import CheckpointState
from coordinator.executor.signed_rules import DAY


def row(event: str, subject: str, **body: Any) -> AuditRow:
    text = canonical_json(body).decode()
    return AuditRow(1, 1_000, event, subject, text, "0" * 64, "worker", "")


def test_an_unpause_is_forgotten_a_month_after_nobody_could_use_it_again() -> None:
    state = CheckpointState(used={"unp_1": 10 * DAY, "pol_1": None}, time=40 * DAY)
    state.prune(40 * DAY)
    assert set(state.used) == {"unp_1", "pol_1"}
    # A clock that was put back keeps it, and so does a log that is older.
    state.time = 41 * DAY
    state.prune(9 * DAY)
    assert "unp_1" in state.used
    state.prune(41 * DAY)
    assert set(state.used) == {"pol_1"}


def test_a_draft_is_forgotten_with_its_end() -> None:
    state = CheckpointState()
    for name in ("pol_1", "pol_2", "pol_3"):
        state.note_policy(row("proposal_made", name, kind="policy"), 7)
    state.note_policy(row("proposal_rejected", "pol_1"), 8)
    state.note_policy(row("proposal_expired", "pol_2"), 8)
    assert state.drafts == {"pol_3": 7}


def test_nonces_are_counted_for_each_account() -> None:
    state = CheckpointState()
    state.take(row("link_signed", "pur_1", signer="0xA", nonce=41))
    state.take(row("lane_opened", "lane:0xB", first=3))
    state.take(row("create_signed", "pur_2", signer="0xB", nonce=3))
    state.take(row("nonces_adopted", "treasury", signer="0xA", first=42, last=44))
    assert state.nonces == {"0xA": 45, "0xB": 4}
