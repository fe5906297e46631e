"""Proposals of approvers: each is carried out in the transaction that counts the last yes."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, insert, select, update

from coordinator.domain.errors import LedgerTampered, UnknownId
from coordinator.domain.notices import proposal_waits
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.deciding import may_not_decide_proposal, not_an_approver
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.proposal import PREFIXES, Proposal, ProposalKind, ProposalStatus
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.usdc import Usdc
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.spend.approvals import Approver
from coordinator.ledger.spend.purchases import order_settle
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database
from coordinator.ledger.tx.notices import write_notices
from coordinator.ledger.tx.operations import insert_order
from coordinator.ledger.tx.pausing import lift_pause
from coordinator.ledger.tx.policies import PolicyBook

_q = t.proposals.c


@dataclass(frozen=True, slots=True)
class Decided:
    """A proposal after a decision, or the reason why nothing changed."""

    proposal: Proposal
    refusal: Reason | None = None


class ProposalBook:
    """Withdrawals, early settles and unpauses that approvers propose and others approve."""

    def __init__(self, database: Database, audit: AuditLog, policies: PolicyBook) -> None:
        self._database = database
        self._audit = audit
        self._policies = policies

    def propose(
        self,
        kind: ProposalKind,
        terms: Mapping[str, Any],
        approver: Approver,
        *,
        reason: str,
        now: int,
    ) -> Decided:
        """Propose it, or say yes to the same proposal of another approver.

        It is carried out at once where no other approver is needed.
        """
        with self._database.write() as connection:
            self._expire(connection, now)
            policy = self._policies.in_force(connection)
            refusal = not_an_approver(policy, approver.name)
            proposal = self._same(connection, kind, terms)
            made = proposal or _new(kind, terms, approver.name, reason, policy, now)
            refusal = refusal or _not_carried_out(connection, made)
            if refusal is not None:
                return Decided(made, refusal)
            if proposal is None and made.required == 1:
                self._carry_out(connection, made, [approver.name], now)
                done = replace(made, status=ProposalStatus.APPROVED, approved_by=(approver.name,))
                return Decided(done)
            if proposal is None:
                self._insert(connection, made, now)
            return self._approve(connection, made, approver, policy, now)

    def approve(self, proposal_id: str, approver: Approver, *, now: int) -> Decided:
        """Count one approver's yes under the policy in force; the last one carries it out."""
        with self._database.write() as connection:
            self._expire(connection, now)
            policy = self._policies.in_force(connection)
            proposal = self._load(connection, proposal_id)
            refusal = may_not_decide_proposal(policy, proposal, approver.name)
            if refusal is not None:
                return Decided(proposal, refusal)
            return self._approve(connection, proposal, approver, policy, now)

    def reject(self, proposal_id: str, approver: Approver, *, reason: str, now: int) -> Decided:
        """End it by one approver's no."""
        with self._database.write() as connection:
            self._expire(connection, now)
            proposal = self._load(connection, proposal_id)
            policy = self._policies.in_force(connection)
            refusal = may_not_decide_proposal(policy, proposal, approver.name)
            if refusal is not None:
                return Decided(proposal, refusal)
            said = {"approver": approver.name, "host": approver.host, "user": approver.user}
            self._end(connection, proposal_id, ProposalStatus.REJECTED, now, why=reason, **said)
            return Decided(self._load(connection, proposal_id))

    def waiting(self, now: int) -> Sequence[Proposal]:
        """List the proposals that wait and have not expired, oldest first."""
        query = (
            select(_q.id)
            .where(_q.status == ProposalStatus.AWAITING_APPROVAL.value, _q.expires_at > now)
            .order_by(_q.created_at, _q.id)
        )
        with self._database.read() as connection:
            return [
                self._load(connection, one) for one in connection.execute(query).scalars().all()
            ]

    def get(self, proposal_id: str) -> Proposal:
        """The proposal, whatever became of it; UnknownId when there is none."""
        with self._database.read() as connection:
            return self._load(connection, proposal_id)

    def _approve(
        self,
        connection: Connection,
        proposal: Proposal,
        approver: Approver,
        policy: Policy,
        now: int,
    ) -> Decided:
        refusal = _not_carried_out(connection, proposal)
        if refusal is not None:
            return Decided(proposal, refusal)
        said = {"approver": approver.name, "host": approver.host, "user": approver.user}
        self._audit.append(connection, now, "proposal_approved_by", proposal.id, **said)
        proposal = self._load(connection, proposal.id)
        able = [one for one in proposal.approved_by if not_an_approver(policy, one) is None]
        if len(able) < max(proposal.required, _required(policy, proposal.kind, proposal.terms)):
            write_notices(connection, [proposal_waits(proposal, now)])
            return Decided(proposal, proposal.waiting())
        self._end(connection, proposal.id, ProposalStatus.APPROVED, now, approved_by=able)
        self._carry_out(connection, proposal, able, now)
        return Decided(self._load(connection, proposal.id))

    def _carry_out(
        self, connection: Connection, proposal: Proposal, able: Sequence[str], now: int
    ) -> None:
        terms, by = proposal.terms, ", ".join(able)
        agreed = {"approved_by": list(able), "required": proposal.required}
        if proposal.kind is ProposalKind.WITHDRAW:
            insert_order(
                connection,
                self._audit,
                "withdraw",
                order_id=proposal.id,
                recipient=terms["recipient"],
                amount=Usdc.from_base_units(terms["amount"]),
                by=proposal.by,
                reason=proposal.reason,
                now=now,
                **agreed,
            )
        elif proposal.kind is ProposalKind.SETTLE:
            order_settle(connection, self._audit, terms["purchase_id"], by=by, now=now, **agreed)
        else:
            lift_pause(
                connection,
                self._audit,
                terms["scope_kind"],
                terms["scope_id"],
                proposal.reason,
                by=by,
                now=now,
                **agreed,
            )

    def _insert(self, connection: Connection, proposal: Proposal, now: int) -> None:
        terms = dict(proposal.terms)
        connection.execute(
            insert(t.proposals).values(
                id=proposal.id,
                kind=proposal.kind.value,
                terms=json.dumps(terms, sort_keys=True),
                status=proposal.status.value,
                created_at=now,
                expires_at=proposal.expires_at,
            )
        )
        self._audit.append(
            connection,
            now,
            "proposal_made",
            proposal.id,
            kind=proposal.kind.value,
            terms=terms,
            by=proposal.by,
            reason=proposal.reason,
            required=proposal.required,
            expires_at=proposal.expires_at,
        )

    def _expire(self, connection: Connection, now: int) -> None:
        waits = _q.status == ProposalStatus.AWAITING_APPROVAL.value
        overdue = select(_q.id).where(waits, _q.expires_at <= now)
        for one in connection.execute(overdue).scalars().all():
            self._end(connection, one, ProposalStatus.EXPIRED, now)

    def _end(
        self,
        connection: Connection,
        proposal_id: str,
        status: ProposalStatus,
        now: int,
        **said: Any,
    ) -> None:
        connection.execute(
            update(t.proposals).where(_q.id == proposal_id).values(status=status.value)
        )
        self._audit.append(connection, now, f"proposal_{status}", proposal_id, **said)

    def _same(
        self, connection: Connection, kind: ProposalKind, terms: Mapping[str, Any]
    ) -> Proposal | None:
        query = select(_q.id).where(
            _q.kind == kind.value,
            _q.terms == json.dumps(dict(terms), sort_keys=True),
            _q.status == ProposalStatus.AWAITING_APPROVAL.value,
        )
        found = connection.execute(query.limit(1)).scalar()
        return self._load(connection, found) if found is not None else None

    def _load(self, connection: Connection, proposal_id: str) -> Proposal:
        """Return the proposal as the audit log tells it; LedgerTampered if its row differs."""
        row = connection.execute(select(t.proposals).where(_q.id == proposal_id)).one_or_none()
        if row is None:
            raise UnknownId(f"there is no proposal {proposal_id[:60]!r}")
        said = self._audit.proven(connection, proposal_id)
        made = next((one.body for one in said if one.event == "proposal_made"), None)
        ends = [one.event for one in said if one.event in _ENDS]
        status = ends[-1].removeprefix("proposal_") if ends else "awaiting_approval"
        found = (row.kind, json.loads(row.terms), row.status, row.expires_at)
        if made is None or found != (made["kind"], made["terms"], status, made["expires_at"]):
            raise LedgerTampered(f"proposal {proposal_id}")
        yes = [one.body["approver"] for one in said if one.event == "proposal_approved_by"]
        return Proposal(
            id=proposal_id,
            kind=ProposalKind(row.kind),
            terms=made["terms"],
            by=made["by"],
            reason=made["reason"],
            status=ProposalStatus(status),
            required=made["required"],
            approved_by=tuple(dict.fromkeys(yes)),
            created_at=row.created_at,
            expires_at=made["expires_at"],
        )


