"""Escrows folded from their stored events, as many as there are by the same few statements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from coordinator.domain.address import keccak256
from coordinator.domain.chain.escrow_key import service_hash
from coordinator.domain.chain.events import EMPTY, ChainEvent, EscrowState, EventKind
from coordinator.domain.chain.steps import StepKind
from coordinator.domain.purchase.lifecycle import STATUS_OF, X402, Status
from coordinator.ledger.proofs.audit_fold import LoggedState
from coordinator.ledger.spend.adoption import Attributed
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared, batched
from coordinator.ledger.tx.transaction import Tx

_p = t.purchases.c
_e = t.escrows.c
_ev = t.escrow_events.c
_AT_ONCE: Final = 500


class _StoredEvent(NamedTuple):
    kind: str
    block_number: int
    tx_hash: str
    at: int
    escrow_key: str | None
    requester: str | None
    provider: str
    amount: int
    service_hash: str
    deadline: int
    state: str | None
    window_ends: int | None


class _Terms(NamedTuple):
    id: str
    agent: str | None
    provider: str
    amount: int
    service: str | None
    settle: str


class Escrow(NamedTuple):
    """An escrow as its events leave it; ``purchase_id`` is the owner's, ``seq`` its row's place."""

    seq: int
    escrow_id: str
    escrow_key: str | None
    purchase_id: str | None
    state: str
    last_block: int


_OF: Final[BindParameter[Any]] = bindparam("of")
_STORE: Final = Prepared(
    insert(t.escrow_events),
    *("block_hash", "log_index", "block_number", "tx_hash", "at", "kind", "escrow_id"),
    *("escrow_key", "requester", "provider", "amount", "service_hash", "deadline"),
    *("state", "window_ends"),
)
_FOLDED: Final = (
    *("escrow_key", "requester", "provider", "amount", "service_hash", "state", "deadline"),
    *("window_ends", "created_at", "last_block", "purchase_id"),
)
_INSERT: Final = Prepared(insert(t.escrows), "escrow_id", *_FOLDED)
# A parameter may not have the name of a column that is set.
_CHANGE: Final = Prepared(
    update(t.escrows)
    .where(_e.escrow_id == _OF)
    .values({name: bindparam(f"to_{name}") for name in _FOLDED})
)
_ESCROWS: Final = select(*(_e[name] for name in Escrow._fields))
# After every row; those that were not written yet follow each other.
_LAST: Final = 1 << 62


class EscrowFold:
    """The escrows of a batch; ``write`` stores what was taken and folded since it was called last.

    Whoever reads the tables of escrows meanwhile, writes before.
    """

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._connection: Connection = tx.connection
        self._pasts: dict[str, list[_StoredEvent]] = defaultdict(list)
        self._escrows: dict[str, Escrow] = {}
        self._by_key: dict[str, _Terms] = {}
        #: By transaction, and the escrow where a batch creates several.
        self._creators: dict[tuple[str, str | None], str] = {}
        self._of_purchase: dict[str, dict[str, Escrow]] = {}
        # To be written.
        self._events: list[Mapping[str, Any]] = []
        self._inserted: dict[str, Mapping[str, Any]] = {}
        self._changed: dict[str, Mapping[str, Any]] = {}

    def read(self, escrow_ids: Collection[str], events: Iterable[ChainEvent] = ()) -> None:
        """Read escrows, their stored events, and the purchases that own them or will by events."""
        past = (_ev.escrow_id, *(_ev[name] for name in _StoredEvent._fields))
        for part in batched(escrow_ids, _AT_ONCE):
            for row in self._connection.execute(_ESCROWS.where(_e.escrow_id.in_(part))):
                self._escrows[row.escrow_id] = Escrow(*row)
            stored = select(*past).where(_ev.escrow_id.in_(part))
            for of, *values in self._connection.execute(
                stored.order_by(_ev.block_number, _ev.log_index)
            ):
                self._pasts[of].append(_StoredEvent(*values))
        told: list[_StoredEvent | ChainEvent] = [*chain(*self._pasts.values()), *events]
        self._read_keys(event.escrow_key for event in told if event.escrow_key)
        created = (event for event in told if event.kind == EventKind.ESCROW_CREATED)
        self._read_creators(event.tx_hash for event in created)

    def owners(self) -> Collection[str]:
        """Return the purchases that own an escrow, or will by the events that were read for."""
        return {owner.id for owner in self._by_key.values()} | set(self._creators.values())

    def knows(self, escrow_id: str) -> bool:
        """Return whether there is such an escrow of ours."""
        return escrow_id in self._escrows

    def has_purchase(self, escrow_key: str | None) -> bool:
        """Return whether a purchase has this key."""
        return escrow_key in self._by_key

    def take(self, event: ChainEvent) -> Escrow:
        """Store the event and fold its escrow."""
        row = _event_row(event)
        self._events.append(row)
        assert event.escrow_id is not None
        self._pasts[event.escrow_id].append(
            _StoredEvent(*[row[name] for name in _StoredEvent._fields])
        )
        return self._fold(event.escrow_id)

    def refold(self, escrow_ids: Iterable[str]) -> None:
        """Make each row what its stored events say; none is left where they say nothing."""
        for escrow_id in escrow_ids:
            if self._pasts[escrow_id]:
                self._fold(escrow_id)
            else:
                self._connection.execute(delete(t.escrows).where(_e.escrow_id == escrow_id))

    def attributed(self, escrow_id: str, made: Attributed) -> None:
        """Note that the escrow was given, in the database, to a purchase that was made for it."""
        escrow = self._escrows[escrow_id]._replace(purchase_id=made.id)
        self._escrows[escrow_id] = escrow
        self._of_purchase[made.id] = {escrow_id: escrow}
        terms = _Terms(made.id, None, made.provider, made.amount, None, made.settle)
        self._by_key.setdefault(made.escrow_key, terms)

    def read_owned(self, purchase_ids: Iterable[str]) -> None:
        """Read all escrows of purchases."""
        for part in batched(purchase_ids, _AT_ONCE):
            self._of_purchase |= {purchase_id: {} for purchase_id in part}
            for row in self._connection.execute(_ESCROWS.where(_e.purchase_id.in_(part))):
                escrow = self._escrows[row.escrow_id] = Escrow(*row)
                self._of_purchase[row.purchase_id][row.escrow_id] = escrow

    def of_purchase(self, purchase_id: str) -> Collection[Escrow]:
        """Return the purchase's escrows, which were read, the oldest first."""
        return sorted(self._of_purchase[purchase_id].values())

    def write(self) -> None:
        """Write what was taken and folded."""
        _STORE.each(self._connection, self._events)
        inserted = [{"escrow_id": of, **values} for of, values in self._inserted.items()]
        _INSERT.each(self._connection, inserted)
        changed = [
            {"of": of, **{f"to_{name}": value for name, value in values.items()}}
            for of, values in self._changed.items()
        ]
        _CHANGE.each(self._connection, changed)
        self._events, self._inserted, self._changed = [], {}, {}

    def _fold(self, escrow_id: str) -> Escrow:
        past, before = self._pasts[escrow_id], self._escrows.get(escrow_id)
        values = _folded(past)
        values["purchase_id"] = owner = self._owner(escrow_id, past[0], values)
        is_new = before is None or escrow_id in self._inserted
        (self._inserted if is_new else self._changed)[escrow_id] = values
        escrow = Escrow(
            seq=_LAST + len(self._escrows) if before is None else before.seq,
            escrow_id=escrow_id,
            escrow_key=values["escrow_key"],
            purchase_id=owner,
            state=values["state"],
            last_block=values["last_block"],
        )
        self._escrows[escrow_id] = escrow
        if before is not None and before.purchase_id != owner:
            self._of_purchase.get(before.purchase_id or "", {}).pop(escrow_id, None)
        if owner in self._of_purchase:
            self._of_purchase[owner][escrow_id] = escrow
        return escrow

    def _owner(
        self, escrow_id: str, created: _StoredEvent, escrow: Mapping[str, Any]
    ) -> str | None:
        """The purchase under whose key it is linked; before that the one whose step created it.

        One whose row was changed since owns what was decided: the log tells it.
        """
        if escrow["escrow_key"] is None:
            one = self._creators.get((created.tx_hash, escrow_id))
            return one or self._creators.get((created.tx_hash, None))
        owner = self._by_key.get(escrow["escrow_key"])
        if owner is None:
            return None
        if (owner.settle == X402) != (created.kind == EventKind.AUTHORISATION_USED):
            return None
        # One that is known from the chain alone has no service name that could be compared, and no
        # payment for an HTTP request tells of one.
        compared = owner.agent is not None and owner.settle != X402
        service = service_hash(owner.service) if compared else escrow["service_hash"]
        asked = (owner.provider.lower(), owner.amount, service)
        paid = (escrow["provider"].lower(), escrow["amount"], escrow["service_hash"])
        if asked == paid or _decided_terms(self._tx, owner.id) == paid:
            return owner.id
        # Ours by key but not by terms: nobody asked for this, so no purchase owns it.
        return None

    def _read_keys(self, keys: Iterable[str]) -> None:
        terms = (_p.escrow_key, *(_p[name] for name in _Terms._fields))
        for part in batched(dict.fromkeys(keys), _AT_ONCE):
            query = select(*terms).where(_p.escrow_key.in_(part), _p.status != Status.DENIED.value)
            for key, *values in self._connection.execute(query):
                self._by_key.setdefault(key, _Terms(*values))

    def _read_creators(self, tx_hashes: Iterable[str]) -> None:
        a, s = t.attempts.c, t.steps.c
        creates: ColumnElement[bool] = s.kind == StepKind.CREATE.value
        for part in batched(dict.fromkeys(tx_hashes), _AT_ONCE):
            query = select(a.hash, s.purchase_id).join(t.attempts, a.step_id == s.id)
            for tx_hash, owner in self._connection.execute(query.where(a.hash.in_(part), creates)):
                self._creators[tx_hash, None] = owner
            # What a batch creates is known before: it is mined with just these ids, or not at all.
            within = select(a.hash, s.escrow_id, s.purchase_id).where(a.hash.in_(part), creates)
            for row in self._connection.execute(within.join(t.attempts, a.step_id == s.batch_id)):
                self._creators[row.hash, row.escrow_id] = row.purchase_id


