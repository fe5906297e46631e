"""Read the figures that monitoring shows, at a cost that does not grow with history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Select, func, select

from coordinator.domain.chain.steps import IN_FLIGHT
from coordinator.domain.purchase.lifecycle import OPEN, Status
from coordinator.domain.purchase.proposal import ProposalStatus
from coordinator.domain.usdc import Usdc
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database
from coordinator.ledger.store.migrate import HEAD, read_revision
from coordinator.ledger.tx.leases import LeaseBook

_s = t.steps.c
_open: Final = sorted(OPEN)
#: What is read, each by an index over rows that are open now or by a table of totals.
QUERIES: Final[Mapping[str, Select[Any]]] = {
    "holds": select(t.holds.c.kind, func.count(), func.sum(t.holds.c.amount))
    .where(t.holds.c.status == "held")
    .group_by(t.holds.c.kind),
    "totals": select(t.purchase_totals.c.status, t.purchase_totals.c.count).where(
        t.purchase_totals.c.status.in_(_open)
    ),
    "oldest": select(t.purchases.c.status, func.min(t.purchases.c.created_at))
    .where(t.purchases.c.status.in_(_open))
    .group_by(t.purchases.c.status),
    "nonces": select(func.min(_s.nonce), func.max(_s.nonce)).where(
        _s.status.in_(sorted(IN_FLIGHT))
    ),
    "notices": select(func.count()).where(t.notices.c.due_at > 0),
    "proposals": select(func.count()).where(
        t.proposals.c.status == ProposalStatus.AWAITING_APPROVAL.value
    ),
    "increases": select(func.count()).where(t.increases.c.status == "waiting"),
    "pauses": select(func.count()).select_from(t.pauses),
    "cursor": select(t.cursors).where(t.cursors.c.name == "books"),
    "observation": select(t.observations).join(
        t.identity, t.identity.c.treasury == t.observations.c.treasury
    ),
    "reconciliation": select(t.last_reconciliation),
}


@dataclass(frozen=True, slots=True)
class Holds:
    """Open holds of one kind: how many, and their USDC."""

    count: int
    amount: Usdc


@dataclass(frozen=True, slots=True)
class Balances:
    """The treasury's balances as the worker last saw them, at unix second ``at``."""

    at: int
    block_number: int
    gas_wei: int
    usdc: Usdc


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The state of the books at unix second ``now``; None for what nobody has written yet.

    ``open`` counts the purchases in each status that is not final, ``oldest`` the unix second at
    which the oldest of each was made. ``nonce_gap`` is the number of nonces from the first that the
    chain has not used to the last that a call owns. ``waiting`` counts what waits for approvers by
    kind. ``block`` is the newest in the books with its time; ``reconciled`` the number of
    discrepancies of the last comparison, and when it was.
    """

    now: int
    revision: str | None
    worker_alive: bool = False
    holds: Mapping[str, Holds] | None = None
    open: Mapping[str, int] | None = None
    oldest: Mapping[str, int] | None = None
    nonce_gap: int = 0
    notices_due: int = 0
    waiting: Mapping[str, int] | None = None
    pauses: int = 0
    block: tuple[int, int] | None = None
    balances: Balances | None = None
    reconciled: tuple[int, int] | None = None

    @property
    def has_this_schema(self) -> bool:
        """Whether the schema is the one of this version."""
        return self.revision == HEAD


class FigureBook:
    """Figures of one database, whoever it belongs to."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self) -> Figures:
        """Return all figures; of a schema that is not this version's its revision alone.

        LedgerUnavailable when the database does not answer.
        """
        with self._database.read() as connection:
            now = self._database.now_ms(connection) // 1000
            revision = read_revision(connection)
            if revision != HEAD:
                return Figures(now=now, revision=revision)
            owner = connection.execute(select(t.identity)).one_or_none()
            rows = {name: connection.execute(query).all() for name, query in QUERIES.items()}
        alive = False
        if owner is not None:
            terms: Any = {"chain_id": owner.chain_id, "signer": owner.signer}
            holder = LeaseBook(self._database, **terms).present()
            alive = holder is not None and holder.alive
        return _figures(now, alive, rows)


def _figures(now: int, alive: bool, rows: Mapping[str, Sequence[Any]]) -> Figures:
    counts = {status: count for status, count in rows["totals"] if count}
    first, last = rows["nonces"][0]
    cursor, seen, compared = (
        rows[name][0] if rows[name] else None
        for name in ("cursor", "observation", "reconciliation")
    )
    return Figures(
        now=now,
        revision=HEAD,
        worker_alive=alive,
        holds={k: Holds(n, Usdc.from_base_units(int(amount))) for k, n, amount in rows["holds"]},
        open={status.value: counts.get(status, 0) for status in _open},
        oldest=dict(tuple(row) for row in rows["oldest"]),
        nonce_gap=0 if first is None else last - first + 1,
        notices_due=_count(rows["notices"]),
        waiting={
            "purchase": counts.get(Status.AWAITING_APPROVAL, 0),
            "proposal": _count(rows["proposals"]),
            "increase": _count(rows["increases"]),
        },
        pauses=_count(rows["pauses"]),
        block=(cursor.number, cursor.at) if cursor else None,
        balances=_balances(seen) if seen else None,
        reconciled=(compared.discrepancies, compared.at) if compared else None,
    )


def _count(rows: Sequence[Any]) -> int:
    return int(rows[0][0])


def _balances(row: Any) -> Balances:
    usdc = Usdc.from_base_units(row.usdc_balance)
    return Balances(row.at, row.block_number, int(row.gas_balance_wei), usdc)
