"""Let purchases follow their escrows, event by event."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, null, select, update

from coordinator.domain.chain.events import ChainEvent, EventKind
from coordinator.domain.purchase.lifecycle import FINAL, Status, may_follow
from coordinator.domain.reasons import ReasonCode
from coordinator.ledger.chain.escrow_fold import Escrow, EscrowFold, name_apart, status_of
from coordinator.ledger.chain.strays import stop_payments
from coordinator.ledger.spend.adoption import attribute_to_organisation
from coordinator.ledger.spend.holds import reopen_holds
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared, batched
from coordinator.ledger.tx.pausing import begin_recovery, pause_everything
from coordinator.ledger.tx.transaction import Tx

log = logging.getLogger(__name__)

_p = t.purchases.c
_AT_ONCE: Final = 500
FOLLOWED: Final = frozenset(
    {
        EventKind.ESCROW_CREATED,
        EventKind.ESCROW_FUNDED,
        EventKind.ESCROW_MOVED,
        EventKind.AUTHORISATION_USED,
    }
)
#: Events with which an escrow begins, so that they are of an account of ours.
BEGUN: Final = frozenset({EventKind.ESCROW_CREATED, EventKind.AUTHORISATION_USED})


class _Owner(NamedTuple):
    id: str
    status: str
    escrow_key: str
    settle: str
    reason_code: str | None
    reason_message: str | None


# A parameter may not have the name of a column that is set.
_MOVE: Final = Prepared(
    update(t.purchases)
    .where(_p.id == bindparam("of"))
    .values(
        status=bindparam("to_status"),
        updated_at=bindparam("now"),
        stranded=null(),
        ended_at_block=bindparam("ended"),
        reason_code=bindparam("code"),
        reason_message=bindparam("message"),
    )
)


def apply_events(tx: Tx, events: Iterable[ChainEvent], now: int) -> Sequence[str]:
    """Bring escrows and their purchases to what ``events`` say; strangers' escrows are ignored.

    Returns what to log once it is committed, a line for each move of a purchase.
    USDC that left under a key that no purchase has (after a lost database) gets a purchase that
    counts against the organisation, and spending pauses; what was paid by an authorisation pauses
    payments for HTTP requests alone. A move that the table of moves does not have pauses spending,
    too; it is taken all the same.
    """
    followed = [event for event in events if event.kind in FOLLOWED and event.escrow_id]
    if not followed:
        return ()
    followed = name_apart(tx.connection, followed)
    following = _Following(tx, now)
    following.read(followed)
    moved = [line for event in followed if (line := following.take(event)) is not None]
    following.write()
    return moved


def refold(tx: Tx, escrow_ids: Sequence[str]) -> None:
    """Make each escrow's row what its stored events say; none is left where they say nothing."""
    escrows = EscrowFold(tx)
    escrows.read(escrow_ids)
    escrows.refold(escrow_ids)
    escrows.write()


