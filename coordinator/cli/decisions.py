"""Decide what waits for an approver, whatever it is: one path for every id."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import typer

from coordinator.cli.approval_card import headroom, show_approval, show_decided, show_words
from coordinator.cli.command import at_terminal, confirm, mode, note, refuse
from coordinator.cli.exits import ExitCode, of_purchase, of_refusal
from coordinator.cli.increase_card import PREFIX as INCREASE
from coordinator.cli.increase_card import pending_increase, show_increase
from coordinator.cli.increase_card import question as increase_question
from coordinator.cli.output import emit, local_time, render, say, usdc
from coordinator.cli.proposals import PREFIX as PROPOSAL
from coordinator.cli.proposals import pending_proposal, show_proposal
from coordinator.cli.proposals import question as proposal_question
from coordinator.cli.purchase_card import show_purchase
from coordinator.cli.purchases import drive, tell_worker
from coordinator.cli.signing import (
    Means,
    signature_of,
    somebody_signs,
)
from coordinator.domain.errors import UnknownId
from coordinator.domain.purchase.background import Decided

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator
    from coordinator.domain.limits.increase import Increase
    from coordinator.domain.purchase.approval import PendingApproval
    from coordinator.domain.purchase.proposal import Proposal
    from coordinator.domain.purchase.purchase import Answer
    from coordinator.domain.reasons import Reason
    from coordinator.domain.statements.signed import GivenSignature, SigningRequest

# What an answer means that leaves it waiting for others.
# It counted, and something else is still waited for.
_WAITS_ON: Final = frozenset({"more_approvals_required", "change_delayed"})
# Of refusals because others decided it before.
_DECIDED: Final = ("approval_not_found", "rejected", "cancelled")


@dataclass(frozen=True, slots=True)
class Decidable:
    """One thing that waits for approvers, and how it is shown and decided.

    ``show`` prints it with what is signed, and returns whether it waits still; ``told``, ``would``
    (of a dry run) and ``subject`` (of a refusal) are JSON. ``refusal`` says why an approver can't
    approve it (True) or reject it. The last two return exit codes.
    """

    id: str
    agent: str | None
    what: str
    why: str | None
    expires_at: int
    verb: str
    question: Callable[[str, str], str]
    show: Callable[[SigningRequest | None], bool]
    told: Callable[[], dict[str, Any]]
    would: Callable[[], dict[str, Any]]
    subject: Callable[[], dict[str, Any]]
    refusal: Callable[[str, bool], Reason | None]
    decided: Callable[[], Iterable[Decided]]
    approve: Callable[[str, GivenSignature | None], int]
    reject: Callable[[str, str, GivenSignature | None], int]


def find_decision(
    coordinator: Coordinator, approval_id: str, *, wait: bool = False, timeout_seconds: int = 0
) -> Decidable:
    """Return what has this id; UnknownId when nothing has. ``wait`` is for a purchase's funding."""
    if approval_id.startswith(INCREASE):
        return increase_decision(coordinator, approval_id)
    if approval_id.startswith(PROPOSAL):
        return _of_proposal(coordinator, coordinator.proposal(approval_id))
    item = coordinator.wiring.approvals.get(approval_id)
    return _of_purchase(coordinator, item, wait, timeout_seconds)


def waiting_decisions(
    coordinator: Coordinator, *, wait: bool = False, timeout_seconds: int = 0
) -> list[Decidable]:
    """Return all that waits: purchases, requests for more, proposals, each oldest first."""
    return [
        *(_of_purchase(coordinator, i, wait, timeout_seconds) for i in coordinator.approvals()),
        *(_of_increase(coordinator, asked) for asked in coordinator.increases()),
        *(_of_proposal(coordinator, one) for one in coordinator.proposals()),
    ]


def increase_decision(coordinator: Coordinator, increase_id: str) -> Decidable:
    """Return the request for more; UnknownId when there is none."""
    return _of_increase(coordinator, coordinator.wiring.budgets.increases.get(increase_id))


