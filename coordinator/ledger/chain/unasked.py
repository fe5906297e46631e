"""Count what an agent is paid in a day without people, by the worker's own signatures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, select

from coordinator.domain.chain.steps import StepKind, StepStatus
from coordinator.domain.policy.model import PolicyModel
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window
from coordinator.ledger.proofs.audit_fold import LoggedPurchase
from coordinator.ledger.proofs.evidence import Evidence, Seen, Unasked
from coordinator.ledger.store import schema as t

#: Rows that tell that the USDC of a purchase may leave.
PAYS: Final = ("link_signed", "x402_signed")


class UnaskedToday:
    """Purchases that nobody was asked about: signed before, and admitted in one transaction.

    A purchase counts on the day on which it was asked, but never on one that has not come: a host
    that decides may date it back as far as ``create_within`` allows, and no further.
    """

    def __init__(self, connection: Connection, evidence: Evidence, seen: Seen, *, now: int) -> None:
        self._connection = connection
        self._evidence = evidence
        self._seen = seen
        self._now = now
        self._counted: dict[str, Unasked] | None = None

    def over(self, policy: PolicyModel, past: LoggedPurchase) -> str | None:
        """Say that it is more than its agent may be paid in a day without approval."""
        agent_id = past.agent or ""
        agent = policy.agent(agent_id)
        most = agent.auto_approve_daily_limit if agent is not None else None
        if not isinstance(most, Usdc) or past.approval is not None:
            return None
        asked = self._of(past)
        start, end = policy.calendar.bounds(Window.DAILY, asked.at)
        used = sum(
            one.units
            for purchase_id, one in self._signed().items()
            if purchase_id != past.id
            and one.agent == agent_id
            and start <= one.at
            and (end is None or one.at < end)
        )
        if used + past.amount <= most.base_units:
            return None
        left = Usdc.from_base_units(max(0, most.base_units - used))
        return f"{agent_id} may spend {most} USDC a day without approval; {left} remains"

    def admit(self, past: LoggedPurchase) -> None:
        """Count a purchase that is signed in this transaction."""
        if past.approval is None and past.agent is not None:
            self._signed()[past.id] = self._of(past)

    def _signed(self) -> dict[str, Unasked]:
        if self._counted is None:
            told = self._evidence.purchases(self._connection, self._since())
            self._counted = dict(self._seen.unasked) | {
                of: self._of(past)
                for of, past in told.items()
                if isinstance(past, LoggedPurchase) and past.approval is None
            }
        return self._counted

    def _of(self, past: LoggedPurchase) -> Unasked:
        return Unasked(past.agent or "", min(past.asked_at, self._now), past.amount)

    def _since(self) -> Iterable[str]:
        """Return the purchases with links that were allocated, or signed since the checkpoint."""
        s, a = t.steps.c, t.audit.c
        allocated = select(s.purchase_id).where(
            s.kind == StepKind.LINK.value, s.status == StepStatus.ALLOCATED.value
        )
        signed = select(a.subject).where(a.seq > self._seen.count, a.event.in_(PAYS))
        rows = [self._connection.execute(query).scalars() for query in (allocated, signed)]
        return sorted({of for found in rows for of in found if of is not None})
