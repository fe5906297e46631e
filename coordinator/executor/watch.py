"""Warnings for operators: each told once, when it becomes true."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from coordinator.domain.chain_events import EscrowState
from coordinator.domain.planning import OpenPurchase
from coordinator.domain.policy import Policy
from coordinator.domain.ports import Clock, Observation, Ticks
from coordinator.domain.steps import Step
from coordinator.ledger.purchases import PurchaseBook

log = logging.getLogger(__name__)

_STUCK_SECONDS: Final = 600


class Watch:
    """Remembers what was told, so that it is told again only after it has passed."""

    def __init__(self, *, purchases: PurchaseBook, clock: Clock, ticks: Ticks) -> None:
        self._purchases = purchases
        self._clock = clock
        self._ticks = ticks
        self._lane_first: int | None = None
        self._lane_since = 0.0
        self._told: set[str] = set()

    def look(self, policy: Policy, purchases: Sequence[OpenPurchase], seen: Observation) -> None:
        """Warn of low gas, a rail in trouble, windows that close, and stranded escrows."""
        if seen.gas_balance_wei < policy.alerts.gas_balance_below_eth:
            self._tell("gas", f"gas_balance_low wei={seen.gas_balance_wei}")
        else:
            self._told.discard("gas")
        if seen.fees is None:
            self._tell("fees", "fees_above_ceiling: nothing is signed until they fall")
        else:
            self._told.discard("fees")
        if seen.rail_trouble:
            self._tell("rail", f"rail_trouble reason={seen.rail_trouble}")
        else:
            self._told.discard("rail")
        for purchase in purchases:
            self._warn_of(purchase, policy, seen)

    def look_at_lane(self, in_flight: Sequence[Step]) -> None:
        """Warn of a step that the others wait for and that no block takes."""
        first = in_flight[0] if in_flight else None
        if first is None or first.id != self._lane_first:
            self._lane_first = first.id if first else None
            self._lane_since = self._ticks()
            self._told.discard("lane")
        elif self._ticks() - self._lane_since >= _STUCK_SECONDS:
            minutes = _STUCK_SECONDS // 60
            self._tell(
                "lane",
                f"lane_stuck step={first.kind} nonce={first.nonce}: {minutes} minutes unmined",
            )

    def _warn_of(self, purchase: OpenPurchase, policy: Policy, seen: Observation) -> None:
        escrow = next((e for e in purchase.escrows if e.linked), None)
        if escrow is None:
            return
        closes = escrow.window_ends
        soon = closes is not None and closes - seen.head.at <= policy.alerts.window_closes_within
        if escrow.state is EscrowState.DELIVERED and soon:
            self._tell(f"window:{purchase.id}", f"dispute_window_closes purchase_id={purchase.id}")
        late = seen.head.at > escrow.deadline
        if escrow.state is EscrowState.STARTED and late and purchase.stranded is None:
            message = (
                f"{purchase.amount} USDC: the provider started and did not deliver by the"
                " deadline; only the provider can free it"
            )
            log.error("purchase_stranded purchase_id=%s", purchase.id)
            self._purchases.note_stranded(purchase.id, message, now=self._clock())

    def _tell(self, key: str, message: str) -> None:
        if key not in self._told:
            self._told.add(key)
            log.warning(message)
