"""Cards of what waits for an approver: all that a decision needs, at 60 columns too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from coordinator.cli.command import note
from coordinator.cli.output import (
    card,
    heading,
    lines_of,
    local_time,
    remaining_text,
    table,
    usdc,
)
from coordinator.domain.purchase.background import COUNTED_MAX, DAYS

if TYPE_CHECKING:
    from coordinator.domain.limits.limits import LimitState
    from coordinator.domain.policy.approvals import Quorum
    from coordinator.domain.policy.policy import Policy
    from coordinator.domain.purchase.approval import JudgedApproval
    from coordinator.domain.purchase.background import AgentPast, Background, Decided, ProviderPast
    from coordinator.domain.purchase.purchase import Purchase
    from coordinator.domain.statements.signed import SigningRequest
    from coordinator.domain.usdc import Usdc


def show_approval(
    judged: JudgedApproval,
    background: Background,
    policy: Policy,
    asked: SigningRequest | None,
) -> None:
    """Print a purchase that waits: who, what, to whom, why, and what is left after it."""
    item, p = judged.approval, judged.approval.purchase
    quorum = quorum_of(policy, p.amount, item.required)
    rows: list[tuple[str, Any]] = [
        ("agent", p.agent),
        ("amount", usdc(p.amount)),
        ("provider", p.provider_name),
        ("address", p.provider),
        ("before", before(background.provider)),
        ("purpose", p.purpose),
        ("request to", p.x402.url if p.x402 is not None else None),
        ("service", p.service),
        ("category", p.category),
        ("task", p.task),
        ("session", p.session),
        ("why", p.reason.message if p.reason else None),
        ("asked", local_time(item.created_at)),
        ("expires", local_time(item.expires_at)),
        ("approved by", approved_by(p.approvals, quorum)),
        ("purchase", p.id),
    ]
    card(f"Approval {item.id}", p.status.value, rows)
    if judged.refusals:
        heading("It can't be approved")
        lines_of(*(reason.message for reason in judged.refusals))
    show_headroom(judged.limits, p.amount)
    show_past(background.agent, policy)
    show_words(asked)
    yes = _last_yes(len(item.approved_by), quorum)
    show_next(*(_paid_at_once(p, yes) if p.x402 is not None else _escrowed(p, yes)))


def _escrowed(p: Purchase, yes: str) -> Iterator[str]:
    yield f"{yes} Then the worker pays {usdc(p.amount)} into an escrow for the provider."
    yield (
        f"Until it is paid in, `coordinator purchase cancel {p.id}` stops it. After that it can't"
        " be undone: USDC comes back only if the provider cancels, misses the deadline or loses a"
        " dispute."
    )
    yield "Rejecting ends it: the agent would have to ask again."


def _paid_at_once(p: Purchase, yes: str) -> Iterator[str]:
    yield f"{yes} Then the worker signs that {usdc(p.amount)} go to the address above at once."
    yield (
        "There is no escrow: whoever is paid keeps the USDC, whatever the answer to the request is."
        f" Until it is signed, `coordinator purchase cancel {p.id}` stops it."
    )
    yield "Rejecting ends it: the agent would have to ask again."


def before(past: ProviderPast | None) -> str | None:
    """Say what was done before with the provider's address."""
    if past is None:
        return None
    if past.first_payment and not past.disputed:
        return "first payment to this address"
    return f"{_count(past.settled)} settled, {_count(past.disputed)} disputed"


def show_headroom(limits: Sequence[LimitState], amount: Usdc) -> None:
    """Print what each limit would have left after the amount."""
    if not limits:
        return
    heading(f"Left after these {usdc(amount)}, in USDC")
    rows = [
        (
            f"{state.limit.scope} {state.limit.window.value.replace('_', ' ')}",
            state.limit.amount,
            remaining_text(str(state.remaining - amount)),
        )
        for state in limits
    ]
    table("limit", "of", "left", rows=rows, right=("of", "left"), wrap=("limit",))


def show_past(past: AgentPast | None, policy: Policy) -> None:
    """Print what the agent did in the last days."""
    if past is None:
        return
    heading(f"{past.agent} in the last {DAYS} days")
    asked = "1 request" if past.requests == 1 else f"{_count(past.requests)} requests"
    lines_of(f"{asked}: {past.paid} paid, {past.denied} denied")
    rows = [
        (
            f"{datetime.fromtimestamp(day.start, policy.zone):%Y-%m-%d}",
            day.usage.spent,
            day.usage.held,
        )
        for day in past.days
        if any(day.usage)
    ]
    if rows:
        table("day", "spent", "held", rows=rows, right=("spent", "held"))


def show_words(asked: SigningRequest | None) -> None:
    """Print what is signed, in words."""
    if asked is None:
        return
    heading("What is signed")
    lines_of(*asked.statement.as_words())
    lines_of(f"for the treasury {asked.trust.treasury} on chain {asked.trust.chain_id}")


def show_next(*sentences: str) -> None:
    """Print what happens next and what can't be undone."""
    heading("What happens next")
    lines_of(*sentences)


def show_decided(decided: Iterable[Decided]) -> None:
    """Tell on stderr who decided it, and when."""
    for one in decided:
        why = f": {one.reason}" if one.reason else ""
        note(f"{one.decision} by {one.approver}, {local_time(one.at)}{why}")


def approved_by(decisions: Iterable[Any], quorum: Quorum) -> str:
    """Say who approved it so far, when, and how many it takes."""
    said = [f"{d.approver}, {local_time(d.at)}" for d in decisions if d.decision == "approved"]
    return f"{'; '.join(said) or 'nobody yet'} ({needed(quorum)})"


def quorum_of(policy: Policy, amount: Usdc | None, required: int) -> Quorum:
    """Return the approvals that it takes under the policy in force, and when it was asked."""
    quorum = policy.approvals.quorum(amount)
    return quorum.model_copy(update={"required": max(quorum.required, required)})


def needed(quorum: Quorum) -> str:
    groups = f", of each of {', '.join(quorum.from_each)} one" if quorum.from_each else ""
    return f"{quorum.required} needed{groups}"


def _last_yes(approved: int, quorum: Quorum) -> str:
    missing = quorum.required - approved
    if missing > 1:
        return f"After yours it takes {missing - 1} more approval{'s' * (missing > 2)}."
    if quorum.from_each:
        return f"It is approved once one of each of {', '.join(quorum.from_each)} has approved."
    return "Yours is the last approval that it takes."


def _count(number: int) -> str:
    return f"{number} or more" if number >= COUNTED_MAX else str(number)


def headroom(limits: Iterable[LimitState], amount: Usdc) -> Iterator[dict[str, str]]:
    """Yield what each limit would have left after the amount, as JSON."""
    for state in limits:
        yield {
            "scope": str(state.limit.scope),
            "window": state.limit.window.value,
            "limit": str(state.limit.amount),
            "remaining": str(state.remaining - amount),
        }
