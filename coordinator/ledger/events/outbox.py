"""The outbox of webhooks: a position for each target, and a row for each event that failed.

All of it is written under the deliverer's lease. A target that was replayed, disabled or removed
meanwhile is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, insert, select, update

from coordinator.domain.access.webhooks import FailedDelivery, Webhook, next_look, next_try
from coordinator.domain.notices import webhook_disabled, webhook_event_given_up
from coordinator.ledger.events.webhook_book import DISABLED, webhook_of
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.leases import Lease, fence
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

_w: Final = t.webhooks.c
_d: Final = t.webhook_deliveries.c
_KEPT_SECONDS: Final = 30 * 86_400


class Outbox:
    """Writes what became of each try. LeaseLost once another process delivers."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def enabled(self) -> Sequence[Webhook]:
        """Return the targets that are told of events."""
        query = select(t.webhooks).where(_w.disabled_at.is_(None)).order_by(_w.id)
        with self._transactions.database.read() as connection:
            return [webhook_of(row) for row in connection.execute(query)]

    def find(self, webhook_id: str) -> Webhook | None:
        """Return the target; None when it was removed or disabled."""
        query = select(t.webhooks).where(_w.id == webhook_id, _w.disabled_at.is_(None))
        with self._transactions.database.read() as connection:
            row = connection.execute(query).one_or_none()
        return webhook_of(row) if row is not None else None

    def due(self, webhook_id: str, now: int) -> FailedDelivery | None:
        """Return the oldest event to try again at ``now``."""
        query = select(t.webhook_deliveries).where(_d.webhook_id == webhook_id, _d.due_at <= now)
        with self._transactions.database.read() as connection:
            row = connection.execute(query.order_by(_d.seq).limit(1)).one_or_none()
        return FailedDelivery(*row) if row is not None else None

    def advance(self, lease: Lease, webhook: Webhook, to: int) -> bool:
        """Note that nothing up to ``to`` is for the target; False when it changed meanwhile."""
        with self._transactions.write() as tx:
            fence(tx.connection, lease)
            return _set(tx, _unchanged(webhook), position=to)

    def delivered(self, lease: Lease, webhook: Webhook, seq: int, *, again: bool, now: int) -> bool:
        """Note that the target took an event; False when the target changed meanwhile."""
        well = {"failures": 0, "failing_since": None, "retry_at": 0}
        with self._transactions.write() as tx:
            fence(tx.connection, lease)
            moved = {} if again else {"position": seq}
            if not _set(tx, _unchanged(webhook), **well, **moved):
                return False
            if again:
                _set_delivery(tx, webhook.id, seq, delivered_at=now, due_at=None, fault=None)
            if webhook.failing_since is not None:
                # It is back: what failed meanwhile for the first time is tried at once.
                meanwhile = _d.failed_at >= webhook.failing_since
                waits = (_d.webhook_id == webhook.id, _d.due_at > now, meanwhile)
                tx.connection.execute(update(t.webhook_deliveries).where(*waits).values(due_at=now))
            return True

    def failed(
        self, lease: Lease, webhook: Webhook, seq: int, fault: str, *, again: bool, now: int
    ) -> bool:
        """Note a failed try; the target is left alone for a while, and in the end disabled.

        An event that failed on every try is given up; if the target has taken nothing since then,
        the target is disabled.
        """
        failures, since = webhook.failures + 1, webhook.failing_since
        ill = {"failures": failures, "retry_at": next_look(failures, now)}
        ill["failing_since"] = now if since is None else since
        with self._transactions.write() as tx:
            fence(tx.connection, lease)
            if not _set(tx, _unchanged(webhook), **ill, **({} if again else {"position": seq})):
                return False
            first = _try_failed(tx, webhook.id, seq, fault, now)
            if first is None:
                return True
            if ill["failing_since"] <= first:
                why = f"it has taken nothing for {(now - first) // 3600} hours: {fault}"
                _disable(tx, webhook, why, now)
            else:
                tx.notify([webhook_event_given_up(webhook.id, seq, fault, now)])
            return True

    def disable(self, lease: Lease, webhook: Webhook, why: str, *, now: int) -> None:
        """Tell the target of nothing more, until somebody replays it."""
        with self._transactions.write() as tx:
            fence(tx.connection, lease)
            _disable(tx, webhook, why, now)


def _disable(tx: Tx, webhook: Webhook, why: str, now: int) -> None:
    if _set(tx, (_w.id == webhook.id, _w.disabled_at.is_(None)), disabled_at=now, disabled_why=why):
        tx.record(now, DISABLED, webhook.id, by="coordinator", reason=why)
        tx.notify([webhook_disabled(webhook.id, why, now)])


def _try_failed(tx: Tx, webhook_id: str, seq: int, fault: str, now: int) -> int | None:
    """Count the try; when it was the last one, return when the first one failed."""
    of = (_d.webhook_id == webhook_id, _d.seq == seq)
    row = tx.connection.execute(select(t.webhook_deliveries).where(*of)).one_or_none()
    if row is None:
        old = (_d.webhook_id == webhook_id, _d.due_at.is_(None), _d.failed_at < now - _KEPT_SECONDS)
        tx.connection.execute(delete(t.webhook_deliveries).where(*old))
        values = {"webhook_id": webhook_id, "seq": seq, "tries": 1, "failed_at": now}
        due = next_try(1, now)
        tx.connection.execute(
            insert(t.webhook_deliveries).values(**values, due_at=due, fault=fault)
        )
        return None
    due = next_try(row.tries + 1, now)
    _set_delivery(tx, webhook_id, seq, tries=row.tries + 1, due_at=due, fault=fault)
    return row.failed_at if due is None else None


def _unchanged(webhook: Webhook) -> tuple[ColumnElement[bool], ...]:
    same = (_w.position == webhook.position, _w.replays == webhook.replays)
    return (_w.id == webhook.id, *same, _w.disabled_at.is_(None))


def _set(tx: Tx, where: tuple[ColumnElement[bool], ...], **values: Any) -> bool:
    with tx.written() as connection:
        return bool(connection.execute(update(t.webhooks).where(*where).values(values)).rowcount)


def _set_delivery(tx: Tx, webhook_id: str, seq: int, **values: Any) -> None:
    of = (_d.webhook_id == webhook_id, _d.seq == seq)
    tx.connection.execute(update(t.webhook_deliveries).where(*of).values(values))
