"""Authorisations that pay for HTTP requests: find what is to be signed, and keep what was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import select, update

from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.usdc import Usdc
from coordinator.domain.x402.authorisation import Authorisation
from coordinator.domain.x402.offer import VALID_SECONDS_MAX
from coordinator.ledger.chain.findings import tell_findings
from coordinator.ledger.proofs.audit_fold import LoggedPurchase
from coordinator.ledger.proofs.evidence import Evidence, Seen
from coordinator.ledger.spend.stranding import strand
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.leases import Lease, fence
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions
from coordinator.ledger.x402.judge import PaymentJudge

SIGNED: Final = "x402_signed"
AT_ONCE: Final = 100
_a, _p = t.authorisations.c, t.purchases.c
_UNSIGNED: Final = (
    select(_p.seq, _a.purchase_id)
    .join(t.purchases, _p.id == _a.purchase_id)
    .where(_a.signature.is_(None), _p.status == Status.APPROVED.value)
    .order_by(_p.seq)
    .limit(AT_ONCE)
)


class Signed(NamedTuple):
    """An authorisation that its wallet has signed."""

    purchase_id: str
    authorisation: Authorisation
    signature: str


class AuthorisationBook:
    """Authorisations of one treasury. Nobody is given a signature before it is kept here."""

    def __init__(self, transactions: Transactions, evidence: Evidence) -> None:
        self._transactions = transactions
        self._database = transactions.database
        self._evidence = evidence

    def unsigned(self, *, after: int = 0) -> Sequence[tuple[int, str]]:
        """Find purchases whose authorisation is not signed yet, oldest first; a hundred at most.

        Each with its number, by which the next ones come ``after`` it.
        """
        with self._database.read() as connection:
            rows = connection.execute(_UNSIGNED.where(_p.seq > after)).all()
        return [(row.seq, row.purchase_id) for row in rows]

    def to_sign(
        self, purchase_ids: Sequence[str], wallet: str, *, seen: Seen, now: int
    ) -> dict[str, Authorisation]:
        """Make what may be signed for these purchases, by id; why not is told by ``store``.

        It is made from the audit log alone, and valid for what the server asks, at most 600 s.
        """
        with self._transactions.read() as tx:
            return self._judged(tx, purchase_ids, wallet, seen, now)[0]

    def store(
        self,
        lease: Lease,
        purchase_ids: Sequence[str],
        signed: Sequence[Signed],
        wallet: str,
        *,
        seen: Seen,
        now: int,
    ) -> int:
        """Keep signatures, and count them; one that may not be given out any more is dropped.

        Of ``purchase_ids``, those which may not be signed are told to people. LeaseLost when
        another executor has taken over.
        """
        with self._transactions.write() as tx:
            fence(tx.connection, lease)
            allowed, judge = self._judged(tx, purchase_ids, wallet, seen, now)
            kept = [one for one in signed if one.purchase_id in allowed]
            for one in kept:
                _keep(tx, one, now)
            tell_findings(tx, judge, now)
        return len(kept)

    def payment(self, purchase_id: str) -> dict[str, Any] | None:
        """Return the payment as its server takes it; None while it is not signed."""
        query = (
            select(t.authorisations, _p.provider, _p.amount, _p.escrow_key)
            .join(t.purchases, _p.id == _a.purchase_id)
            .where(_a.purchase_id == purchase_id, _a.signature.is_not(None))
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        payment: dict[str, Any] = json.loads(row.offer)
        payment.pop("seconds", None)
        authorisation = Authorisation(
            row.wallet,
            row.provider,
            Usdc.from_base_units(row.amount),
            row.valid_before,
            row.escrow_key,
        )
        return payment | {"payload": authorisation.payload(row.signature)}

    def _judged(
        self, tx: Tx, purchase_ids: Sequence[str], wallet: str, seen: Seen, now: int
    ) -> tuple[dict[str, Authorisation], PaymentJudge]:
        judge = PaymentJudge(tx, self._evidence, now=now, seen=seen)
        judge.read_purchases(purchase_ids)
        found = {of: judge.authorisation(of, wallet) for of in purchase_ids}
        return {of: _authorisation(past, now) for of, past in found.items() if past}, judge


def _authorisation(past: LoggedPurchase, now: int) -> Authorisation:
    assert past.x402 is not None and past.escrow_key is not None
    terms: Mapping[str, Any] = past.x402
    return Authorisation(
        wallet=terms["wallet"],
        payee=past.provider,
        amount=Usdc.from_base_units(past.amount),
        valid_before=now + min(int(terms["seconds"]), VALID_SECONDS_MAX),
        nonce=past.escrow_key,
    )


def _keep(tx: Tx, one: Signed, now: int) -> None:
    values = {"valid_before": one.authorisation.valid_before, "signature": one.signature}
    tx.connection.execute(
        update(t.authorisations)
        .where(_a.purchase_id == one.purchase_id, _a.signature.is_(None))
        .values(**values, signed_at=now)
    )
    strand(tx, one.purchase_id, None, now=now)
    tx.record(
        now,
        SIGNED,
        one.purchase_id,
        wallet=one.authorisation.wallet,
        nonce=one.authorisation.nonce,
        valid_before=one.authorisation.valid_before,
        usdc=one.authorisation.amount.base_units,
    )
