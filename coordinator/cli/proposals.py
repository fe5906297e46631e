"""Proposals among what waits for approvers: withdrawals, early settles and unpauses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from coordinator.cli.approval_card import (
    before,
    needed,
    quorum_of,
    show_next,
    show_past,
    show_words,
)
from coordinator.cli.output import card, heading, lines_of, local_time, table, usdc
from coordinator.domain.purchase.proposal import PREFIXES
from coordinator.domain.statements.recovery import RECOVERY_SECONDS

if TYPE_CHECKING:
    from coordinator.domain.policy.policy import Policy
    from coordinator.domain.purchase.background import Background
    from coordinator.domain.purchase.proposal import Proposal
    from coordinator.domain.statements.signed import SigningRequest
    from coordinator.domain.usdc import Usdc

PREFIX: Final = tuple(PREFIXES.values())
# By kind: what happens once it is approved, and what of it can't be undone.
_NEXT: Final = {
    "withdraw": (
        "With the last approval the worker sends the USDC.",
        "Once it is sent it can't be undone: nobody can call it back.",
    ),
    "settle": (
        "With the last approval the worker pays the provider at once.",
        "That can't be undone: nobody can dispute the delivery afterwards.",
    ),
    "policy": (
        "With the last approval it is in force for every process: what changes who is paid or who"
        " decides not before `change_delay` after the draft.",
        "What is paid under it stays paid; another draft can replace it.",
    ),
    "unpause": (
        "With the last approval agents spend again at once.",
        "`coordinator pause` stops them again; what was paid meanwhile stays paid.",
    ),
}


def show_proposal(
    proposal: Proposal,
    background: Background | None = None,
    policy: Policy | None = None,
    asked: SigningRequest | None = None,
) -> None:
    """Print what the approver has to know: what, how much, to whom, who proposed it, and why."""
    by = ", ".join(proposal.approved_by) or "nobody yet"
    if proposal.waits and policy is not None:
        by += f" ({needed(quorum_of(policy, amount_of(proposal), proposal.required))})"
    rows: list[tuple[str, Any]] = [
        ("proposes to", question("", proposal, "").strip().removesuffix(" as ?")),
        ("before", before(background.provider) if background else None),
        ("proposed by", proposal.by),
        ("reason", proposal.reason),
        ("proposed", local_time(proposal.created_at)),
        ("expires", local_time(proposal.expires_at) if proposal.waits else None),
        ("approved by", by),
    ]
    card(f"Proposal {proposal.id}", proposal.status.value, rows)
    if background is not None and policy is not None:
        show_past(background.agent, policy)
    if policy is not None and proposal.kind == "policy" and proposal.waits:
        _show_changes(proposal, policy)
    show_words(asked)
    if proposal.waits:
        show_next(*_next(proposal))


def _next(proposal: Proposal) -> tuple[str, ...]:
    if "recovery" not in proposal.terms:
        return _NEXT.get(proposal.kind.value, ())
    at = local_time(proposal.created_at + RECOVERY_SECONDS)
    return (
        f"The treasury's key recovers the policy: in force at {at}, without anybody's approval.",
        "Until then any approver can reject it: `coordinator approvals reject"
        f" {proposal.id} --approver NAME --reason TEXT`.",
    )


def _show_changes(proposal: Proposal, policy: Policy) -> None:
    """Print what a draft changes in the policy in force."""
    from coordinator.domain.policy.changes import changed
    from coordinator.domain.policy.policy import Policy

    changes = changed(policy, Policy.from_dict(proposal.terms["document"]))
    heading("What it changes")
    if not changes:
        lines_of("nothing: it is what is in force")
    rows = [(key, old if old is not None else "–", new or "–") for key, old, new in changes]
    if rows:
        table("key", "before", "after", rows=rows, wrap=("key", "before", "after"))


def amount_of(proposal: Proposal) -> Usdc | None:
    """Return the proposal's amount; None where it has none."""
    from coordinator.domain.usdc import Usdc

    amount = proposal.terms.get("amount")
    return None if amount is None else Usdc.from_base_units(amount)


def question(what: str, proposal: Proposal, approver: str) -> str:
    """The proposal in one line, as a question to the approver."""
    terms, amount = proposal.terms, amount_of(proposal)
    if proposal.kind == "unpause":
        meant = ":".join(filter(None, (terms["scope_kind"], terms["scope_id"])))
        return f"{what} unpausing {meant} as {approver}?"
    if proposal.kind == "settle":
        return f"{what} settling {terms['purchase_id']} early, {usdc(amount)}, as {approver}?"
    if proposal.kind == "withdraw":
        return f"{what} withdrawing {usdc(amount)} to {terms['recipient']} as {approver}?"
    if proposal.kind == "policy":
        return f"{what} putting policy {terms['hash'][:12]}… in force as {approver}?"
    return f"{what} the {proposal.kind} {proposal.id} as {approver}?"


def pending_proposal(proposal: Proposal) -> dict[str, Any]:
    """The proposal among approvals, by the keys that those of purchases have."""
    told, amount = proposal.as_dict(), amount_of(proposal)
    absent = dict.fromkeys(("provider_name", "service", "category", "task", "session"))
    return {
        **absent,
        "refusals": [],
        **told,
        "purchase_id": proposal.terms.get("purchase_id"),
        "agent": None,
        "provider": proposal.terms.get("recipient"),
        "amount": str(amount) if amount is not None else None,
        "purpose": proposal.reason,
        "limits": [],
    }