_ENDS = frozenset({"proposal_approved", "proposal_rejected", "proposal_expired"})


def _new(
    kind: ProposalKind, terms: Mapping[str, Any], by: str, reason: str, policy: Policy, now: int
) -> Proposal:
    return Proposal(
        id=PREFIXES[kind] + secrets.token_hex(10),
        kind=kind,
        terms=terms,
        by=by,
        reason=reason,
        status=ProposalStatus.AWAITING_APPROVAL,
        required=_required(policy, kind, terms),
        approved_by=(),
        created_at=now,
        expires_at=now + policy.approvals.expires_after,
    )


def _required(policy: Policy, kind: ProposalKind, terms: Mapping[str, Any]) -> int:
    """Return the approvals it takes: by its amount, or an unpause by its own rule."""
    if kind is ProposalKind.UNPAUSE:
        return policy.approvals.required
    return policy.approvals.required_for(Usdc.from_base_units(terms["amount"]))


def _not_carried_out(connection: Connection, proposal: Proposal) -> Reason | None:
    """Return the reason why it can't be carried out any more."""
    if proposal.kind is not ProposalKind.SETTLE:
        return None
    p = t.purchases.c
    query = select(p.status).where(p.id == proposal.terms["purchase_id"])
    status = connection.execute(query).scalar()
    if status == Status.DELIVERED.value:
        return None
    text = f"only a delivered purchase can be settled; it is {status}"
    return Reason(ReasonCode.NOT_SETTLEABLE, text)
