"""Proposals of approvers: each is carried out in the transaction that counts the last yes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert, select, update

from coordinator.domain.errors import LedgerTampered, UnknownId
from coordinator.domain.purchase.deciding import overtaken
from coordinator.domain.purchase.proposal import Proposal, ProposalKind, ProposalStatus
from coordinator.ledger.proofs.logged_proposal import LoggedProposal
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

_q = t.proposals.c
_POLICY = ProposalKind.POLICY


class ProposalBook:
    """Reads withdrawals, early settles and unpauses that approvers propose and others approve."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def waiting(self, now: int) -> Sequence[Proposal]:
        """List the proposals that wait and have not expired, oldest first.

        A draft that another version has overtaken waits for nobody any more.
        """
        query = (
            select(_q.id)
            .where(_q.status == ProposalStatus.AWAITING_APPROVAL.value, _q.expires_at > now)
            .order_by(_q.created_at, _q.id)
        )
        with self._transactions.read() as tx:
            ids = tx.connection.execute(query).scalars().all()
            found = [read_proposal(tx, one) for one in ids]
            return [
                one for one in found if one.kind is not _POLICY or not overtaken(tx.policy, one)
            ]

    def get(self, proposal_id: str) -> Proposal:
        """The proposal, whatever became of it; UnknownId when there is none."""
        with self._transactions.read() as tx:
            return read_proposal(tx, proposal_id)


def insert_proposal(tx: Tx, proposal: Proposal, now: int) -> None:
    """Keep a proposal that waits for other approvers."""
    terms = dict(proposal.terms)
    tx.connection.execute(
        insert(t.proposals).values(
            id=proposal.id,
            kind=proposal.kind.value,
            terms=json.dumps(terms, sort_keys=True),
            status=proposal.status.value,
            created_at=now,
            expires_at=proposal.expires_at,
        )
    )
    tx.record(
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


def expire_proposals(tx: Tx, now: int) -> None:
    """End every proposal whose time is over, at ``expires_at``, and each draft overtaken."""
    tx.flush()
    waits = _q.status == ProposalStatus.AWAITING_APPROVAL.value
    overdue = select(_q.id).where(waits, _q.expires_at <= now)
    for one in tx.connection.execute(overdue).scalars().all():
        end_proposal(tx, one, ProposalStatus.EXPIRED, now)
    for one in waiting_ids(tx, _POLICY):
        # One that was changed holds up no other: whoever reads it is told.
        with contextlib.suppress(LedgerTampered):
            late = overtaken(tx.policy, read_proposal(tx, one))
            if late is not None:
                end_proposal(tx, one, ProposalStatus.EXPIRED, now, why=late.message)


def end_proposal(tx: Tx, proposal_id: str, status: ProposalStatus, now: int, **said: Any) -> None:
    """Note what became of the proposal; ``said`` goes into its audit row."""
    tx.connection.execute(
        update(t.proposals).where(_q.id == proposal_id).values(status=status.value)
    )
    tx.record(now, f"proposal_{status}", proposal_id, **said)


def waiting_ids(tx: Tx, kind: ProposalKind) -> Sequence[str]:
    """List the proposals of a kind that wait, oldest first."""
    query = (
        select(_q.id)
        .where(_q.kind == kind.value, _q.status == ProposalStatus.AWAITING_APPROVAL.value)
        .order_by(_q.created_at, _q.id)
    )
    tx.flush()
    return tx.connection.execute(query).scalars().all()


def find_same_proposal(tx: Tx, kind: ProposalKind, terms: Mapping[str, Any]) -> Proposal | None:
    """Return the waiting proposal of the same terms, if there is one."""
    query = select(_q.id).where(
        _q.kind == kind.value,
        _q.terms == json.dumps(dict(terms), sort_keys=True),
        _q.status == ProposalStatus.AWAITING_APPROVAL.value,
    )
    tx.flush()
    found = tx.connection.execute(query.limit(1)).scalar()
    return read_proposal(tx, found) if found is not None else None


def read_proposal(tx: Tx, proposal_id: str) -> Proposal:
    """Return the proposal, as ``read_logged`` does."""
    return read_logged(tx, proposal_id).proposal


def read_logged(tx: Tx, proposal_id: str) -> LoggedProposal:
    """Return the proposal and its decisions as the audit log tells them in this transaction.

    UnknownId when there is none; LedgerTampered if its row differs.
    """
    tx.flush()
    query = select(t.proposals).where(_q.id == proposal_id)
    row = tx.connection.execute(query).one_or_none()
    if row is None:
        raise UnknownId(f"there is no proposal {proposal_id[:60]!r}")
    found = LoggedProposal.of(tx.proven(proposal_id))
    if found is None or not _is_told(row, found.proposal):
        raise LedgerTampered(f"proposal {proposal_id}")
    return found


def _is_told(row: Any, told: Proposal) -> bool:
    kept = (row.kind, json.loads(row.terms), row.status, row.created_at, row.expires_at)
    said = (told.kind.value, told.terms, told.status.value, told.created_at, told.expires_at)
    return kept == said
