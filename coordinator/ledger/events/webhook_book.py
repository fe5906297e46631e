"""Webhooks as people register them: added, rotated, replayed, removed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import delete, func, insert, select, update

from coordinator.domain.access.webhooks import (
    FailedDelivery,
    NewWebhook,
    Webhook,
    WebhookSecrets,
    new_webhook_id,
)
from coordinator.domain.errors import InvalidRequest, LedgerTampered, UnknownId
from coordinator.ledger.audit.log import read_head
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

WEBHOOKS_MAX: Final = 100
ADDED, REMOVED, ROTATED = "webhook_added", "webhook_removed", "webhook_rotated"
REPLAYED, DISABLED = "webhook_replayed", "webhook_disabled"

_w: Final = t.webhooks.c
_d: Final = t.webhook_deliveries.c
_NAMES: Final = tuple(column.name for column in t.webhooks.columns)
# The columns before it are told by the log.
_LOGGED: Final = _NAMES.index("position")


class WebhookBook:
    """The targets. A row proves nothing by itself: what it says must stand in the audit log."""

    def __init__(self, transactions: Transactions, secrets: WebhookSecrets) -> None:
        self._transactions = transactions
        self._secrets = secrets

    def add(
        self, url: str, types: Sequence[str], agent: str | None, *, by: str, now: int
    ) -> NewWebhook:
        """Register a target; it is told of what happens from now on."""
        with self._transactions.write() as tx:
            count = tx.connection.execute(select(func.count()).select_from(t.webhooks)).scalar()
            if (count or 0) >= WEBHOOKS_MAX:
                raise InvalidRequest(f"there are {WEBHOOKS_MAX} webhooks: remove one first")
            webhook = Webhook(
                id=new_webhook_id(),
                url=url,
                types=tuple(sorted(set(types))),
                agent=agent,
                created_by=by,
                created_at=now,
                position=read_head(tx.connection).count,
            )
            with tx.written() as connection:
                connection.execute(insert(t.webhooks).values(_row_of(webhook)))
            told = {"url": url, "types": list(webhook.types), "for_agent": agent}
            tx.record(now, ADDED, webhook.id, by=by, **told)
            return NewWebhook(webhook, self._secrets.of(webhook.id, 1))

    def list(self) -> Sequence[Webhook]:
        """Return all targets, oldest first."""
        query = select(t.webhooks).order_by(_w.created_at, _w.id)
        with self._transactions.database.read() as connection:
            return [webhook_of(row) for row in connection.execute(query)]

    def get(self, webhook_id: str) -> Webhook:
        """Return the target; UnknownId when there is none."""
        with self._transactions.read() as tx:
            return _found(tx, webhook_id)

    def rotate(self, webhook_id: str, *, previous_until: int, by: str, now: int) -> NewWebhook:
        """Make another secret; the present one signs too until ``previous_until``."""
        with self._transactions.write() as tx:
            generation = _found(tx, webhook_id).generation + 1
            _change(tx, webhook_id, generation=generation, previous_until=previous_until)
            told = {"generation": generation, "previous_until": previous_until}
            tx.record(now, ROTATED, webhook_id, by=by, **told)
            secret = self._secrets.of(webhook_id, generation)
            return NewWebhook(_found(tx, webhook_id), secret)

    def replay(self, webhook_id: str, *, after: int, by: str, now: int) -> Webhook:
        """Tell the target again of everything after a number, enabled from now on."""
        with self._transactions.write() as tx:
            replays = _found(tx, webhook_id).replays
            head = read_head(tx.connection).count
            if after > head:
                raise InvalidRequest(f"there is no event {after}: the last one is {head}")
            _change(
                tx,
                webhook_id,
                position=after,
                replays=replays + 1,
                disabled_at=None,
                disabled_why=None,
                failures=0,
                failing_since=None,
                retry_at=0,
            )
            of = (_d.webhook_id == webhook_id, _d.seq > after)
            tx.connection.execute(delete(t.webhook_deliveries).where(*of))
            tx.record(now, REPLAYED, webhook_id, by=by, after=after)
            return _found(tx, webhook_id)

    def remove(self, webhook_id: str, *, by: str, now: int) -> Webhook:
        """Remove the target; it is told of nothing more."""
        with self._transactions.write() as tx:
            found = _found(tx, webhook_id)
            with tx.written() as connection:
                of_it = _d.webhook_id == webhook_id
                connection.execute(delete(t.webhook_deliveries).where(of_it))
                connection.execute(delete(t.webhooks).where(_w.id == webhook_id))
            tx.record(now, REMOVED, webhook_id, by=by)
            return found

    def deliveries(
        self, webhook_id: str, *, limit: int = 100, before: int | None = None
    ) -> Sequence[FailedDelivery]:
        """Return the events that the target did not take at once, newest first."""
        query = select(t.webhook_deliveries).where(_d.webhook_id == webhook_id)
        if before is not None:
            query = query.where(_d.seq < before)
        with self._transactions.read() as tx:
            _found(tx, webhook_id)
            rows = tx.connection.execute(query.order_by(_d.seq.desc()).limit(limit))
            return [FailedDelivery(*row) for row in rows]

    def prove(self, webhook: Webhook) -> None:
        """Refuse, as LedgerTampered, a target that is not what the audit log tells."""
        row = _row_of(webhook)
        told = tuple(row[name] for name in _NAMES[:_LOGGED])
        with self._transactions.read() as tx:
            if _logged(tx, webhook.id) != told:
                raise LedgerTampered(f"webhook {webhook.id}")


def _logged(tx: Tx, webhook_id: str) -> tuple[Any, ...] | None:
    """Return the row's values as the log tells them."""
    told: dict[str, Any] = {}
    events = (ADDED, REMOVED, ROTATED, REPLAYED, DISABLED)
    for row in tx.proven(webhook_id, events=events):
        body: Mapping[str, Any] = row.body
        if row.event == ADDED:
            told = dict.fromkeys(_NAMES[:_LOGGED])
            told |= {"id": webhook_id, "url": body["url"], "types": json.dumps(body["types"])}
            told |= {"agent": body["for_agent"], "created_by": body["by"], "created_at": row.at}
            told["generation"] = 1
        elif row.event == ROTATED:
            told |= {name: body[name] for name in ("generation", "previous_until")}
        elif row.event == REPLAYED:
            told |= {"disabled_at": None, "disabled_why": None}
        elif row.event == DISABLED:
            told |= {"disabled_at": row.at, "disabled_why": body["reason"]}
        else:
            told = {}
    return tuple(told[name] for name in _NAMES[:_LOGGED]) if told else None


def webhook_of(row: Sequence[Any]) -> Webhook:
    """Return the target of a row of its table."""
    found = dict(zip(_NAMES, row, strict=True))
    return Webhook(**{**found, "types": tuple(json.loads(found["types"]))})


def _row_of(webhook: Webhook) -> dict[str, Any]:
    found = {name: getattr(webhook, name) for name in _NAMES}
    return found | {"types": json.dumps(list(webhook.types))}


def _change(tx: Tx, webhook_id: str, **values: Any) -> None:
    with tx.written() as connection:
        connection.execute(update(t.webhooks).where(_w.id == webhook_id).values(values))


def _found(tx: Tx, webhook_id: str) -> Webhook:
    row = tx.connection.execute(select(t.webhooks).where(_w.id == webhook_id)).one_or_none()
    if row is None:
        raise UnknownId(f"there is no webhook {webhook_id[:60]!r}")
    return webhook_of(row)
