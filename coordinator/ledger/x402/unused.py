"""End payments for HTTP requests that nobody took: only once nobody can take them any more."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select

from coordinator.domain.chain.events import Block
from coordinator.domain.errors import LedgerTampered
from coordinator.domain.observed import ended
from coordinator.domain.purchase.lifecycle import X402, Status
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.times import rfc3339
from coordinator.domain.usdc import ZERO
from coordinator.ledger.proofs.evidence import Evidence
from coordinator.ledger.spend.holds import end_hold
from coordinator.ledger.spend.moves import move
from coordinator.ledger.spend.reading import read_purchase
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.leases import Lease, fence
from coordinator.ledger.tx.pausing import report_tampering
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

_a, _p = t.authorisations.c, t.purchases.c
_OPEN: Final = (
    select(_p.id)
    .join(t.authorisations, _a.purchase_id == _p.id)
    .where(_p.settle == X402, _p.status == Status.APPROVED.value)
    .order_by(_p.seq)
)


class UnusedBook:
    """Ends payments by what the audit log tells of them: a row can be changed, and give USDC free.

    A payment that was signed ends when a final block is at or past the second from which the token
    refuses it; the books have every use up to there. One that was not signed ends when it may not
    be signed any more.
    """

    def __init__(self, transactions: Transactions, evidence: Evidence) -> None:
        self._transactions = transactions
        self._evidence = evidence

    def end(self, lease: Lease, final: Block, *, create_within: int, now: int) -> int:
        """Fail what nobody took, void its holds, and count it; LeaseLost as whoever signs.

        ``final`` is the last block that is final in the books, ``create_within`` the seconds for
        which an approval may be acted on.
        """
        asked = now - create_within
        unsigned = _a.signature.is_(None) & (_p.approved_at < asked)
        query = _OPEN.where((_a.valid_before <= final.at) | unsigned)
        with self._transactions.database.read() as connection:
            due = list(connection.execute(query).scalars())
        if not due:
            return 0
        with self._transactions.write() as tx:
            fence(tx.connection, lease)
            return sum(self._end(tx, of, final, asked, now) for of in due)

    def _end(self, tx: Tx, purchase_id: str, final: Block, asked: int, now: int) -> bool:
        purchase = read_purchase(tx, purchase_id)
        if purchase.status is not Status.APPROVED:
            return False
        try:
            past = self._evidence.purchase(tx.connection, purchase_id)
        except LedgerTampered as fault:
            report_tampering(tx, purchase_id, fault.what, now=now)
            return False
        if past.status is not Status.APPROVED:
            return False
        if past.authorised:
            if past.authorised_until > final.at:
                return False
            text = f"nobody used its authorisation before {rfc3339(past.authorised_until)}"
        else:
            if past.approved_at is None or past.approved_at >= asked:
                return False
            text = "no authorisation could be signed in time"
        reason = Reason(ReasonCode.AUTHORISATION_UNUSED, text)
        with tx.written():
            end_hold(tx, purchase_id, "purchase", spent=ZERO, now=now)
            move(tx, purchase, Status.FAILED, now, reason=reason)
        held, agent = purchase.amount, purchase.agent
        void = ended(
            "purchase", held=held, spent=ZERO, agent=agent, now=now, purchase_id=purchase_id
        )
        tx.emit(void)
        return True
