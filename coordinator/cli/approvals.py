"""coordinator approvals: list, approve and reject what waits for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from coordinator.cli.command import (
    DryRun,
    Timeout,
    Yes,
    ask,
    at_terminal,
    command,
    confirm,
    fail,
    mode,
    new_app,
    note,
    opened,
    refuse,
)
from coordinator.cli.exits import ExitCode, of_fault, of_purchase, of_refusal
from coordinator.cli.increases import (
    PREFIX,
    approve_one,
    pending_increase,
    question,
    reject_one,
    show_increase,
)
from coordinator.cli.output import (
    card,
    emit,
    heading,
    limit_table,
    next_commands,
    readable_time,
    render,
    say,
    usdc,
)
from coordinator.cli.proposals import PREFIX as PROPOSAL
from coordinator.cli.proposals import approve_one as approve_proposal
from coordinator.cli.proposals import pending_proposal, show_proposal
from coordinator.cli.proposals import question as proposal_question
from coordinator.cli.proposals import reject_one as reject_proposal
from coordinator.cli.purchase_card import named, show_purchase
from coordinator.cli.purchases import drive, tell_worker
from coordinator.domain.errors import CoordinatorError

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator
    from coordinator.domain.limits.increase import Increase
    from coordinator.domain.purchase.approval import PendingApproval
    from coordinator.domain.purchase.proposal import Proposal
    from coordinator.domain.purchase.purchase import Answer

app = new_app("approvals", "List, show, approve and reject what waits for an approver.")

ApprovalId = Annotated[
    str, typer.Argument(metavar="ID", help="apr_…, an increase, inc_…, or a proposal")
]
Approver = Annotated[str | None, typer.Option(help="Your name in the policy (required).")]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="After approving, wait until it is funded.")
]
_ANSWERS: Final = {
    **dict.fromkeys(("a", "approve"), "a"),
    **dict.fromkeys(("r", "reject"), "r"),
    **dict.fromkeys(("s", "skip"), "s"),
    **dict.fromkeys(("q", "quit"), "q"),
}


@command(app, "list")
def list_() -> None:
    """List purchases, limit increases and proposals that wait for approval, oldest first."""
    with opened(act=False) as coordinator:
        found, increases = coordinator.approvals(), coordinator.increases()
        proposals = coordinator.proposals()
        if mode.json:
            purchases = [coordinator.judge_approval(item.id).as_dict() for item in found]
            others = [pending_increase(coordinator, one) for one in increases]
            emit([*purchases, *others, *map(pending_proposal, proposals)])
            return
        if not found and not increases and not proposals:
            say("nothing waits for approval")
            return
        for number, item in enumerate(found):
            if number:
                say()
            show_pending(coordinator, item.id)
        for number, asked in enumerate(increases, start=len(found)):
            if number:
                say()
            show_increase(coordinator, asked)
        for number, proposal in enumerate(proposals, start=len(found) + len(increases)):
            if number:
                say()
            show_proposal(proposal)
    ids = [item.id for item in found]
    ids += [asked.id for asked in increases]
    ids += [proposal.id for proposal in proposals]
    one = ids[0] if len(ids) == 1 else "ID"
    next_commands(
        f"coordinator approvals approve {one} --approver NAME",
        f"coordinator approvals reject {one} --approver NAME --reason TEXT",
    )


@command(app, "show")
def show(approval_id: ApprovalId) -> None:
    """Show one approval, pending or decided, with its purchase, increase or proposal."""
    with opened(act=False) as coordinator:
        if approval_id.startswith(PROPOSAL):
            proposal = coordinator.proposal(approval_id)
            render(proposal, show_proposal, told=pending_proposal(proposal))
            return
        if approval_id.startswith(PREFIX):
            asked = coordinator.wiring.budgets.increases.get(approval_id)
            told = pending_increase(coordinator, asked)
            render(asked, partial(show_increase, coordinator), told=told)
            return
        item = coordinator.wiring.approvals.get(approval_id)
        if mode.json:
            emit(
                coordinator.judge_approval(approval_id).as_dict()
                | {"purchase": item.purchase.as_dict()}
            )
        elif item.purchase.needs_approval:
            show_pending(coordinator, item.id)
        else:
            show_purchase(item.purchase, details=True)


@command(app, "approve")
def approve(
    approval_id: ApprovalId,
    approver: Approver = None,
    wait: Wait = True,
    timeout_seconds: Timeout = 60,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Approve in your name; limits are checked again, and the last approval carries it out."""
    approver = ask("Your name in the policy", approver, "--approver NAME")
    increase = approval_id.startswith(PREFIX)
    with opened(act=not (dry_run or increase)) as coordinator:
        if increase:
            return approve_one(coordinator, approval_id, approver, dry_run=dry_run, yes=yes)
        if approval_id.startswith(PROPOSAL):
            return approve_proposal(coordinator, approval_id, approver, dry_run=dry_run, yes=yes)
        item = coordinator.wiring.approvals.get(approval_id)
        if dry_run:
            return _would_decide(coordinator, item.id, approver, yes=True)
        if at_terminal() and not yes:
            show_pending(coordinator, item.id)
        confirm(_question("Approve", item, approver), yes=yes)
        return approve_now(coordinator, item, approver, wait=wait, timeout_seconds=timeout_seconds)