def name_apart(connection: Connection, events: Sequence[ChainEvent]) -> list[ChainEvent]:
    """Give a payment whose nonce is another escrow's id or key a name of its own; ours never is.

    Whoever has the wallet's key can choose it so.
    """
    used = EventKind.AUTHORISATION_USED
    nonces = {event.escrow_key for event in events if event.kind is used and event.escrow_key}
    taken: set[str | None] = set()
    for part in batched(sorted(nonces), _AT_ONCE):
        same = _e.escrow_id.in_(part) | _e.escrow_key.in_(part)
        for row in connection.execute(select(_e.escrow_id, _e.escrow_key).where(same)):
            taken |= {*row}
    named = []
    for event in events:
        is_apart = event.kind is used and event.escrow_key in taken
        named.append(_by_place(event) if is_apart else event)
        taken |= {event.escrow_id, event.escrow_key}
    return named


def _by_place(event: ChainEvent) -> ChainEvent:
    name = "0x" + keccak256(f"{event.block_hash}:{event.log_index}".encode()).hex()
    return replace(event, escrow_id=name, escrow_key=name)


def status_of(purchase: Any, escrows: Iterable[Escrow]) -> tuple[Status | None, int | None]:
    """Return the status that the purchase's escrows give it, and the block of its end.

    The oldest escrow linked under its key decides; before that it is created while one is empty,
    and cancelled once none is. (None, None) without any.
    """
    escrows = list(escrows)
    if not escrows:
        return None, None
    for escrow in escrows:
        if escrow.escrow_key == purchase.escrow_key:
            return STATUS_OF[EscrowState(escrow.state)], escrow.last_block
    if any(EscrowState(escrow.state) in EMPTY for escrow in escrows):
        return Status.CREATED, None
    return Status.CANCELLED, max(escrow.last_block for escrow in escrows)


