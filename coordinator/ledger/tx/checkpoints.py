"""Checkpoints of the audit log: a log that lost rows is refused until an approver accepts it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import delete, insert, select

from coordinator.domain.audit import AuditRow, Head
from coordinator.domain.errors import LedgerTampered
from coordinator.domain.notices import worker_refused
from coordinator.domain.policy.credentials import CredentialKind
from coordinator.domain.policy.policy import Policy
from coordinator.domain.statements.signed import Signed
from coordinator.domain.typed_data import Trust
from coordinator.ledger.audit.seals import Seal, make_seal, newest_seal, seal_rows
from coordinator.ledger.proofs import step_digest
from coordinator.ledger.proofs.logged_proposal import LoggedProposal
from coordinator.ledger.proofs.row_proofs import document_hash
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.pausing import begin_recovery
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

log = logging.getLogger(__name__)

_REFUSED: Final = "audit_log_refused"
_SUBJECT: Final = "audit"


class CheckpointBook:
    """Refusals of the log by its worker, and their end."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def refuse(self, expected: Head, why: str, *, now: int) -> None:
        """Stop all new spending and say which head was expected; once for each head."""
        with self._transactions.write() as tx:
            if _refusal(tx, expected) is not None:
                return
            log.error("audit_log_refused expected=%s why=%s", expected, why)
            text = (
                f"the audit log is not the one that the worker has seen ({why}): the database was"
                " put back, or somebody has changed it; check it, then unpause"
            )
            tx.record(now, _REFUSED, _SUBJECT, expected=str(expected), why=why)
            begin_recovery(tx, text, now=now)

    def accepted(self, expected: Head, agreed: Callable[[AuditRow], bool]) -> Head | None:
        """Return the head that approvers have accepted instead of the ``expected`` one.

        They have by an unpause after it that is ``agreed``.
        """
        with self._transactions.read() as tx:
            refused = _refusal(tx, expected)
            unpaused = tx.proven("organisation", events=("unpaused",), skip=True)
        if refused is None or not unpaused or unpaused[-1].seq < refused.count:
            return None
        return refused if agreed(unpaused[-1]) else None

    def trust(self) -> Trust | None:
        """Return the treasury, chain and kernel that signatures are for."""
        with self._transactions.read() as tx:
            return tx.trust

    def proposal(self, proposal_id: str) -> LoggedProposal | None:
        """Return a proposal as the log proves it; None where it tells of none."""
        with self._transactions.read() as tx:
            return LoggedProposal.of(tx.proven(proposal_id))

    def safe_signatures(self, subjects: Sequence[str]) -> list[Signed]:
        """Return what Safes signed about purchases and orders, as the log tells it."""
        found = []
        with self._transactions.read() as tx:
            for subject in subjects:
                rows = tx.proven(subject, skip=True)
                settled = [r.body["proposal"] for r in rows if r.body.get("proposal")]
                for row in [*rows, *(r for one in settled for r in tx.proven(one, skip=True))]:
                    if row.body.get("signed") is not None:
                        found.append(row.body["signed"])
        return [signed for signed in map(_safe_signed, found) if signed is not None]

    def policy(self, policy_hash: str) -> Policy:
        """Return a version of the policy; LedgerTampered unless its document has this hash."""
        query = select(t.policies.c.document).where(t.policies.c.hash == policy_hash).limit(1)
        with self._transactions.read() as tx:
            text = tx.connection.execute(query).scalar()
        if text is None or document_hash(text) != policy_hash:
            raise LedgerTampered(f"the document of policy {policy_hash[:12]}…")
        return Policy.from_dict(json.loads(text))

    def refuse_row(self, seq: int, event: str, subject: str, why: str, *, now: int) -> None:
        """Tell people that the worker does not believe a row, and note it in the log."""
        log.error("worker_refused event=%s subject=%s why=%s", event, subject, why)
        with self._transactions.write() as tx:
            tx.record(now, "worker_refused", subject, of=event, row=seq, why=why)
            tx.notify([worker_refused(event, subject, seq, why, now)])

    def join(self, *, now: int) -> None:
        """Certify this host if need be, before it makes codes of rows."""
        with self._transactions.write() as tx:
            tx.audit.join(tx.connection, now=now)

    def sealed(self) -> Seal:
        """Return the newest seal that stands; NO_SEAL without any."""
        with self._transactions.read() as tx:
            hosts = tx.audit.hosts.all(tx.connection).values()
            return newest_seal(seal_rows(tx.connection), hosts)

    def seal(self, head: Head, *, now: int) -> Seal:
        """Seal the log up to ``head``, each of whose rows was verified, and the steps."""
        with self._transactions.write() as tx:
            tx.audit.join(tx.connection, now=now)
            made = make_seal(tx.audit.own_host().key, head, now)
            tx.connection.execute(delete(t.seals).where(t.seals.c.count == made.count))
            tx.connection.execute(insert(t.seals).values(made.as_row()))
            step_digest.seal(tx.connection, tx.audit.codes)
        return made

    def signed_orders(self, *events: str) -> set[str]:
        """Ids of the orders that the log tells were signed, whether or not that can be proved."""
        query = select(t.audit.c.subject).where(t.audit.c.event.in_(events))
        with self._transactions.read() as tx:
            return set(tx.connection.execute(query).scalars())


def _refusal(tx: Tx, expected: Head) -> Head | None:
    rows = tx.proven(_SUBJECT, events=(_REFUSED,), skip=True)
    same = [row for row in rows if row.body["expected"] == str(expected)]
    return Head(same[-1].seq, same[-1].hash) if same else None


def _safe_signed(stored: Any) -> Signed | None:
    try:
        signed = Signed.from_dict(stored)
    except ValueError:
        return None
    return signed if signed.credential.kind is CredentialKind.SAFE else None
