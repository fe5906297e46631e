"""Judge a request by current rules and balances, without holding anything."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.domain.purchase.decision import Decision, decide
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.purchase.request import Request
from coordinator.domain.usdc import Usdc
from coordinator.ledger.tx.facts import read_facts
from coordinator.ledger.tx.transaction import Tx


@dataclass(frozen=True, slots=True)
class Judge:
    """Decides for one treasury; ``minimum`` is the least amount that the rail can carry.

    ``wallet`` pays for HTTP requests.
    """

    minimum: Usdc
    treasury: str
    wallet: str | None = None

    def decide(
        self, tx: Tx, request: Request, now: int, *, own: Purchase | None = None
    ) -> Decision:
        """Return the decision; it ignores the hold of ``own``, the purchase being approved.

        LedgerTampered when the task or session is not as the audit log tells.
        """
        tx.flush()
        payer = (self.wallet or "") if request.is_x402 else self.treasury
        facts = read_facts(
            tx.connection,
            tx.rules,
            self.minimum,
            payer,
            now,
            tx.opening,
            own=own,
            x402=request.is_x402,
        )
        return decide(request, facts)
