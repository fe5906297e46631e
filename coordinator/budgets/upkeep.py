"""Work that is due by the clock: abandoned holds, expired requests, shares, reviews."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from coordinator.budgets.budgets import Budgets
from coordinator.domain.notices import Notice, Severity
from coordinator.domain.policy.tables import Rebalance
from coordinator.domain.ports import Ticks
from coordinator.ledger.tx.notices import NoticeBook

log = logging.getLogger(__name__)


_EVERY_SECONDS: Final = 5


@dataclass(slots=True, kw_only=True)
class Upkeep:
    """Runs in the rounds of whoever acts; each part is done once however many run it."""

    budgets: Budgets
    notices: NoticeBook
    ticks: Ticks
    # Puts drafts of the policy in force whose delay is over.
    policies_due: Callable[[], None]
    _looked_at: float | None = None

    def run(self, now: int) -> None:
        """Do what is due at ``now`` (unix seconds); looked for every five seconds."""
        ticks = self.ticks()
        if self._looked_at is not None and ticks - self._looked_at < _EVERY_SECONDS:
            return
        self._looked_at = ticks
        if count := self.budgets.costs.post_abandoned(now=now):
            log.warning("costs_abandoned count=%s", count)
        self.budgets.increases.expire_due(now=now)
        self.policies_due()
        policy = self.budgets.policies.current()
        for name, pool in policy.pools.items():
            if pool.rebalance is not None:
                self._rebalance(name, pool.rebalance, now)
        if policy.reviews is not None:
            self._review(policy.reviews.every, now)

    def _rebalance(self, pool: str, plan: Rebalance, now: int) -> None:
        last = self.budgets.allocations.shared_at(pool)
        if last is not None and now - last < plan.every:
            return
        sharing = self.budgets.share(pool, "rebalance")
        if plan.apply == "auto":
            self.budgets.apply(sharing, by="coordinator", reason="due by the policy's rebalance")
            return
        self.notices.tell(
            [
                Notice(
                    key=f"rebalance:{pool}:{now // plan.every}",
                    at=now,
                    kind="rebalance_due",
                    severity=Severity.INFO,
                    subject=f"pool:{pool}",
                    message=(
                        f"pool {pool} is due to be shared again: preview with `coordinator limits"
                        f" rebalance --pool {pool} --dry-run`, then apply it without --dry-run"
                    ),
                )
            ]
        )

    def _review(self, every: int, now: int) -> None:
        if self.notices.was_written(f"review:{now // every}"):
            return
        found = self.budgets.review()
        self.notices.tell(
            [
                Notice(
                    key=f"review:{now // every}",
                    at=now,
                    kind="review",
                    severity=Severity.WARNING if found else Severity.INFO,
                    subject="budgets",
                    message="; ".join(one.message for one in found) or "nothing needs a look",
                )
            ]
        )
