"""Rows to purchases: whole objects, loaded by sets of ids."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, select

from coordinator.domain.chain.gas import share
from coordinator.domain.chain.journal import EntryKind
from coordinator.domain.errors import UnknownId
from coordinator.domain.inputs import id_text
from coordinator.domain.limits.limits import Limit, LimitState, Scope, Usage
from coordinator.domain.purchase.cost import Cost
from coordinator.domain.purchase.decision import Decision
from coordinator.domain.purchase.lifecycle import X402, Status
from coordinator.domain.purchase.purchase import (
    ApprovalDecision,
    Purchase,
    PurchaseTransaction,
    RequestPayment,
)
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Window
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.sums import exact_sum, read_sum
from coordinator.ledger.tx.transaction import Tx, TxUrl


def read_purchase(tx: Tx, purchase_id: str) -> Purchase:
    """Return the purchase as it is in this transaction; UnknownId when there is none."""
    purchase_id = id_text("a purchase id", purchase_id)
    found = load_purchases(tx, select(t.purchases).where(t.purchases.c.id == purchase_id))
    if not found:
        raise UnknownId(f"there is no purchase {purchase_id[:60]!r}")
    return found[0]


def load_purchases(tx: Tx, query: Select[Any]) -> list[Purchase]:
    """Whole purchases of a query over ``purchases``, in its order, in six queries."""
    tx.flush()
    connection = tx.connection
    rows = connection.execute(query).all()
    ids = [row.id for row in rows]
    approvals = _approvals(connection, ids)
    escrows = escrows_of(connection, ids)
    decisions = _decisions(connection, ids)
    transactions = _transactions(connection, tx.tx_url, ids)
    sums = sums_of_escrows(connection, ids)
    payments = _payments(connection, [row.id for row in rows if row.settle == X402])
    return [
        _purchase(
            row,
            escrow=_shown_escrow(escrows.get(row.id, ())),
            approval_id=approvals.get(row.id),
            decisions=decisions.get(row.id, ()),
            transactions=transactions.get(row.id, ()),
            sums=sums.get(row.id, {}),
            x402=payments.get(row.id),
        )
        for row in rows
    ]


def _purchase(
    row: Any,
    *,
    escrow: Any,
    approval_id: str | None,
    decisions: Sequence[ApprovalDecision],
    transactions: Sequence[PurchaseTransaction],
    sums: Mapping[EntryKind, Usdc],
    x402: RequestPayment | None,
) -> Purchase:
    decision = json.loads(row.decision)

    def total(kind: EntryKind) -> Usdc:
        return sums.get(kind, ZERO)

    return Purchase(
        id=row.id,
        status=Status(row.status),
        agent=row.agent,
        provider=row.provider,
        provider_name=row.provider_name,
        amount=Usdc.from_base_units(row.amount),
        purpose=row.purpose,
        service=row.service,
        category=row.category,
        task=row.task,
        session=row.session,
        idempotency_key=row.idempotency_key,
        escrow_key=row.escrow_key,
        escrow_id=escrow.escrow_id if escrow else None,
        approval_id=approval_id,
        created_at=row.created_at,
        updated_at=row.updated_at,
        deadline=escrow.deadline if escrow else None,
        window_ends=escrow.window_ends if escrow else None,
        settle=row.settle,
        policy_hash=row.policy_hash,
        reason=Reason(ReasonCode(row.reason_code), row.reason_message) if row.reason_code else None,
        reasons=tuple(reason_of(r) for r in decision.get("reasons", ())),
        limits=tuple(limit_of(state) for state in decision.get("limits", ())),
        approvals=tuple(decisions),
        transactions=tuple(transactions),
        paid_in=total(EntryKind.FUND) + total(EntryKind.X402),
        provider_received=total(EntryKind.PAYOUT) + total(EntryKind.X402),
        platform_fee=total(EntryKind.FEE),
        penalty=total(EntryKind.PENALTY),
        refunded=total(EntryKind.REFUND),
        stranded=Reason(ReasonCode.STRANDED, row.stranded) if row.stranded else None,
        rail_state=escrow.state if escrow else None,
        x402=x402,
    )


def _payments(connection: Connection, ids: Sequence[str]) -> dict[str, RequestPayment]:
    if not ids:
        return {}
    a = t.authorisations.c
    query = select(a.purchase_id, a.wallet, a.host, a.url, a.valid_before, a.signed_at)
    rows = connection.execute(query.where(a.purchase_id.in_(ids)))
    return {purchase_id: RequestPayment(*told) for purchase_id, *told in rows}


def escrows_of(connection: Connection, ids: Iterable[str]) -> Mapping[str, Sequence[Any]]:
    """Rows of the escrows of purchases, by purchase id, in their order.

    Each is ``linked`` if it stands under the purchase's own key.
    """
    e, p = t.escrows.c, t.purchases.c
    query = (
        select(t.escrows, (e.escrow_key == p.escrow_key).label("linked"))
        .join(t.purchases, p.id == e.purchase_id)
        .where(e.purchase_id.in_(list(ids)))
        .order_by(e.seq)
    )
    found: dict[str, list[Any]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.purchase_id].append(row)
    return found


def _shown_escrow(rows: Sequence[Any]) -> Any:
    """Return the linked escrow of a purchase, the last of several; else the last created."""
    return next((row for row in reversed(rows) if row.linked), rows[-1] if rows else None)


def _approvals(connection: Connection, ids: Iterable[str]) -> dict[str, str]:
    query = select(t.approvals.c.purchase_id, t.approvals.c.id).where(
        t.approvals.c.purchase_id.in_(list(ids))
    )
    return {row.purchase_id: row.id for row in connection.execute(query)}


def _decisions(connection: Connection, ids: Iterable[str]) -> dict[str, list[ApprovalDecision]]:
    query = (
        select(t.approval_decisions, t.approvals.c.purchase_id)
        .join(t.approvals, t.approvals.c.id == t.approval_decisions.c.approval_id)
        .where(t.approvals.c.purchase_id.in_(list(ids)))
        .order_by(t.approval_decisions.c.at, t.approval_decisions.c.approver)
    )
    found: dict[str, list[ApprovalDecision]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.purchase_id].append(
            ApprovalDecision(row.approver, row.decision, row.reason, row.at, row.host, row.user)
        )
    return found


def _transactions(
    connection: Connection, tx_url: TxUrl, ids: Iterable[str]
) -> dict[str, list[PurchaseTransaction]]:
    s, a = t.steps.c, t.attempts.c
    query = (
        select(t.attempts, s.purchase_id, s.kind, s.status, s.position, t.MEMBERS)
        .join(t.steps, a.step_id == t.SIGNED_AS)
        .where(s.purchase_id.in_(list(ids)))
        .order_by(s.nonce, s.position, a.signed_at, a.max_fee_per_gas)
    )
    found: dict[str, list[PurchaseTransaction]] = defaultdict(list)
    for row in connection.execute(query):
        mined = row.gas_used is not None
        gas_used = row.gas_used
        gas_wei = gas_used * row.effective_gas_price + row.l1_fee_wei if mined else 0
        if mined and row.members:
            # The members of a batch share what it costs.
            gas_used = share(gas_used, row.position, row.members)
            gas_wei = share(gas_wei, row.position, row.members)
        found[row.purchase_id].append(
            PurchaseTransaction(
                step=row.kind,
                hash=row.hash,
                block=row.block_number,
                gas_used=gas_used,
                gas_wei=gas_wei,
                status=row.status,
                url=tx_url(row.hash),
            )
        )
    return found


def sums_of_escrows(
    connection: Connection, ids: Iterable[str]
) -> Mapping[str, Mapping[EntryKind, Usdc]]:
    """Amounts by kind of the entries of each purchase's own escrow, by purchase id.

    An escrow under the purchase's key with other terms is not its own: nobody asked for it.
    """
    query = (
        select(t.escrows.c.purchase_id, t.journal.c.kind, exact_sum(t.journal.c.amount))
        .join(t.journal, is_of_escrow(t.journal.c, t.escrows.c))
        .where(t.escrows.c.purchase_id.in_(list(ids)))
        .group_by(t.escrows.c.purchase_id, t.journal.c.kind)
    )
    found: dict[str, dict[EntryKind, Usdc]] = defaultdict(dict)
    for purchase_id, kind, amount in connection.execute(query):
        found[purchase_id][EntryKind(kind)] = Usdc.from_base_units(read_sum(amount))
    return found


def is_of_escrow(journal: Any, escrow: Any) -> ColumnElement[bool]:
    """Whether an entry is the escrow's: of its key, and a payment's only if it is one.

    A payment for an HTTP request has its nonce as id and key. Whoever has the wallet's key may
    choose the key of an escrow for it.
    """
    paid = (journal.kind != EntryKind.X402.value) | (escrow.escrow_id == escrow.escrow_key)
    return and_(journal.escrow_key == escrow.escrow_key, paid)


def limit_of(stored: dict[str, Any]) -> LimitState:
    """A limit state from a stored decision."""
    limit = Limit(Scope.of(stored["scope"]), Window(stored["window"]), _units(stored["limit"]))
    usage = Usage(stored["held"], stored["spent"])
    return LimitState(limit, usage, stored["resets_at"], stored["broken"])


def limit_row(state: LimitState) -> dict[str, Any]:
    """A limit state as a decision stores it: base units and unix seconds."""
    return {
        "scope": str(state.limit.scope),
        "window": state.limit.window.value,
        "limit": state.limit.amount.base_units,
        "spent": state.usage.spent_units,
        "held": state.usage.held_units,
        "resets_at": state.resets_at,
        "broken": state.broken,
    }


def decision_row(decision: Decision | Cost) -> dict[str, Any]:
    """A decision's reasons and limits, as a purchase and the audit log keep them."""
    return {
        "reasons": [reason.as_dict() for reason in decision.reasons],
        "limits": [limit_row(state) for state in decision.limits],
    }


def reason_of(stored: dict[str, str]) -> Reason:
    return Reason(ReasonCode(stored["code"]), stored["message"])


def _units(base_units: int) -> Usdc:
    return Usdc.from_base_units(base_units)
