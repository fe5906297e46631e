"""Orders: withdrawals, top-ups of the wallet for HTTP requests, and mints of test tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coordinator.domain.shown import Shown
from coordinator.domain.times import rfc3339
from coordinator.domain.usdc import Usdc


@dataclass(frozen=True, slots=True)
class Order(Shown):
    """A withdrawal, a top-up, or the minting of test tokens; done only by chain evidence."""

    id: str
    kind: str
    recipient: str
    amount: Usdc
    by: str
    reason: str
    status: str
    created_at: int
    message: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON; the amount as a decimal string of USDC."""
        return {
            "order_id": self.id,
            "kind": self.kind,
            "recipient": self.recipient,
            "amount": str(self.amount),
            "by": self.by,
            "reason": self.reason,
            "status": self.status,
            "created_at": rfc3339(self.created_at),
            "message": self.message,
        }