def status_by_escrows(connection: Connection, purchase: Any) -> tuple[Status | None, int | None]:
    """Return ``status_of`` by the purchase's escrows in the database."""
    rows = connection.execute(_ESCROWS.where(_e.purchase_id == purchase.id).order_by(_e.seq))
    return status_of(purchase, (Escrow(*row) for row in rows))


def _event_row(event: ChainEvent) -> dict[str, Any]:
    return {
        "block_hash": event.block_hash,
        "log_index": event.log_index,
        "block_number": event.block_number,
        "tx_hash": event.tx_hash,
        "at": event.at,
        "kind": event.kind.value,
        "escrow_id": event.escrow_id,
        "escrow_key": event.escrow_key,
        "requester": event.requester,
        "provider": event.provider,
        "amount": event.amount.base_units if event.amount is not None else None,
        "service_hash": event.service_hash,
        "deadline": event.deadline,
        "state": event.state.value if event.state is not None else None,
        "window_ends": event.window_ends,
    }


def _folded(events: Sequence[_StoredEvent]) -> dict[str, Any]:
    first = events[0]
    values: dict[str, Any] = {
        "escrow_key": None,
        "requester": first.requester,
        "provider": first.provider,
        "amount": first.amount,
        "service_hash": first.service_hash,
        "state": EscrowState.CREATED.value,
        "deadline": first.deadline,
        "window_ends": None,
        "created_at": first.at,
        "last_block": events[-1].block_number,
    }
    if first.kind == EventKind.AUTHORISATION_USED:
        paid = {"escrow_key": first.escrow_key, "state": EscrowState.SETTLED.value}
        return values | paid | {"service_hash": service_hash(None), "deadline": first.at}
    for event in events[1:]:
        if event.kind == EventKind.ESCROW_FUNDED:
            values |= {"escrow_key": event.escrow_key, "amount": event.amount}
            values["state"] = EscrowState.FUNDED.value
        else:
            values["state"] = event.state
            if event.window_ends is not None:
                values["window_ends"] = event.window_ends
    return values


def _decided_terms(tx: Tx, purchase_id: str) -> tuple[str, int, str] | None:
    past = LoggedState()
    for row in tx.proven(purchase_id, skip=True):
        past.take(row)
    told = past.purchases.get(purchase_id)
    if told is None:
        return None
    service = None if told.settle == X402 else told.words.get("service")
    return told.provider.lower(), told.amount, service_hash(service)