@command(app, "reject")
def reject(
    approval_id: ApprovalId,
    approver: Approver = None,
    reason: Annotated[
        str | None, typer.Option(help="The reason; the agent sees it (required).")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Reject in your name; the purchase ends and its hold is voided."""
    approver = ask("Your name in the policy", approver, "--approver NAME")
    reason = ask("Reason", reason, "--reason TEXT")
    with opened(act=False) as coordinator:
        if approval_id.startswith(PREFIX):
            return reject_one(coordinator, approval_id, approver, reason, dry_run=dry_run, yes=yes)
        if approval_id.startswith(PROPOSAL):
            sure = {"dry_run": dry_run, "yes": yes}
            return reject_proposal(coordinator, approval_id, approver, reason, **sure)
        item = coordinator.wiring.approvals.get(approval_id)
        if dry_run:
            return _would_decide(coordinator, item.id, approver, yes=False)
        confirm(_question("Reject", item, approver), yes=yes)
        return _tell(coordinator.reject(approval_id, approver=approver, reason=reason))


@command(app, "review")
def review(approver: Approver = None, wait: Wait = True, timeout_seconds: Timeout = 60) -> int:
    """Go through everything that waits for approval, one by one."""
    if not at_terminal():
        return fail(
            "not_interactive",
            "a review needs a terminal: use list, approve ID and reject ID",
            ExitCode.INVALID,
        )
    from coordinator.domain.purchase.deciding import not_an_approver

    with opened() as coordinator:
        found, increases = coordinator.approvals(), coordinator.increases()
        proposals = coordinator.proposals()
        if not found and not increases and not proposals:
            say("nothing waits for approval")
            return ExitCode.OK
        approver = ask("Your name in the policy", approver, "--approver NAME")
        policy = coordinator.wiring.policies.current()
        if approver not in policy.approvals.approvers:
            refusal = not_an_approver(policy, approver)
            return refuse(refusal, of_refusal(refusal))
        waiting = [
            *(_purchase(coordinator, item, approver, wait, timeout_seconds) for item in found),
            *(_increase(coordinator, asked, approver) for asked in increases),
            *(_proposal(coordinator, one, approver) for one in proposals),
        ]
        for number, item in enumerate(waiting, start=1):
            say()
            say(f"{number} of {len(waiting)}", style="bold")
            if not item.show():
                note("it was decided or expired in the meantime")
                continue
            answer = _choose()
            if answer == "q":
                break
            try:
                if answer == "a" and typer.confirm(item.question, err=True):
                    item.approve()
                elif answer == "r":
                    item.reject(str(typer.prompt("Reason", err=True)))
            except CoordinatorError as fault:
                # The others can be decided all the same.
                fail(fault.code, str(fault), of_fault(fault))
    return ExitCode.OK


@dataclass(frozen=True, slots=True)
class _Waiting:
    """One thing that a review goes through."""

    question: str
    show: Callable[[], bool]
    approve: Callable[[], int]
    reject: Callable[[str], int]


def _purchase(
    coordinator: Coordinator,
    item: PendingApproval,
    approver: str,
    wait: bool,
    timeout_seconds: int,
) -> _Waiting:
    def approve() -> int:
        return approve_now(coordinator, item, approver, wait=wait, timeout_seconds=timeout_seconds)

    return _Waiting(
        question=_question("Approve", item, approver),
        show=lambda: show_pending(coordinator, item.id),
        approve=approve,
        reject=lambda why: _tell(coordinator.reject(item.id, approver=approver, reason=why)),
    )


def _increase(coordinator: Coordinator, asked: Increase, approver: str) -> _Waiting:
    sure = {"dry_run": False, "yes": True}
    return _Waiting(
        question=question("Grant", asked, approver),
        show=lambda: _show_increase(coordinator, asked.id),
        approve=lambda: approve_one(coordinator, asked.id, approver, **sure),
        reject=lambda why: reject_one(coordinator, asked.id, approver, why, **sure),
    )


def _proposal(coordinator: Coordinator, proposal: Proposal, approver: str) -> _Waiting:
    sure = {"dry_run": False, "yes": True}
    return _Waiting(
        question=proposal_question("Approve", proposal, approver),
        show=lambda: _show_proposal(coordinator, proposal.id),
        approve=lambda: approve_proposal(coordinator, proposal.id, approver, **sure),
        reject=lambda why: reject_proposal(coordinator, proposal.id, approver, why, **sure),
    )


def _show_increase(coordinator: Coordinator, increase_id: str) -> bool:
    asked = coordinator.wiring.budgets.increases.get(increase_id)
    show_increase(coordinator, asked)
    return asked.waits and asked.expires_at > coordinator.wiring.clock()


def _show_proposal(coordinator: Coordinator, proposal_id: str) -> bool:
    proposal = coordinator.proposal(proposal_id)
    show_proposal(proposal)
    return proposal.waits and proposal.expires_at > coordinator.wiring.clock()


def approve_now(
    coordinator: Coordinator,
    item: PendingApproval,
    approver: str,
    *,
    wait: bool,
    timeout_seconds: int,
) -> int:
    """Approve it and, if asked, drive it until it is funded; tells what became of it."""
    answer = coordinator.approve(item.id, approver=approver)
    if not answer.done or answer.purchase.needs_approval:
        return _tell(answer)
    purchase = answer.purchase
    if wait:
        purchase = drive(coordinator, purchase, timeout_seconds)
    else:
        tell_worker(coordinator, purchase)
    render(purchase, show_purchase)
    return of_purchase(purchase, until="funded" if wait else None)


def show_pending(coordinator: Coordinator, approval_id: str) -> bool:
    """Print what the approver has to know, as it is at this moment; False if it waits no more.

    Who, what, how much, why, what is left, what it would break, how old.
    """
    judged = coordinator.judge_approval(approval_id)
    item = judged.approval
    p = item.purchase
    by = ", ".join(item.approved_by) or "nobody yet"
    rows: list[tuple[str, Any]] = [
        ("agent", p.agent),
        ("amount", usdc(p.amount)),
        ("provider", named(p.provider_name, p.provider)),
        ("purpose", p.purpose),
        ("service", p.service),
        ("category", p.category),
        ("task", p.task),
        ("session", p.session),
        ("why it asks", p.reason.message if p.reason else None),
        ("waiting since", readable_time(item.created_at)),
        ("expires", readable_time(item.expires_at)),
        ("approved by", f"{by} ({item.required} needed)"),
        ("purchase", p.id),
    ]
    for why in judged.refusals:
        rows.append(("can't be approved", why.message))
    card(f"Approval {item.id}", p.status.value, rows)
    heading(f"Limits before this purchase of {usdc(p.amount)}, in USDC")
    limit_table(judged.limits)
    return judged.waits


def _choose() -> str:
    while True:
        said = str(typer.prompt("[a]pprove, [r]eject, [s]kip or [q]uit", err=True))
        answer = _ANSWERS.get(said.strip().lower())
        if answer is not None:
            return answer
        note("type a, r, s or q")


def _question(what: str, item: PendingApproval, approver: str) -> str:
    p = item.purchase
    return f"{what} {usdc(p.amount)} to {p.provider_name or p.provider} as {approver}?"


def _tell(answer: Answer) -> int:
    purchase = answer.purchase
    if not answer.done:
        return refuse(answer.reason, of_refusal(answer.reason), purchase=purchase.as_dict())
    render(purchase, show_purchase)
    if purchase.needs_approval:
        note("it still needs more approvals")
        return ExitCode.AWAITING_APPROVAL
    return ExitCode.OK


def _would_decide(coordinator: Coordinator, approval_id: str, approver: str, *, yes: bool) -> int:
    """Tell what approving (``yes``) or rejecting would come to at this moment."""
    judged = coordinator.judge_approval(approval_id, approver=approver)
    # What is rejected need not fit.
    refusal = next(iter(judged.refusals), None) if yes else judged.undecidable
    if refusal is not None:
        return refuse(refusal, of_refusal(refusal), approval=judged.as_dict())
    if mode.json:
        emit({"dry_run": True, **judged.as_dict()})
    else:
        show_pending(coordinator, approval_id)
        say()
        say(f"dry run: {approver} may decide this; nothing was changed")
    return ExitCode.OK
