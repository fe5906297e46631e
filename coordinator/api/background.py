"""Gather what an approver should know of a provider's and an agent's past."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coordinator.domain.limits.limits import Scope, ScopeKind
from coordinator.domain.purchase.background import DAYS, AgentPast, Background
from coordinator.domain.purchase.proposal import PREFIXES, ProposalKind
from coordinator.domain.windows import Window

if TYPE_CHECKING:
    from coordinator.wiring import Wiring

_PROPOSAL: Final = tuple(PREFIXES.values())
_INCREASE: Final = "inc_"
_DAY_SECONDS: Final = 86_400


def background_of(wiring: Wiring, approval_id: str) -> Background:
    """Return the background of an approval, a request for more or a proposal."""
    address, agent = _about(wiring, approval_id)
    return Background(
        None if address is None else wiring.backgrounds.provider(address),
        None if agent is None else _past(wiring, agent),
    )


def _about(wiring: Wiring, approval_id: str) -> tuple[str | None, str | None]:
    """Return the provider's address and the agent that a decision is about."""
    if approval_id.startswith(_INCREASE):
        return None, wiring.budgets.increases.get(approval_id).agent
    if not approval_id.startswith(_PROPOSAL):
        purchase = wiring.approvals.get(approval_id).purchase
        return purchase.provider, purchase.agent
    proposal = wiring.proposals.get(approval_id)
    if proposal.kind is ProposalKind.SETTLE:
        purchase = wiring.purchases.get(proposal.terms["purchase_id"])
        return purchase.provider, purchase.agent
    return None, None


def _past(wiring: Wiring, agent: str) -> AgentPast:
    now = wiring.clock()
    days = wiring.limits.used(
        Scope(ScopeKind.AGENT, agent),
        since=now - DAYS * _DAY_SECONDS,
        until=now + 1,
        by=Window("daily"),
    )[-DAYS:]
    since = days[0].start if days else now
    return AgentPast(agent, wiring.backgrounds.counts(agent, since=since), days)
