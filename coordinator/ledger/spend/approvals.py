"""Approvals: list those that wait and decide them, each in one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, delete, insert, literal, select, update

from coordinator.domain.errors import LedgerTampered, UnknownId
from coordinator.domain.inputs import id_text
from coordinator.domain.limits.limits import LimitState
from coordinator.domain.notices import approval_decided, approval_expires_soon, crossings
from coordinator.domain.observed import Emit, nobody_looks
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.approval import JudgedApproval, PendingApproval, approved_names
from coordinator.domain.purchase.deciding import may_not_decide_purchase, waits_no_more
from coordinator.domain.purchase.decision import Decision, Facts
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.purchase import Answer, Purchase
from coordinator.domain.purchase.request import Request
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.usdc import Usdc
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.limits.counters import move_hold
from coordinator.ledger.proofs.evidence import Evidence
from coordinator.ledger.proofs.row_proofs import purchase_differences
from coordinator.ledger.spend.moves import approval_fields, due, end_unsigned, expire, move
from coordinator.ledger.spend.reading import TxUrl, decision_row, load_purchase, load_purchases
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database
from coordinator.ledger.tx.facts import read_facts
from coordinator.ledger.tx.notices import write_notices
from coordinator.ledger.tx.observing import write_and_tell
from coordinator.ledger.tx.policies import PolicyBook

_p = t.purchases.c


@dataclass(frozen=True, slots=True)
class Approver:
    """The approver, with the host and user account of the decision."""

    name: str
    host: str
    user: str


class ApprovalBook:
    """Approvals of purchases above their agent's threshold."""

    def __init__(
        self,
        database: Database,
        audit: AuditLog,
        policies: PolicyBook,
        evidence: Evidence,
        tx_url: TxUrl,
        emit: Emit = nobody_looks,
    ) -> None:
        self._database = database
        self._audit = audit
        self._policies = policies
        self._evidence = evidence
        self._tx_url = tx_url
        self._emit = emit

    def approve(
        self,
        approval_id: str,
        approver: Approver,
        *,
        minimum: Usdc,
        treasury: str,
        now: int,
        judge: Callable[[Request, Facts], Decision],
    ) -> Answer:
        """Count one person's yes; the last one needed judges anew and moves the hold to ``now``.

        Not done, with the reason and nothing changed, when the person may not decide, it is too
        late, or it does not fit any more. LedgerTampered when the audit log tells of other terms.
        """
        with write_and_tell(self._database, self._emit) as (connection, events):
            events.extend(expire(connection, self._audit, self._tx_url, now))
            approval, purchase = self._approval(connection, approval_id)
            rules = self._policies.rules(connection)
            policy = rules.policy
            refusal = may_not_decide_purchase(policy, purchase, approver.name)
            if refusal is not None:
                return Answer(False, purchase, refusal)
            self._check_proved(connection, approval)
            facts = read_facts(connection, rules, minimum, treasury, now, own=purchase)
            decision = judge(_request_of(purchase), facts)
            if decision.outcome is Status.DENIED:
                return Answer(False, purchase, decision.reason)
            self._decide(connection, approval_id, purchase, approver, "approved", None, now)
            required = max(approval.required, policy.approvals.required_for(purchase.amount))
            approved = self._count_approved(connection, purchase, policy)
            if approved >= required:
                move_hold(connection, purchase.id, decision.counters, now)
                marks = policy.alerts.thresholds
                write_notices(connection, crossings(decision.limits, purchase.amount, marks, now))
                stored = decision_row(decision)
                connection.execute(
                    update(t.purchases)
                    .where(_p.id == purchase.id)
                    .values(decision=json.dumps(stored), policy_hash=policy.hash)
                )
                said = {"policy": policy.hash, **stored}
                move(
                    connection,
                    self._audit,
                    purchase,
                    Status.APPROVED,
                    now,
                    said=said,
                    approved_at=now,
                )
                names = [*approved_names(self._load(connection, purchase.id))]
                self._tell_decided(connection, approval, purchase, "approved", names, now)
            return Answer(True, self._load(connection, purchase.id))

    def reject(self, approval_id: str, approver: Approver, *, reason: str, now: int) -> Answer:
        """End it by one person's no; the hold is voided."""
        with write_and_tell(self._database, self._emit) as (connection, events):
            events.extend(expire(connection, self._audit, self._tx_url, now))
            approval, purchase = self._approval(connection, approval_id)
            policy = self._policies.in_force(connection)
            refusal = may_not_decide_purchase(policy, purchase, approver.name)
            if refusal is not None:
                return Answer(False, purchase, refusal)
            self._decide(connection, approval_id, purchase, approver, "rejected", reason, now)
            why = Reason(ReasonCode.REJECTED, f"{approver.name} rejected it: {reason}")
            voided = end_unsigned(connection, self._audit, purchase, Status.REJECTED, why, now)
            events.append(voided)
            by = [approver.name]
            self._tell_decided(connection, approval, purchase, "rejected", by, now)
            return Answer(True, self._load(connection, purchase.id))

    def expire_due(self, now: int) -> None:
        """Expire every approval whose time is over; holds are voided."""
        with self._database.read() as connection:
            overdue = connection.execute(due(now).limit(1)).first()
        if overdue is not None:
            with write_and_tell(self._database, self._emit) as (connection, events):
                events.extend(expire(connection, self._audit, self._tx_url, now))

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
        with self._database.read() as connection:
            found = [
                approval_fields(row.id, self._load(connection, row.purchase_id), row.expires_at)
                for row in connection.execute(query).all()
            ]
        if found:
            with self._database.write() as connection:
                write_notices(connection, [approval_expires_soon(one, now) for one in found])

    def _tell_decided(
        self,
        connection: Connection,
        approval: Any,
        purchase: Purchase,
        decision: str,
        approvers: Sequence[str],
        now: int,
    ) -> None:
        fields = approval_fields(approval.id, purchase, approval.expires_at)
        write_notices(connection, [approval_decided(fields, decision, approvers, now)])

    def pending(self, now: int) -> Sequence[PendingApproval]:
        """Every purchase that waits for people and has not expired, oldest first."""
        query = (
            select(t.approvals, _p.id.label("purchase"))
            .join(t.purchases, _p.id == t.approvals.c.purchase_id)
            .where(_p.status == Status.AWAITING_APPROVAL.value, t.approvals.c.expires_at > now)
            .order_by(t.approvals.c.created_at, _p.seq)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
            wanted = select(t.purchases).where(_p.id.in_([row.purchase for row in rows]))
            loaded = {p.id: p for p in load_purchases(connection, self._tx_url, wanted)}
        return [
            PendingApproval(
                row.id, loaded[row.purchase], row.required, row.created_at, row.expires_at
            )
            for row in rows
        ]

    def get(self, approval_id: str) -> PendingApproval:
        """The approval, whatever its state; UnknownId when there is none."""
        with self._database.read() as connection:
            row, purchase = self._approval(connection, approval_id)
            return PendingApproval(row.id, purchase, row.required, row.created_at, row.expires_at)

    def judge(
        self,
        approval_id: str,
        approver: Approver | None = None,
        *,
        minimum: Usdc,
        treasury: str,
        now: int,
        judge: Callable[[Request, Facts], Decision],
    ) -> JudgedApproval:
        """Return what ``approve`` would find at ``now``, in anybody's or one approver's name.

        Nothing is written. UnknownId when there is no such approval.
        """
        with self._database.read() as connection:
            row, purchase = self._approval(connection, approval_id)
            if purchase.needs_approval and row.expires_at <= now:
                purchase = replace(purchase, status=Status.EXPIRED)
            rules = self._policies.rules(connection)
            misfits: tuple[Reason, ...] = ()
            limits: tuple[LimitState, ...] = purchase.limits
            undecidable = waits_no_more(purchase)
            if approver is not None:
                undecidable = may_not_decide_purchase(rules.policy, purchase, approver.name)
            if purchase.needs_approval:
                facts = read_facts(connection, rules, minimum, treasury, now, own=purchase)
                decision = judge(_request_of(purchase), facts)
                limits = decision.limits
                if decision.outcome is Status.DENIED:
                    misfits = decision.reasons
            approval = PendingApproval(
                row.id, purchase, row.required, row.created_at, row.expires_at
            )
            return JudgedApproval(approval, limits, undecidable, misfits)

    def _approval(self, connection: Connection, approval_id: str) -> tuple[Any, Purchase]:
        approval_id = id_text("an approval id", approval_id)
        query = select(t.approvals).where(t.approvals.c.id == approval_id)
        row = connection.execute(query).one_or_none()
        if row is None:
            raise UnknownId(f"there is no approval {approval_id[:60]!r}")
        return row, self._load(connection, row.purchase_id)

    def _decide(
        self,
        connection: Connection,
        approval_id: str,
        purchase: Purchase,
        approver: Approver,
        decision: str,
        reason: str | None,
        now: int,
    ) -> None:
        d = t.approval_decisions
        connection.execute(
            delete(d).where(d.c.approval_id == approval_id, d.c.approver == approver.name)
        )
        connection.execute(
            insert(d).values(
                approval_id=approval_id,
                approver=approver.name,
                decision=decision,
                reason=reason,
                at=now,
                host=approver.host,
                user=approver.user,
            )
        )
        self._audit.append(
            connection,
            now,
            f"purchase_{decision}_by",
            purchase.id,
            approval=approval_id,
            approver=approver.name,
            host=approver.host,
            user=approver.user,
            reason=reason,
        )

    def _check_proved(self, connection: Connection, approval: Any) -> None:
        row = connection.execute(select(t.purchases).where(_p.id == approval.purchase_id)).one()
        past = self._evidence.purchase(connection, row.id)
        wrong = next(purchase_differences(row, past), None)
        said = {name: getattr(approval, name) for name in ("id", "required", "expires_at")}
        if wrong is None and said != past.approval:
            wrong = f"its approval is {said}; the audit log says {past.approval}"
        if wrong is not None:
            raise LedgerTampered(f"purchase {row.id}: {wrong}")

    def _count_approved(self, connection: Connection, purchase: Purchase, policy: Policy) -> int:
        """Count the approvers of the policy in force whose yes the audit log proves."""
        said = self._evidence.purchase(connection, purchase.id).decisions
        return sum(
            one["decision"] == "approved" and name != purchase.agent
            for name, one in said.items()
            if name in policy.approvals.approvers
        )

    def _load(self, connection: Connection, purchase_id: str) -> Purchase:
        purchase = load_purchase(connection, self._tx_url, purchase_id)
        assert purchase is not None
        return purchase


def _request_of(purchase: Purchase) -> Request:
    assert purchase.agent is not None
    return Request(
        agent=purchase.agent,
        # By address: a name may have been given to somebody else meanwhile.
        provider=purchase.provider,
        amount=purchase.amount,
        purpose=purchase.purpose,
        service=purchase.service,
        category=purchase.category,
        task=purchase.task,
        session=purchase.session,
    )
