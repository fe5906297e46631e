"""The rules by which a worker signs USDC for its wallet, and what counts in their window."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, select

from coordinator.domain.chain.steps import IN_FLIGHT, StepKind, StepStatus
from coordinator.domain.policy.model import PolicyModel
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.x402.top_ups import WINDOW_SECONDS
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.proofs.evidence import Seen
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.sums import exact_sum, read_sum

SIGNED: Final = f"{StepKind.TOP_UP}_signed"
_IN_FLIGHT: Final = [status.value for status in IN_FLIGHT]


def signed_units(connection: Connection, audit: AuditLog, *, since: int, after: int = 0) -> int:
    """Add up, in base units, what the log tells was signed after a second and after a row."""
    a = t.audit.c
    query = select(a.subject).where(a.event == SIGNED, a.seq > after, a.at > since).distinct()
    subjects = connection.execute(query).scalars().all()
    rows = audit.proven(connection, *subjects, events=(SIGNED,)) if subjects else []
    return sum(row.body.get("usdc", 0) for row in rows if row.seq > after and row.at > since)


class TopUpRules:
    """Judges top-ups in one transaction, by the policy that the worker believes.

    Its wallet and what it has signed are the worker's own: no row tells them.
    """

    def __init__(
        self, connection: Connection, audit: AuditLog, policy: PolicyModel, seen: Seen, *, now: int
    ) -> None:
        self._connection = connection
        self._audit = audit
        self._policy = policy
        self._seen = seen
        self._now = now
        self._admitted: str | None = None

    def refused(self, recipient: str, amount: Usdc, order_id: str = "") -> str | None:
        """Say why an order of it may not be signed; None when it may, and no other one then."""
        wallet = self._seen.wallet
        if self._seen.pinned and self._seen.policy is None:
            return "no policy is signed by the approvers that this worker pins"
        if wallet is None:
            return "this worker has no wallet for HTTP requests"
        if recipient != wallet:
            return f"this worker's wallet is {wallet}, not {recipient}"
        if amount.base_units <= 0:
            return f"{amount} USDC is no amount"
        if self._admitted not in (None, order_id) or self._another_in_flight(order_id):
            return "another top-up is on its way"
        left = self.left(order_id)
        if left is None:
            return "the policy has no top_up_daily_limit"
        if amount > left:
            return f"the policy's top_up_daily_limit leaves {left} USDC"
        self._admitted = order_id or None
        return None

    def left(self, order_id: str = "") -> Usdc | None:
        """Return what the daily limit leaves beside the order; None where there is no limit."""
        daily = self._policy.request_payments.top_up_daily_limit
        if daily is None:
            return None
        s, since = t.steps.c, self._now - WINDOW_SECONDS
        allocated = select(exact_sum(s.usdc)).where(
            s.kind == StepKind.TOP_UP.value,
            s.status == StepStatus.ALLOCATED.value,
            s.reference != order_id,
        )
        used = (
            self._seen.topped
            + signed_units(self._connection, self._audit, since=since, after=self._seen.count)
            + read_sum(self._connection.execute(allocated).scalar_one())
        )
        return max(daily - Usdc.from_base_units(used), ZERO)

    def _another_in_flight(self, order_id: str) -> bool:
        s = t.steps.c
        query = select(s.id).where(
            s.kind == StepKind.TOP_UP.value, s.status.in_(_IN_FLIGHT), s.reference != order_id
        )
        return self._connection.execute(query.limit(1)).first() is not None