def decide(
    coordinator: Coordinator,
    found: Decidable,
    approver: str,
    means: Means,
    *,
    reason: str | None = None,
    dry_run: bool = False,
    yes: bool = False,
    shown: bool = False,
) -> int:
    """Approve it, or reject it for a ``reason``, in the approver's name; the exit code.

    Who signs is shown what is signed and asked before it is. ``shown``: in a review, where the rest
    was shown before and a no leaves it for later.
    """
    approves = reason is None
    if dry_run:
        return _would_decide(found, approver, approves=approves)
    # Only who may decide it, and whether anybody can: the rest is judged when it is decided.
    refusal = found.refusal(approver, False)
    if refusal is not None:
        return _refused(found, refusal, **found.subject())
    means = means.ready(coordinator, approver, found.id)
    asked = coordinator.statement(found.id, reason=reason) if means.given else None
    verb = found.verb if approves else "Reject"
    if at_terminal() and not yes:
        if shown:
            show_words(asked)
        else:
            found.show(asked)
        say()
        if means.signer is not None:
            verb = f"Sign and {verb.lower()}"
    question = found.question(verb, approver)
    if not shown:
        confirm(question, yes=yes)
    elif not typer.confirm(question, err=True):
        return ExitCode.OK
    signature = signature_of(coordinator, approver, means, asked)
    if reason is None:
        return found.approve(approver, signature)
    return found.reject(approver, reason, signature)


def shown_statement(coordinator: Coordinator, approval_id: str) -> SigningRequest | None:
    """Return what is signed to approve it; None where nobody signs or nothing can be signed."""
    if not somebody_signs(coordinator):
        return None
    try:
        return coordinator.statement(approval_id)
    except UnknownId:
        return None


def _would_decide(found: Decidable, approver: str, *, approves: bool) -> int:
    """Tell what approving or rejecting would come to at this moment."""
    refusal = found.refusal(approver, approves)
    if refusal is not None:
        return _refused(found, refusal, approval=found.told())
    if mode.json:
        emit({"dry_run": True, **found.would()})
    else:
        found.show(None)
        say()
        say(f"dry run: {approver} may decide this; nothing was changed")
    return ExitCode.OK


def _refused(found: Decidable, refusal: Reason | None, **more: Any) -> int:
    """Tell that it was not decided and why: who decided it before, and when."""
    code = refuse(refusal, of_refusal(refusal), **more)
    if not mode.json:
        told = refusal.code.value if refusal is not None else ""
        if told in _DECIDED:
            show_decided(found.decided())
        if told == "approval_expired":
            note(f"it expired {local_time(found.expires_at)}")
        if told == "signature_invalid":
            note(f"look at it again: coordinator approvals show {found.id}")
    return code


def _given(signature: GivenSignature | None) -> dict[str, Any]:
    return {} if signature is None else {"signature": signature}


def _of_purchase(
    coordinator: Coordinator, item: PendingApproval, wait: bool, timeout_seconds: int
) -> Decidable:
    p = item.purchase
    what = f"{usdc(p.amount)} to {p.provider_name or p.provider}"

    def show(asked: SigningRequest | None) -> bool:
        judged = coordinator.judge_approval(item.id)
        if not judged.waits:
            show_purchase(judged.approval.purchase, details=True)
            return False
        policy = coordinator.wiring.policies.current()
        show_approval(judged, coordinator.background(item.id), policy, asked)
        return True

    def told() -> dict[str, Any]:
        judged = coordinator.judge_approval(item.id)
        return {
            **judged.as_dict(),
            "headroom": list(headroom(judged.limits, p.amount)),
            "background": coordinator.background(item.id).as_dict(),
        }

    def decided() -> list[Decided]:
        said = coordinator.get(p.id).approvals
        return [Decided(d.approver, d.decision, d.reason, d.at) for d in said]

    def refusal(approver: str, approves: bool) -> Reason | None:
        judged = coordinator.judge_approval(item.id, approver=approver)
        # What is rejected need not fit.
        return next(iter(judged.refusals), None) if approves else judged.undecidable

    def tell(answer: Answer) -> int:
        purchase = answer.purchase
        if not answer.done:
            return _refused(found, answer.reason, purchase=purchase.as_dict())
        render(purchase, show_purchase)
        if purchase.needs_approval:
            note("it still needs more approvals")
            return ExitCode.AWAITING_APPROVAL
        return ExitCode.OK

    def approve(approver: str, signature: GivenSignature | None) -> int:
        answer = coordinator.approve(item.id, approver=approver, signature=signature)
        if not answer.done or answer.purchase.needs_approval:
            return tell(answer)
        purchase = answer.purchase
        if wait:
            purchase = drive(coordinator, purchase, timeout_seconds)
        else:
            tell_worker(coordinator, purchase)
        render(purchase, show_purchase)
        return of_purchase(purchase, until="funded" if wait else None)

    def reject(approver: str, reason: str, signature: GivenSignature | None) -> int:
        return tell(
            coordinator.reject(item.id, approver=approver, reason=reason, signature=signature)
        )

    found = Decidable(
        id=item.id,
        agent=p.agent,
        what=what,
        why=p.reason.message if p.reason else None,
        expires_at=item.expires_at,
        verb="Approve",
        question=lambda verb, approver: f"{verb} {what} as {approver}?",
        show=show,
        told=told,
        would=told,
        subject=lambda: {"purchase": coordinator.get(p.id).as_dict()},
        refusal=refusal,
        decided=decided,
        approve=approve,
        reject=reject,
    )
    return found


