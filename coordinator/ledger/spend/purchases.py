"""Read purchases, and note what the executor finds about them; each one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from sqlalchemy import Connection, case, exists, func, literal_column, select, update

from coordinator.domain.chain.steps import IN_FLIGHT, StepKind, StepStatus
from coordinator.domain.inputs import id_text
from coordinator.domain.limits.limits import Usage
from coordinator.domain.purchase.lifecycle import FINAL, OPEN, UNLINKED, X402, Status
from coordinator.domain.purchase.purchase import Purchase, StatusNow
from coordinator.domain.reasons import Reason
from coordinator.ledger.spend.moves import end_unsigned, is_in_flight, move
from coordinator.ledger.spend.reading import load_purchases, read_purchase
from coordinator.ledger.spend.signed import may_be_mined, signed_for
from coordinator.ledger.spend.stranding import strand
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.group_commit import GroupCommit
from coordinator.ledger.tx.leases import Lease, fence
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

_p = t.purchases.c
_s = t.steps.c
_h = t.holds.c


class PurchaseBook:
    """Purchases with their holds and idempotency keys."""

    def __init__(self, transactions: Transactions, group_commit: GroupCommit) -> None:
        self._transactions = transactions
        self._database = transactions.database
        self._group_commit = group_commit

    def fail(
        self,
        lease: Lease,
        purchase_id: str,
        status: Status,
        reason: Reason,
        *,
        signer: str,
        used: int,
        now: int,
    ) -> bool:
        """End a purchase that has no escrow: FAILED or CANCELLED; False when it moved meanwhile.

        With nothing signed the hold is voided at once; otherwise when the receipts that prove it
        are final. False, too, while the log tells that bytes were signed for it that may be mined
        yet, whatever its steps say: of ``signer`` those with a nonce that is not below ``used``,
        the chain's count. LeaseLost
        when another executor has taken over.
        """
        work = partial(_fail, lease, purchase_id, status, reason, signer, used, now)
        return self._group_commit.run(work)

    def signed(self, lease: Lease, purchase_id: str) -> Mapping[int, StepKind]:
        """By nonce, what the audit log tells was signed for the purchase; LeaseLost as ``fail``."""
        with self._transactions.read() as tx:
            fence(tx.connection, lease)
            return signed_for(tx, purchase_id)

    def explain_cancel(self, purchase_id: str, reason: Reason, *, now: int) -> None:
        """Keep why an empty escrow is being cancelled; the chain's event will end the purchase."""
        with self._transactions.write() as tx:
            tx.connection.execute(
                update(t.purchases)
                .where(_p.id == purchase_id)
                .values(reason_code=reason.code.value, reason_message=reason.message)
            )
            tx.record(now, "cancel_decided", purchase_id, why=reason.message)

    def note_stranded(self, purchase_id: str, message: str | None, *, now: int) -> None:
        """Keep, or clear, that nobody here can end the purchase, with who can free it."""
        with self._transactions.write() as tx:
            strand(tx, purchase_id, message, now=now)

    def get(self, purchase_id: str) -> Purchase:
        """The purchase; UnknownId when there is none."""
        with self._transactions.read() as tx:
            return read_purchase(tx, purchase_id)

    def several(self, purchase_ids: Sequence[str]) -> Sequence[Purchase]:
        """Load the purchases; an id that there is none for is left out."""
        query = select(t.purchases).where(_p.id.in_(purchase_ids))
        with self._transactions.read() as tx:
            return load_purchases(tx, query)

    def progress(self, purchase_ids: Sequence[str]) -> Mapping[str, StatusNow]:
        """Read how far the purchases are; an id that there is none for is left out."""
        query = select(_p.id, _p.status, _p.settle).where(_p.id.in_(purchase_ids))
        unproved = select(_s.purchase_id).where(
            _s.purchase_id.in_(purchase_ids), _s.status == StepStatus.SIGNED.value
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
            found = {row.id: Status(row.status) for row in rows}
            signed = _authorised(connection, [row.id for row in rows if row.settle == X402])
            waiting = set(connection.execute(unproved).scalars())
            waiting |= _holding(connection, [of for of, s in found.items() if s in FINAL])
        return {
            of: StatusNow(status, of not in waiting, of in signed) for of, status in found.items()
        }

    def unsigned(self, purchase_ids: Iterable[str]) -> bool:
        """Whether one of them waits for a call that is not signed yet."""
        wanted = _p.status.in_([s.value for s in UNLINKED]) & _p.stranded.is_(None)
        wanted &= _p.settle != X402
        wanted |= (_p.cancel_wanted == 1) | (_p.settle_wanted == 1)
        signing = exists().where(
            t.steps.c.purchase_id == _p.id,
            t.steps.c.status.in_([s.value for s in IN_FLIGHT]),
        )
        query = select(_p.id).where(
            _p.id.in_(list(purchase_ids)), _p.status.in_([s.value for s in OPEN]), wanted, ~signing
        )
        with self._transactions.read() as tx:
            return tx.connection.execute(query.limit(1)).first() is not None

    def find(self, agent: str, idempotency_key: str) -> Purchase | None:
        """The purchase that the agent's key is bound to."""
        k = t.idempotency_keys.c
        with self._transactions.read() as tx:
            idempotency_key = id_text("an idempotency key", idempotency_key)
            query = select(k.purchase_id).where(
                k.agent == agent, k.idempotency_key == idempotency_key
            )
            found = tx.connection.execute(query).scalar()
            return read_purchase(tx, found) if found else None

    def list(
        self,
        *,
        agent: str | None = None,
        task: str | None = None,
        session: str | None = None,
        statuses: Iterable[Status] = (),
        since: int | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Sequence[Purchase]:
        """Purchases, newest first, at most ``limit``; ``after`` is the last id of a page."""
        query = select(t.purchases).order_by(_p.seq.desc()).limit(limit)
        for column, given in ((_p.agent, agent), (_p.task, task), (_p.session, session)):
            if given is not None:
                query = query.where(column == given)
        if wanted := [status.value for status in statuses]:
            query = query.where(_p.status.in_(wanted))
        if since is not None:
            query = query.where(_p.created_at >= since)
        if after is not None:
            before = select(_p.seq).where(_p.id == after).scalar_subquery()
            query = query.where(_p.seq < before)
        with self._transactions.read() as tx:
            if after is not None:
                read_purchase(tx, after)
            return load_purchases(tx, query)

    def sums_by(self, column: str, *, since: int | None, until: int | None) -> Mapping[str, Usage]:
        """Held and spent by ``agent``, ``category`` or ``provider``, of purchases asked in range.

        The range is [since, until); what has no such value stands under an empty name.
        """
        given = func.coalesce(_p.provider_name, _p.provider) if column == "provider" else _p[column]
        # Literally: PostgreSQL can't know that two bound values are the same expression.
        name = func.coalesce(given, literal_column("''"))
        held = func.sum(case((t.holds.c.status == "held", t.holds.c.amount), else_=0))
        query = (
            select(name, held, func.sum(t.holds.c.posted))
            .join(t.holds, t.holds.c.purchase_id == _p.id)
            .group_by(name)
        )
        if since is not None:
            query = query.where(_p.created_at >= since)
        if until is not None:
            query = query.where(_p.created_at < until)
        with self._database.read() as connection:
            return {found: Usage(int(h), int(s)) for found, h, s in connection.execute(query)}

    def stranded(self) -> Sequence[Purchase]:
        """Purchases whose USDC nobody here can free."""
        query = select(t.purchases).where(_p.stranded.is_not(None)).order_by(_p.seq)
        with self._transactions.read() as tx:
            return load_purchases(tx, query)


def _authorised(connection: Connection, purchase_ids: Sequence[str]) -> set[str]:
    """Find the purchases whose authorisation is signed."""
    if not purchase_ids:
        return set()
    a = t.authorisations.c
    query = select(a.purchase_id).where(a.purchase_id.in_(purchase_ids), a.signature.is_not(None))
    return set(connection.execute(query).scalars())


def _holding(connection: Connection, purchase_ids: Sequence[str]) -> set[str]:
    """Find the purchases that still hold anything: until their end is final."""
    if not purchase_ids:
        return set()
    query = select(_h.purchase_id).where(
        _h.purchase_id.in_(purchase_ids), _h.kind == "purchase", _h.status == "held"
    )
    return set(connection.execute(query).scalars())


def _fail(
    lease: Lease,
    purchase_id: str,
    status: Status,
    reason: Reason,
    signer: str,
    used: int,
    now: int,
    tx: Tx,
) -> bool:
    fence(tx.connection, lease)
    purchase = read_purchase(tx, purchase_id)
    if purchase.status not in UNLINKED or is_in_flight(tx, purchase_id):
        return False
    signed = signed_for(tx, purchase_id)
    if signed and may_be_mined(tx, purchase_id, signer, used):
        return False
    count, last = tx.connection.execute(
        select(func.count(), func.max(t.attempts.c.block_number))
        .join(t.steps, t.attempts.c.step_id == t.SIGNED_AS)
        .where(t.steps.c.purchase_id == purchase_id)
    ).one()
    if count == 0 and not signed:
        end_unsigned(tx, purchase, status, reason, now)
    else:
        # What it promised of the treasury's funds is free for the next decision.
        with tx.written():
            move(tx, purchase, status, now, reason=reason, ended_at_block=last or 0)
    return True
