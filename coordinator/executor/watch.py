"""Warn operators of a condition, once when it begins."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from coordinator.domain.chain.events import EscrowState
from coordinator.domain.chain.gas import eth
from coordinator.domain.chain.steps import Step
from coordinator.domain.notices import TREASURY, Notice, Severity, began, passed
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import Clock, Observation, Ticks
from coordinator.domain.purchase.planning import OpenPurchase
from coordinator.domain.usdc import Usdc
from coordinator.ledger.spend.purchases import PurchaseBook
from coordinator.ledger.tx.notices import NoticeBook

log = logging.getLogger(__name__)

_STUCK_SECONDS: Final = 600


class Watch:
    """Writes a notice when a condition begins and when it ends."""

    def __init__(
        self, *, purchases: PurchaseBook, notices: NoticeBook, clock: Clock, ticks: Ticks
    ) -> None:
        self._purchases = purchases
        self._notices = notices
        self._clock = clock
        self._ticks = ticks
        self._lane_first: int | None = None
        self._lane_since = 0.0
        self._standing: dict[str, bool] = {}
        self._closing: set[str] = set()

    def take_over(self) -> None:
        """Forget the conditions seen: another executor may have acted meanwhile."""
        self._standing.clear()
        self._closing.clear()

    def look(self, policy: Policy, purchases: Sequence[OpenPurchase], seen: Observation) -> None:
        """Warn of low gas, a rail in trouble, windows that close, and stranded escrows."""
        gas, mark = seen.gas_balance_wei, policy.alerts.gas_balance_below_eth
        few = (
            f"the treasury has {eth(gas)} ETH for gas, below the policy's {eth(mark)}: send it ETH"
        )
        self._condition("gas_balance_low", gas < mark, few)
        fees = "fees are above COORDINATOR_MAX_FEE_GWEI: nothing is signed until they fall"
        self._condition("fees_above_ceiling", seen.fees is None, fees)
        trouble = seen.rail_trouble
        self._condition("rail_trouble", trouble is not None, f"new purchases wait: {trouble}")
        for purchase in purchases:
            self._warn_of(purchase, policy, seen)

    def look_at_former(self, account: str, *, gas_wei: int, needed_wei: int) -> None:
        """Warn that a former account has too little ETH to end what it began."""
        few = (
            f"former account {account} has {eth(gas_wei)} ETH, and ending its escrows and moving"
            f" its USDC may cost {eth(needed_wei)}: send it ETH"
        )
        self._condition("former_gas_balance_low", gas_wei < needed_wei, few, subject=account)

    def look_at_drift(self, drift: Usdc, allowed: Usdc) -> bool:
        """Return whether balance and journal differ by more than allowed, with a notice if so."""
        drifts = drift > allowed
        why = f"balance and journal differ by {drift} USDC; at most {allowed} is allowed"
        self._condition("drift", drifts, why, Severity.CRITICAL)
        return drifts

    def look_at_float(self, why: str | None) -> None:
        """Warn where the wallet's float is below its mark and can't be filled."""
        self._condition("x402_float_low", why is not None, why or "")

    def look_at_lane(self, in_flight: Sequence[Step], refused: str | None = None) -> None:
        """Warn when the first step in the lane is refused by every node, or mined by no block."""
        first = in_flight[0] if in_flight else None
        if first is None or first.id != self._lane_first:
            self._lane_first = first.id if first else None
            self._lane_since = self._ticks()
        stuck = first is not None and self._ticks() - self._lane_since >= _STUCK_SECONDS
        what = f"step={first.kind} nonce={first.nonce}" if first else ""
        said = f"{what} is pending for {_STUCK_SECONDS // 60} minutes, and later ones wait for it"
        self._condition("lane_stuck", stuck, said)
        self._condition("sends_refused", refused is not None, refused or "")

    def _warn_of(self, purchase: OpenPurchase, policy: Policy, seen: Observation) -> None:
        escrow = next((e for e in purchase.escrows if e.linked), None)
        if escrow is None:
            return
        closes = escrow.window_ends
        soon = closes is not None and closes - seen.head.at <= policy.alerts.window_closes_within
        if escrow.state is EscrowState.DELIVERED and soon:
            self._window_closes(purchase)
        late = seen.head.at > escrow.deadline
        if escrow.state is EscrowState.STARTED and late and purchase.stranded is None:
            message = (
                f"{purchase.amount} USDC: the provider started but did not deliver by the"
                " deadline; only the provider can free it"
            )
            log.error("purchase_stranded purchase_id=%s", purchase.id)
            self._purchases.note_stranded(purchase.id, message, now=self._clock())

    def _window_closes(self, purchase: OpenPurchase) -> None:
        if purchase.id in self._closing:
            return
        self._closing.add(purchase.id)
        log.warning("dispute_window_closes purchase_id=%s", purchase.id)
        notice = Notice(
            key=f"dispute_window_closes:{purchase.id}",
            at=self._clock(),
            kind="dispute_window_closes",
            severity=Severity.WARNING,
            subject=purchase.id,
            message=f"{purchase.amount} USDC: the time to dispute this delivery ends soon",
        )
        self._notices.tell([notice])

    def _condition(
        self,
        kind: str,
        stands: bool,
        message: str,
        severity: Severity = Severity.WARNING,
        subject: str = TREASURY,
    ) -> None:
        if self._standing.get(kind) is stands:
            return
        if self._notices.is_active(kind, subject) is not stands:
            now = self._clock()
            if stands:
                log.warning("%s: %s", kind, message)
                self._notices.tell([began(kind, severity, message, now, subject)])
            else:
                log.info("over condition=%s", kind)
                self._notices.tell([passed(kind, f"{kind} is over", now, subject)])
        self._standing[kind] = stands