def _of_increase(coordinator: Coordinator, asked: Increase) -> Decidable:
    def read() -> Increase:
        return coordinator.wiring.budgets.increases.get(asked.id)

    def show(request: SigningRequest | None) -> bool:
        present = read()
        show_increase(coordinator, present, coordinator.background(asked.id), request)
        return present.waits and present.expires_at > coordinator.wiring.clock()

    def told() -> dict[str, Any]:
        background = coordinator.background(asked.id).as_dict()
        pending = pending_increase(coordinator, read())
        return {**pending, "headroom": [], "background": background}

    def refusal(approver: str, approves: bool) -> Reason | None:
        from coordinator.domain.limits.increase import may_decide

        return may_decide(coordinator.wiring.policies.current(), read(), approver)

    def tell(answer: Increase) -> int:
        render(answer, partial(show_increase, coordinator))
        if answer.waits:
            note("it needs more approvals")
            return ExitCode.AWAITING_APPROVAL
        return ExitCode.OK

    def approve(approver: str, signature: GivenSignature | None) -> int:
        answer = coordinator.approve_increase(asked.id, approver=approver, **_given(signature))
        if answer.reason is not None:
            return _refused(found, answer.reason, increase=answer.as_dict())
        return tell(answer)

    def reject(approver: str, reason: str, signature: GivenSignature | None) -> int:
        answer = coordinator.reject_increase(
            asked.id, approver=approver, reason=reason, **_given(signature)
        )
        if answer.reason is None or answer.reason.code.value != "rejected":
            return _refused(found, answer.reason, increase=answer.as_dict())
        return tell(answer)

    found = Decidable(
        id=asked.id,
        agent=asked.agent,
        what=f"{usdc(asked.amount)} more {asked.window.words} of {asked.scope}",
        why=asked.why,
        expires_at=asked.expires_at,
        verb="Grant",
        question=lambda verb, approver: increase_question(verb, asked, approver),
        show=show,
        told=told,
        would=lambda: read().as_dict(),
        subject=lambda: {"increase": read().as_dict()},
        refusal=refusal,
        decided=lambda: coordinator.wiring.backgrounds.decisions(asked.id),
        approve=approve,
        reject=reject,
    )
    return found


def _of_proposal(coordinator: Coordinator, proposal: Proposal) -> Decidable:
    def show(asked: SigningRequest | None) -> bool:
        present, background = coordinator.proposal(proposal.id), coordinator.background(proposal.id)
        show_proposal(present, background, coordinator.wiring.policies.current(), asked)
        return present.waits and present.expires_at > coordinator.wiring.clock()

    def told() -> dict[str, Any]:
        background = coordinator.background(proposal.id).as_dict()
        pending = pending_proposal(coordinator.proposal(proposal.id))
        return {**pending, "headroom": [], "background": background}

    def refusal(approver: str, approves: bool) -> Reason | None:
        from coordinator.domain.purchase.deciding import may_not_decide_proposal

        present = coordinator.proposal(proposal.id)
        return may_not_decide_proposal(coordinator.wiring.policies.current(), present, approver)

    def tell(present: Proposal, reason: Reason | None) -> int:
        if reason is not None and reason.code.value not in _WAITS_ON:
            return _refused(found, reason, proposal=present.as_dict())
        render(present, show_proposal)
        if present.waits:
            if reason is not None and reason.code.value == "change_delayed":
                # Enough have signed: nobody has to do anything more.
                note(reason.message)
                return ExitCode.OK
            note("it needs more approvals")
            return ExitCode.AWAITING_APPROVAL
        return ExitCode.OK

    found = Decidable(
        id=proposal.id,
        agent=None,
        what=proposal_question("", proposal, "").strip().removesuffix("as ?").rstrip(", "),
        why=f"{proposal.by} proposes it: {proposal.reason}",
        expires_at=proposal.expires_at,
        verb="Approve",
        question=lambda verb, approver: proposal_question(verb, proposal, approver),
        show=show,
        told=told,
        would=told,
        subject=lambda: {"proposal": coordinator.proposal(proposal.id).as_dict()},
        refusal=refusal,
        decided=lambda: coordinator.wiring.backgrounds.decisions(proposal.id),
        approve=lambda approver, signature: tell(
            *coordinator.approve_proposal(proposal.id, approver=approver, **_given(signature))
        ),
        reject=lambda approver, reason, signature: tell(
            *coordinator.reject_proposal(
                proposal.id, approver=approver, reason=reason, **_given(signature)
            )
        ),
    )
    return found
