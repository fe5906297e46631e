"""Read what waits for people, and keep what they decide."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, insert, literal, select, update

from coordinator.domain.approval_notices import approval_expires_soon
from coordinator.domain.errors import LedgerTampered, UnknownId
from coordinator.domain.inputs import id_text
from coordinator.domain.purchase.approval import Approver, PendingApproval
from coordinator.domain.purchase.decision import Decision
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.statements.signed import Signed
from coordinator.ledger.proofs.agreement import Agreement, purchase_agreement
from coordinator.ledger.proofs.evidence import Evidence
from coordinator.ledger.proofs.row_proofs import purchase_differences
from coordinator.ledger.spend.holds import move_hold
from coordinator.ledger.spend.moves import approval_fields, due, expire, move
from coordinator.ledger.spend.reading import decision_row, load_purchases, read_purchase
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.group_commit import GroupCommit
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

_p = t.purchases.c


class ApprovalBook:
    """Approvals of purchases above their agent's threshold."""

    def __init__(self, transactions: Transactions, group_commit: GroupCommit) -> None:
        self._transactions = transactions
        self._group_commit = group_commit

    def expire_due(self, now: int) -> None:
        """Expire every approval whose time is over; holds are voided."""
        with self._transactions.read() as tx:
            overdue = tx.connection.execute(due(now).limit(1)).first()
        if overdue is not None:
            self._group_commit.run(lambda tx: expire(tx, now))

    def tell_expiring(self, now: int) -> None:
        """Tell once of each approval that is in the last quarter of its time."""
        a = t.approvals.c
        told = select(t.notices.c.seq).where(
            t.notices.c.key == literal("approval_expires_soon:") + a.id
        )
        query = (
            select(a.id, a.purchase_id, a.expires_at)
            .join(t.purchases, _p.id == a.purchase_id)
            .where(
                _p.status == Status.AWAITING_APPROVAL.value,
                a.expires_at > now,
                4 * (a.expires_at - now) <= a.expires_at - a.created_at,
                ~told.exists(),
            )
        )
        with self._transactions.read() as tx:
            found = [
                approval_fields(row.id, read_purchase(tx, row.purchase_id), row.expires_at)
                for row in tx.connection.execute(query).all()
            ]
        if found:
            with self._transactions.write() as tx:
                tx.notify(approval_expires_soon(one, now) for one in found)

    def pending(self, now: int) -> Sequence[PendingApproval]:
        """Every purchase that waits for people and has not expired, oldest first."""
        query = (
            select(t.approvals, _p.id.label("purchase"))
            .join(t.purchases, _p.id == t.approvals.c.purchase_id)
            .where(_p.status == Status.AWAITING_APPROVAL.value, t.approvals.c.expires_at > now)
            .order_by(t.approvals.c.created_at, _p.seq)
        )
        with self._transactions.read() as tx:
            rows = tx.connection.execute(query).all()
            wanted = select(t.purchases).where(_p.id.in_([row.purchase for row in rows]))
            loaded = {p.id: p for p in load_purchases(tx, wanted)}
        return [
            PendingApproval(
                row.id, loaded[row.purchase], row.required, row.created_at, row.expires_at
            )
            for row in rows
        ]

    def get(self, approval_id: str) -> PendingApproval:
        """The approval, whatever its state; UnknownId when there is none."""
        with self._transactions.read() as tx:
            row, purchase = read_approval(tx, approval_id)
            return PendingApproval(row.id, purchase, row.required, row.created_at, row.expires_at)


def read_approval(tx: Tx, approval_id: str) -> tuple[Any, Purchase]:
    """Return the approval's row and its purchase in this transaction; UnknownId without one."""
    approval_id = id_text("an approval id", approval_id)
    tx.flush()
    query = select(t.approvals).where(t.approvals.c.id == approval_id)
    row = tx.connection.execute(query).one_or_none()
    if row is None:
        raise UnknownId(f"there is no approval {approval_id[:60]!r}")
    return row, read_purchase(tx, row.purchase_id)


def record_decision(
    tx: Tx,
    approval: Any,
    approver: Approver,
    decision: str,
    now: int,
    *,
    reason: str | None = None,
    signed: Signed | None = None,
) -> None:
    """Keep one person's yes or no, in place of what that person said before.

    The audit row has the whole of what was ``signed``: it is the proof.
    """
    d = t.approval_decisions
    who = {"approver": approver.name, "host": approver.host, "user": approver.user}
    tx.connection.execute(
        delete(d).where(d.c.approval_id == approval.id, d.c.approver == approver.name)
    )
    tx.connection.execute(
        insert(d).values(approval_id=approval.id, decision=decision, reason=reason, at=now, **who)
    )
    event = f"purchase_{decision}_by"
    proof = {} if signed is None else {"signed": signed.as_dict()}
    tx.record(now, event, approval.purchase_id, approval=approval.id, **who, reason=reason, **proof)


def check_proved(tx: Tx, evidence: Evidence, approval: Any) -> None:
    """Refuse, as LedgerTampered, terms that are not those that the audit log tells."""
    row = tx.connection.execute(select(t.purchases).where(_p.id == approval.purchase_id)).one()
    past = evidence.purchase(tx.connection, row.id)
    wrong = next(purchase_differences(row, past), None)
    said = {name: getattr(approval, name) for name in ("id", "required", "expires_at")}
    if wrong is None and said != past.approval:
        wrong = f"its approval is {said}; the audit log says {past.approval}"
    if wrong is not None:
        raise LedgerTampered(f"purchase {row.id}: {wrong}")


def agreement(tx: Tx, evidence: Evidence, purchase_id: str) -> Agreement:
    """Return whose approvals, as the audit log proves them, count under the policy in force."""
    tx.flush()
    past = evidence.purchase(tx.connection, purchase_id)
    return purchase_agreement(tx.policy, past, tx.trust)


def release(tx: Tx, purchase: Purchase, decision: Decision, now: int) -> None:
    """Send the approved purchase on its way: its hold is charged at ``now``, by ``decision``."""
    with tx.written() as connection:
        move_hold(tx, purchase.id, decision.counters, now)
        tx.notify_crossings(decision.limits, purchase.amount, now)
        stored, policy_hash = decision_row(decision), tx.policy.hash
        connection.execute(
            update(t.purchases)
            .where(_p.id == purchase.id)
            .values(decision=json.dumps(stored), policy_hash=policy_hash)
        )
        said = {"policy": policy_hash, **stored}
        move(tx, purchase, Status.APPROVED, now, said=said, approved_at=now)
