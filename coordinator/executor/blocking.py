"""Find the obstacle of an unfinished purchase."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from coordinator.domain.purchase.blocker import Blocker, BlockerCode
from coordinator.domain.purchase.lifecycle import X402, Status
from coordinator.domain.purchase.purchase import Purchase
from coordinator.ledger.tx.leases import LeaseBook
from coordinator.ledger.tx.notices import NoticeBook
from coordinator.ledger.tx.operations import OperationsBook
from coordinator.ledger.tx.policies import PolicyBook

# Conditions that whoever acts has told of, the hardest first.
_CONDITIONS: Final = {
    "fees_above_ceiling": (
        BlockerCode.FEE_CEILING,
        "fees are above COORDINATOR_MAX_FEE_GWEI: raise it, or wait until they fall",
    ),
    "gas_balance_low": (
        BlockerCode.GAS,
        "the treasury has too little ETH for gas: send it some (see `coordinator gas`)",
    ),
    "rail_trouble": (
        BlockerCode.RAIL,
        "the escrow contract takes no new purchases at the moment (see `coordinator doctor`)",
    ),
    "lane_stuck": (
        BlockerCode.LANE,
        "an earlier transaction has been pending for minutes (see `coordinator gas`)",
    ),
}


class Blockers:
    """Names the blocker of a purchase from the books and from this process's executor.

    ``trouble`` is what made the executor's last round here impossible, or None; ``starting`` tells
    that an executor here is about to act.
    """

    def __init__(
        self,
        *,
        operations: OperationsBook,
        policies: PolicyBook,
        notices: NoticeBook,
        leases: LeaseBook,
        trouble: Callable[[], str | None],
        starting: Callable[[], bool],
    ) -> None:
        self._operations = operations
        self._policies = policies
        self._notices = notices
        self._leases = leases
        self._trouble = trouble
        self._starting = starting

    def of(self, purchase: Purchase) -> Blocker | None:
        """Return the purchase's obstacle, or None when it only takes time."""
        if purchase.final or purchase.needs_approval:
            return None
        unfunded = purchase.status in (Status.APPROVED, Status.CREATED)
        if purchase.x402 is not None and purchase.x402.signed_at is not None:
            # It is signed: only whoever has it goes on.
            unfunded = False
        if unfunded and (blocker := self._paused(purchase)):
            return blocker
        if trouble := self._trouble():
            return Blocker(BlockerCode.ENDPOINT, f"{trouble} (see `coordinator doctor`)")
        holder = self._leases.present()
        if (holder is None or not holder.alive) and not self._starting():
            text = "no worker is running (start `coordinator worker`)"
            return Blocker(BlockerCode.NOBODY_ACTS, text)
        if unfunded and purchase.settle != X402:
            for kind, (code, text) in _CONDITIONS.items():
                if self._notices.is_active(kind):
                    return Blocker(code, text)
        return None

    def _paused(self, purchase: Purchase) -> Blocker | None:
        stops = self._policies.current().stops(
            purchase.agent, purchase.provider_name, x402=purchase.settle == X402
        )
        for pause in self._operations.pauses():
            if (pause.scope_kind, pause.scope_id) in stops:
                what = "spending" if pause.scope_kind == "organisation" else str(pause)
                text = f"{what} is paused by {pause.by}: {pause.reason}"
                text += "; an approver must run `coordinator unpause`"
                return Blocker(BlockerCode.PAUSED, text)
        return None
