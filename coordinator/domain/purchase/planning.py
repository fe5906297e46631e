"""Plan the next step of one purchase, as a pure function of its steps and escrows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from coordinator.domain.chain.events import EMPTY, OVER, EscrowState
from coordinator.domain.chain.steps import PaymentTerms, Step, StepKind, StepStatus
from coordinator.domain.errors import ImpossibleState
from coordinator.domain.policy.policy import Policy
from coordinator.domain.policy.tables import EscrowTerms
from coordinator.domain.ports import ChainLimit
from coordinator.domain.purchase.lifecycle import (
    UNLINKED,
    Status,
    is_settled_unasked,
    may_not_create,
    may_not_dispute,
    may_not_link,
    may_reclaim,
)
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.times import rfc3339
from coordinator.domain.usdc import ZERO, Usdc

_RELINKS_MAX = 5
# Of creates that failed with what was ahead of them, through no fault of their own.
_MISSES_MAX = 20


class Action(StrEnum):
    """Actions of the executor for a purchase."""

    WAIT = "wait"
    CREATE = "create"
    LINK = "link"
    CANCEL = "cancel"
    FAIL = "fail"
    SETTLE = "settle"
    RECLAIM = "reclaim"


@dataclass(frozen=True, slots=True)
class OwnEscrow:
    """An escrow created for a purchase, or linked under its escrow key (``linked``).

    Only ``requester``, the account of ours that opened it, can end it; None where nobody told.
    """

    escrow_id: str
    state: EscrowState
    linked: bool
    amount: Usdc
    deadline: int
    window_ends: int | None
    requester: str | None = None


@dataclass(frozen=True, slots=True)
class OpenPurchase:
    """An approved, unfinished purchase with everything the plan needs.

    ``key_known`` tells that the books have an escrow under its key with other terms.
    """

    id: str
    status: Status
    agent: str | None
    provider: str
    provider_name: str | None
    amount: Usdc
    service: str | None
    escrow_key: str
    approved_at: int
    settle: str
    cancel_wanted: bool
    settle_wanted: bool
    stranded: str | None
    key_known: bool
    escrows: tuple[OwnEscrow, ...]
    steps: tuple[Step, ...]

    @property
    def terms(self) -> PaymentTerms:
        """The terms of its create or link."""
        return PaymentTerms(self.provider, self.amount, self.service, self.escrow_key)

    @property
    def signer(self) -> str | None:
        """The account that alone can go on with it; None while any may create its escrow."""
        for step in self.steps:
            if step.in_flight:
                return step.signer
        for escrow in self.escrows:
            if escrow.state not in OVER:
                return escrow.requester
        return None


@dataclass(frozen=True, slots=True)
class Plan:
    """An action, the escrow it means, and for FAIL and CANCEL why."""

    action: Action
    escrow_id: str | None = None
    reason: Reason | None = None


_WAIT = Plan(Action.WAIT)


def plan(
    purchase: OpenPurchase,
    *,
    paused: bool,
    early_settle: bool,
    disputing: bool,
    now: int,
    chain_time: int,
    final_number: int,
    terms: EscrowTerms,
) -> Plan:
    """Return the next action; WAIT while a transaction in flight could change it.

    ``early_settle`` tells that the policy settles it on delivery, ``disputing`` that a bond is
    held to contest it. ``now`` is the clock's time, ``chain_time`` the latest block's; both unix
    seconds. Up to block ``final_number`` events were read twice and found whole.
    """
    if any(step.in_flight for step in purchase.steps):
        return _WAIT
    linked = next((escrow for escrow in purchase.escrows if escrow.linked), None)
    for escrow in purchase.escrows:
        if escrow.state in EMPTY and linked is not None:
            return Plan(Action.CANCEL, escrow.escrow_id)
    if linked is not None and disputing:
        return _WAIT
    if linked is not None:
        return _plan_funded(purchase, linked, chain_time, early_settle)
    if purchase.status not in UNLINKED:
        return _WAIT
    empty = [escrow for escrow in purchase.escrows if escrow.state in EMPTY]
    if empty:
        return _plan_empty(purchase, empty[-1], paused, chain_time)
    if purchase.escrows:
        return _WAIT
    links = [s for s in purchase.steps if s.kind is StepKind.LINK and s.status is StepStatus.MINED]
    if any(s.receipt and s.receipt.block_number > final_number for s in links):
        # An endpoint left its logs out; they are read again before the block is final.
        return _WAIT
    if links:
        raise ImpossibleState(
            f"purchase {purchase.id} was funded on chain and the books have no escrow of it: an"
            " endpoint left out logs; reconcile with --from-block, then rebuild"
        )
    return _plan_unstarted(purchase, paused, now, terms)


def failed_together(purchase: OpenPurchase) -> int:
    """Count how often its create reverted in a batch with nobody told to be the reason."""
    creates = (step for step in purchase.steps if step.kind is StepKind.CREATE)
    return sum(step.failed_together for step in creates)


def can_dispute(purchase: OpenPurchase, chain_time: int) -> bool:
    """Return whether its escrow may be contested at the latest block's time."""
    linked = next((e for e in purchase.escrows if e.linked), None)
    if linked is None:
        return False
    refusal = may_not_dispute(purchase.status, now=chain_time, window_ends=linked.window_ends)
    return refusal is None


