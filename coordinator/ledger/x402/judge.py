"""The check that a payment for an HTTP request may be signed, in the transaction that keeps it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from coordinator.domain.errors import LedgerTampered
from coordinator.domain.purchase.lifecycle import Status, may_not_create
from coordinator.ledger.chain.call_proofs import too_few
from coordinator.ledger.chain.signable import Signable
from coordinator.ledger.proofs.audit_fold import LoggedPurchase
from coordinator.ledger.proofs.row_proofs import purchase_differences
from coordinator.ledger.store import schema as t


class PaymentJudge(Signable):
    """Judges payments by the rows of one transaction, as calls are judged."""

    def authorisation(self, purchase_id: str, wallet: str) -> LoggedPurchase | None:
        """Return the purchase if the authorisation that pays for its HTTP request may be signed.

        As the log tells it, for ``wallet``; None where it may not, or was signed before.
        """
        self.read_purchases([purchase_id])
        row, past = self._rows[purchase_id], self._told.get(purchase_id)
        if past is None:
            return None
        query = select(t.authorisations).where(t.authorisations.c.purchase_id == purchase_id)
        kept = self._connection.execute(query).one_or_none()
        wrong = past.what if isinstance(past, LedgerTampered) else _not_requested(row, kept, past)
        if wrong is not None or isinstance(past, LedgerTampered):
            self.tampered[purchase_id] = f"purchase {purchase_id}: {wrong}"
            return None
        assert past.x402 is not None
        if past.authorised or self._is_doubted(row, past.doubts):
            return None
        if past.x402["wallet"] != wallet:
            self.stranded[purchase_id] = (
                f"it is paid from {past.x402['wallet']}, and this worker has the key of {wallet}"
            )
            return None
        stops = self._policy.stops(row.agent, row.provider_name, x402=True)
        refused = may_not_create(
            Status(row.status),
            cancel_wanted=bool(row.cancel_wanted),
            paused=any([self._is_paused(scope) for scope in stops]),
            now=self._now,
            approved_at=row.approved_at or row.created_at,
            create_within=self._policy.escrow.create_within,
        )
        return past if refused is None and self._is_agreed(past, stored=False) else None


def _not_requested(row: Any, kept: Any, past: LoggedPurchase) -> str | None:
    if past.x402 is None or kept is None:
        return "its row, or the audit log, does not tell that it pays for an HTTP request"
    for name in ("wallet", "host", "url"):
        if getattr(kept, name) != past.x402[name]:
            return f"its {name} is {getattr(kept, name)!r}; the audit log says {past.x402[name]!r}"
    wrong = next(purchase_differences(row, past), None)
    return wrong or next(too_few(past), None)