class _Following:
    """Takes events in their order. A purchase's row is written once, with its last move.

    Whatever reads the database between two events is preceded by ``write``.
    """

    def __init__(self, tx: Tx, now: int) -> None:
        self._tx = tx
        self._now = now
        self._escrows = EscrowFold(tx)
        self._purchases: dict[str, _Owner] = {}
        self._moves: dict[str, Mapping[str, Any]] = {}

    def read(self, events: Sequence[ChainEvent]) -> None:
        """Read all that the events may change, in few statements."""
        ids = dict.fromkeys(event.escrow_id for event in events if event.escrow_id)
        self._escrows.read(ids, events)
        self._read_owners(self._escrows.owners())

    def take(self, event: ChainEvent) -> str | None:
        """Fold the event's escrow and move its purchase; what to log, None when none moved."""
        assert event.escrow_id is not None
        if event.kind not in BEGUN and not self._escrows.knows(event.escrow_id):
            return None
        escrow = self._escrows.take(event)
        if escrow.purchase_id is not None:
            return self._follow(escrow, escrow.purchase_id, event)
        unknown = not self._escrows.has_purchase(event.escrow_key)
        if event.kind is EventKind.ESCROW_FUNDED and unknown:
            why = "USDC was paid for purchases unknown to this database: check it, then unpause"
            self.write()
            begin_recovery(self._tx, why, now=self._now)
            self._attribute(escrow)
        elif event.kind is EventKind.AUTHORISATION_USED:
            what = f"{event.amount} USDC for {event.provider}: an authorisation nobody asked for"
            stop_payments(self._tx, what, event.tx_hash, now=self._now)
            if unknown:
                self._attribute(escrow)
        return None

    def write(self) -> None:
        self._escrows.write()
        _MOVE.each(self._tx.connection, self._moves.values())
        self._moves = {}

    def _read_owners(self, ids: Iterable[str]) -> None:
        columns = [_p[name] for name in _Owner._fields]
        for part in batched(ids, _AT_ONCE):
            for row in self._tx.connection.execute(select(*columns).where(_p.id.in_(part))):
                self._purchases[row.id] = _Owner(*row)
            self._escrows.read_owned(part)

    def _attribute(self, escrow: Escrow) -> None:
        self.write()
        made = attribute_to_organisation(self._tx, escrow.escrow_id, now=self._now)
        self._escrows.attributed(escrow.escrow_id, made)
        self._purchases[made.id] = _Owner(
            made.id, made.status, made.escrow_key, made.settle, None, None
        )

    def _owner(self, purchase_id: str) -> _Owner:
        if purchase_id not in self._purchases:
            self.write()
            self._read_owners([purchase_id])
        return self._purchases[purchase_id]

    def _follow(self, escrow: Escrow, owner_id: str, event: ChainEvent) -> str | None:
        purchase = self._owner(owner_id)
        before = Status(purchase.status)
        after, ended_at_block = status_of(purchase, self._escrows.of_purchase(owner_id))
        linked = escrow.escrow_key == purchase.escrow_key
        if after is None or before is after or (before in FINAL and not linked):
            return None
        expected = may_follow(before, after, settle=purchase.settle)
        if not expected and not _end_was_taken_back(self._tx.connection, purchase):
            self.write()
            _overrule(self._tx, purchase, after, self._now)
        self._move(purchase, after, ended_at_block if after in FINAL else None)
        self._tx.record(
            self._now,
            f"purchase_{after}",
            owner_id,
            before=before.value,
            escrow_id=escrow.escrow_id,
            tx_hash=event.tx_hash,
            block=event.block_number,
        )
        return f"purchase_{after} purchase_id={owner_id} tx_hash={event.tx_hash}"

    def _move(self, purchase: _Owner, after: Status, ended_at_block: int | None) -> None:
        code: str | None = None
        message: str | None = None
        if after is Status.CANCELLED:
            code, message = purchase.reason_code, purchase.reason_message
            if code is None:
                code = ReasonCode.CANCELLED.value
                message = _why_cancelled(Status(purchase.status))
        moved = purchase._replace(status=after.value, reason_code=code, reason_message=message)
        self._purchases[purchase.id] = moved
        self._moves[purchase.id] = {
            "of": purchase.id,
            "to_status": after.value,
            "now": self._now,
            "ended": ended_at_block,
            "code": code,
            "message": message,
        }


def _end_was_taken_back(connection: Connection, purchase: _Owner) -> bool:
    """Whether an ending that was not final yet is overtaken: its hold still counts in full."""
    query = select(t.holds.c.id).where(
        t.holds.c.purchase_id == purchase.id,
        t.holds.c.kind == "purchase",
        t.holds.c.status == "held",
    )
    return Status(purchase.status) in FINAL and connection.execute(query).first() is not None


def _overrule(tx: Tx, purchase: _Owner, after: Status, now: int) -> None:
    """Take a move that the chain made and the table of moves does not have: after a restore.

    A hold that ended is held again, because the USDC has left; spending pauses until an approver
    has looked.
    """
    reopen_holds(tx, purchase.id)
    why = f"the chain moved {purchase.id} from {purchase.status} to {after}: check it, then unpause"
    pause_everything(tx, why, by="executor", now=now)
    before = purchase.status
    log.error("contradiction purchase_id=%s before=%s after=%s", purchase.id, before, after)
    tx.record(now, "contradiction", purchase.id, before=before, after=after)


def _why_cancelled(before: Status) -> str:
    if before in (Status.APPROVED, Status.CREATED):
        return "the escrow was cancelled before it was funded"
    if before is Status.DISPUTED:
        return "the dispute was decided with a refund"
    return "the escrow was cancelled and refunded; see penalty and refunded"
