"""Proposals among what waits for approvers: withdrawals, early settles and unpauses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from coordinator.cli.command import confirm, mode, note, refuse
from coordinator.cli.exits import ExitCode, of_refusal
from coordinator.cli.output import card, emit, readable_time, render, say, usdc
from coordinator.domain.purchase.proposal import PREFIXES

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator
    from coordinator.domain.purchase.proposal import Proposal
    from coordinator.domain.reasons import Reason

PREFIX: Final = tuple(PREFIXES.values())


def approve_one(
    coordinator: Coordinator, proposal_id: str, approver: str, *, dry_run: bool, yes: bool
) -> int:
    """Approve it, or with ``dry_run`` tell whether the approver may; the exit code."""
    proposal = coordinator.proposal(proposal_id)
    if dry_run:
        return _may(coordinator, proposal, approver)
    confirm(question("Approve", proposal, approver), yes=yes)
    return _tell(*coordinator.approve_proposal(proposal_id, approver=approver))


def reject_one(
    coordinator: Coordinator,
    proposal_id: str,
    approver: str,
    reason: str,
    *,
    dry_run: bool,
    yes: bool,
) -> int:
    """Reject it, or with ``dry_run`` tell whether the approver may; the exit code."""
    proposal = coordinator.proposal(proposal_id)
    if dry_run:
        return _may(coordinator, proposal, approver)
    confirm(question("Reject", proposal, approver), yes=yes)
    return _tell(*coordinator.reject_proposal(proposal_id, approver=approver, reason=reason))


def show_proposal(proposal: Proposal) -> None:
    """Print what the approver has to know: what, how much, to whom, who proposed it, and why."""
    by = ", ".join(proposal.approved_by) or "nobody yet"
    rows: list[tuple[str, Any]] = [
        ("proposes to", question("", proposal, "").strip().removesuffix(" as ?")),
        ("proposed by", proposal.by),
        ("reason", proposal.reason),
        ("proposed", readable_time(proposal.created_at)),
        ("expires", readable_time(proposal.expires_at) if proposal.waits else None),
        ("approved by", f"{by} ({proposal.required} needed)" if proposal.waits else by),
    ]
    card(f"Proposal {proposal.id}", proposal.status.value, rows)


def question(what: str, proposal: Proposal, approver: str) -> str:
    """The proposal in one line, as a question to the approver."""
    from coordinator.domain.usdc import Usdc

    terms = proposal.terms
    if proposal.kind == "unpause":
        meant = ":".join(filter(None, (terms["scope_kind"], terms["scope_id"])))
        return f"{what} unpausing {meant} as {approver}?"
    amount = usdc(Usdc.from_base_units(terms["amount"]))
    if proposal.kind == "settle":
        return f"{what} settling {terms['purchase_id']} early, {amount}, as {approver}?"
    return f"{what} withdrawing {amount} to {terms['recipient']} as {approver}?"


def pending_proposal(proposal: Proposal) -> dict[str, Any]:
    """The proposal among approvals, by the keys that those of purchases have."""
    from coordinator.domain.usdc import Usdc

    told = proposal.as_dict()
    amount = proposal.terms.get("amount")
    absent = dict.fromkeys(("provider_name", "service", "category", "task", "session"))
    return {
        **absent,
        "refusals": [],
        **told,
        "purchase_id": proposal.terms.get("purchase_id"),
        "agent": None,
        "provider": proposal.terms.get("recipient"),
        "amount": str(Usdc.from_base_units(amount)) if amount is not None else None,
        "purpose": proposal.reason,
        "limits": [],
    }


def _may(coordinator: Coordinator, proposal: Proposal, approver: str) -> int:
    from coordinator.domain.purchase.deciding import may_not_decide_proposal

    refusal = may_not_decide_proposal(coordinator.wiring.policies.current(), proposal, approver)
    if refusal is not None:
        return refuse(refusal, of_refusal(refusal))
    if mode.json:
        emit({"dry_run": True, **pending_proposal(proposal)})
    else:
        show_proposal(proposal)
        say()
        say(f"dry run: {approver} may decide this; nothing was changed")
    return ExitCode.OK


def _tell(proposal: Proposal, refusal: Reason | None) -> int:
    if refusal is not None and refusal.code.value != "more_approvals_required":
        return refuse(refusal, of_refusal(refusal), proposal=proposal.as_dict())
    render(proposal, show_proposal)
    if proposal.waits:
        note("it needs more approvals")
        return ExitCode.AWAITING_APPROVAL
    return ExitCode.OK
