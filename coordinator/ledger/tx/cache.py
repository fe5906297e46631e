"""Cache of everything a decision reads, valid until another connection commits."""

from __future__ import annotations

from functools import cached_property
from typing import Final

from sqlalchemy import Connection, exists, func, literal_column, select

from coordinator.domain.limits.limits import CounterKey
from coordinator.domain.limits.rules import Opening, Rules
from coordinator.domain.purchase.lifecycle import Status
from coordinator.ledger.audit.log import Tail
from coordinator.ledger.limits.counters import CounterSheet
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared
from coordinator.ledger.tx.facts import TreasuryState, read_treasury_state
from coordinator.ledger.tx.policies import PolicyBook

_OPENINGS_MAX: Final = 10_000
_COUNTERS_MAX: Final = 20_000
_p = t.purchases.c
# Escrows that no agent has asked for since a database was lost: a request may be about one.
_UNATTRIBUTED: Final = Prepared(
    select(exists().where(t.escrows.c.purchase_id.is_(None)) | exists().where(_p.agent.is_(None)))
)
_FIRST_EXPIRY: Final = Prepared(
    select(func.min(t.approvals.c.expires_at))
    .select_from(t.approvals.join(t.purchases, _p.id == t.approvals.c.purchase_id))
    .where(_p.status == literal_column(f"'{Status.AWAITING_APPROVAL}'"))
)


class DecisionCache:
    """Rules, counters and whatever else decisions are made from, each read when it is asked for.

    It follows what the group commit itself writes. ``use`` gives it the connection of the present
    transaction; ``ids`` maps counters to their ids, and outlasts what may have changed.
    """

    def __init__(
        self, connection: Connection, policies: PolicyBook, ids: dict[CounterKey, int]
    ) -> None:
        self.connection = connection
        self._policies = policies
        self._openings: dict[tuple[str, str], Opening | None] = {}
        self._rules_changed = False
        # What audit rows are appended to; None until it was read.
        self.tail: Tail | None = None
        self.sheet = CounterSheet(connection, ids)

    def use(self, connection: Connection) -> None:
        """Read with this connection from here on."""
        self.connection = self.sheet.connection = connection
        if len(self._openings) > _OPENINGS_MAX:
            self._openings.clear()
        if self.sheet.size > _COUNTERS_MAX:
            self.sheet.forget()

    @cached_property
    def rules(self) -> Rules:
        return self._policies.rules(self.connection, changed=self._rules_changed)

    @cached_property
    def treasury_state(self) -> TreasuryState:
        """Pauses, balances and what is promised."""
        return read_treasury_state(self.connection)

    @cached_property
    def first_expiry(self) -> int | None:
        """The time when the first waiting approval expires; None when none waits."""
        found = _FIRST_EXPIRY.one(self.connection)
        return None if found is None else found[0]

    @cached_property
    def any_unattributed(self) -> bool:
        """Whether there is an escrow or a purchase without an agent."""
        found = _UNATTRIBUTED.one(self.connection)
        return found is not None and bool(found[0])

    def opening(self, kind: str, name: str) -> Opening | None:
        """The task or session if it was opened by name."""
        key = (kind, name)
        if key not in self._openings:
            self._openings[key] = self._policies.opening(self.connection, kind, name)
        return self._openings[key]

    def awaits(self, expires_at: int) -> None:
        """Take note of an approval that waits from here on."""
        first = self.first_expiry
        self.first_expiry = expires_at if first is None else min(first, expires_at)

    def forget(self) -> None:
        """Read anew what others change in the transaction at hand; rules they don't change."""
        self.sheet.forget()
        self._openings.clear()
        self.tail = None
        for name in ("treasury_state", "first_expiry", "any_unattributed"):
            self.__dict__.pop(name, None)

    def reread_rules(self) -> None:
        """See the overlays that were written in the transaction at hand."""
        self._rules_changed = True
        self.__dict__.pop("rules", None)