def settles_unasked(policy: Policy, settle: str, agent: str | None, amount: Usdc) -> bool:
    """Return whether a purchase requested under ``settle`` is paid on delivery."""
    threshold = policy.threshold(agent or "")
    return settle == "on_delivery" and (threshold is None or amount <= threshold)


def _plan_funded(
    purchase: OpenPurchase, escrow: OwnEscrow, chain_time: int, early_settle: bool
) -> Plan:
    if may_reclaim(escrow.state, chain_time=chain_time, deadline=escrow.deadline):
        return Plan(Action.RECLAIM, escrow.escrow_id)
    if escrow.state is EscrowState.DELIVERED:
        over = escrow.window_ends is not None and chain_time > escrow.window_ends
        unasked = is_settled_unasked(purchase.settle, unasked=early_settle, window_over=over)
        if purchase.settle_wanted or unasked:
            return Plan(Action.SETTLE, escrow.escrow_id)
    return _WAIT


def _plan_empty(purchase: OpenPurchase, escrow: OwnEscrow, paused: bool, chain_time: int) -> Plan:
    links = [step for step in purchase.steps if step.kind is StepKind.LINK]
    last = links[-1] if links else None
    reason = may_not_link(purchase.status, cancel_wanted=purchase.cancel_wanted, paused=paused)
    if reason is not None:
        return Plan(Action.CANCEL, escrow.escrow_id, reason)
    if chain_time > escrow.deadline:
        reason = Reason(ReasonCode.EXPIRED, "the deadline passed before it was funded")
        return Plan(Action.CANCEL, escrow.escrow_id, reason)
    aimed_here = last is not None and last.call.escrow_id == escrow.escrow_id
    if last is not None and last.status is StepStatus.REVERTED and aimed_here:
        return Plan(Action.CANCEL, escrow.escrow_id, _reverted("funding", last))
    if len(links) >= _RELINKS_MAX:
        reason = Reason(
            ReasonCode.REVERTED, f"{len(links)} funding transactions missed the created escrow"
        )
        return Plan(Action.CANCEL, escrow.escrow_id, reason)
    return Plan(Action.LINK, escrow.escrow_id)


def _plan_unstarted(purchase: OpenPurchase, paused: bool, now: int, terms: EscrowTerms) -> Plan:
    creates = [step for step in purchase.steps if step.kind is StepKind.CREATE]
    refusal = may_not_create(
        purchase.status,
        cancel_wanted=purchase.cancel_wanted,
        paused=paused,
        now=now,
        approved_at=purchase.approved_at,
        create_within=terms.create_within,
    )
    if purchase.cancel_wanted:
        return Plan(Action.FAIL, reason=refusal)
    if creates and creates[-1].status is StepStatus.REVERTED:
        return Plan(Action.FAIL, reason=_reverted("creating", creates[-1]))
    missed = sum(step.was_missed for step in creates)
    if len(creates) - missed >= _RELINKS_MAX or missed >= _MISSES_MAX:
        reason = Reason(ReasonCode.REVERTED, f"{len(creates)} create transactions were lost again")
        return Plan(Action.FAIL, reason=reason)
    if refusal is not None and refusal.code is ReasonCode.PAUSED:
        return _WAIT
    return Plan(Action.CREATE) if refusal is None else Plan(Action.FAIL, reason=refusal)


def _reverted(what: str, step: Step) -> Reason:
    return _refused(what, step.revert_reason or "no reason was given")


def refused_creating(said: str) -> Reason:
    """Say that the contracts refuse to create and fund a purchase's escrow."""
    return _refused("creating", said)


def _refused(what: str, said: str) -> Reason:
    return Reason(ReasonCode.REVERTED, f"the contract refused {what} the escrow: {said}")


def changed_amount(purchase: OpenPurchase, amount: Usdc) -> Reason | None:
    """Say why not to fund it: a quote accepted with the treasury's key elsewhere changed it."""
    if amount == purchase.amount:
        return None
    text = f"the escrow's amount was changed to {amount} USDC on chain before it was funded"
    return Reason(ReasonCode.CANCELLED, text)


def over_chain_limit(amount: Usdc, left: Usdc | None, limit: ChainLimit | None) -> Reason | None:
    """Say why the treasury's contracts would refuse to pay it in the next block.

    ``left`` is what they leave when everything in flight has been mined.
    """
    if limit is None or left is None or amount <= left:
        return None
    text = f"the limit on the chain leaves {max(left, ZERO)} USDC"
    if amount > limit.at_once:
        text += f" and never lets more than {limit.at_once} go at once: its owners have to sign it"
    elif limit.refills_at is None:
        text += ", and nothing comes back: its owners have to raise the total"
    else:
        text += f", and more comes back at {rfc3339(limit.refills_at)}: ask again then"
    return Reason(ReasonCode.CHAIN_LIMIT, text)


def settles_early(policy: Policy, purchase: OpenPurchase, paused: set[tuple[str, str]]) -> bool:
    """Return whether the policy pays it on delivery, and nothing of its provider is in doubt."""
    if ("provider", purchase.provider_name) in paused:
        return False
    return settles_unasked(policy, purchase.settle, purchase.agent, purchase.amount)
