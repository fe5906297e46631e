"""coordinator approvals: list, show, sign, approve and reject what waits for people."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from coordinator.cli.approvals_watch import watch
from coordinator.cli.command import (
    DryRun,
    Timeout,
    Yes,
    ask,
    at_terminal,
    command,
    fail,
    mode,
    new_app,
    note,
    opened,
    refuse,
)
from coordinator.cli.decisions import (
    decide,
    find_decision,
    shown_statement,
    waiting_decisions,
)
from coordinator.cli.exits import ExitCode, of_fault, of_refusal
from coordinator.cli.output import emit, local_time, next_commands, say, table
from coordinator.cli.signing import Means, Signatures, Signer, StatementFile
from coordinator.cli.statements import statement
from coordinator.domain.errors import CoordinatorError

app = new_app("approvals", "List, show, sign and decide what waits for an approver.")

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
        found = waiting_decisions(coordinator)
        if mode.json:
            emit([one.told() for one in found])
            return
    if not found:
        say("nothing waits for approval")
        return
    rows = [(one.id, one.agent, one.what, local_time(one.expires_at)) for one in found]
    table("id", "agent", "what", "expires", rows=rows, wrap=("agent", "what", "expires"))
    one = found[0].id if len(found) == 1 else "ID"
    next_commands(
        f"coordinator approvals show {one}",
        f"coordinator approvals approve {one} --approver NAME",
        f"coordinator approvals reject {one} --approver NAME --reason TEXT",
    )


@command(app, "show")
def show(approval_id: ApprovalId) -> None:
    """Show one approval, pending or decided, with what an approver has to know."""
    with opened(act=False) as coordinator:
        found = find_decision(coordinator, approval_id)
        if mode.json:
            emit(found.told() | found.subject())
        else:
            found.show(shown_statement(coordinator, approval_id))


@command(app, "approve")
def approve(
    approval_id: ApprovalId,
    approver: Approver = None,
    signer: Signer = None,
    signature: Signatures = None,
    statement: StatementFile = None,
    wait: Wait = True,
    timeout_seconds: Timeout = 60,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Approve in your name; limits are checked again, and the last approval carries it out."""
    approver = ask("Your name in the policy", approver, "--approver NAME")
    means = Means(signer, tuple(signature or ()), statement)
    with opened(act=not (dry_run or approval_id.startswith("inc_"))) as coordinator:
        found = find_decision(coordinator, approval_id, wait=wait, timeout_seconds=timeout_seconds)
        return decide(coordinator, found, approver, means, dry_run=dry_run, yes=yes)


@command(app, "reject")
def reject(
    approval_id: ApprovalId,
    approver: Approver = None,
    reason: Annotated[
        str | None, typer.Option(help="The reason; the agent sees it (required).")
    ] = None,
    signer: Signer = None,
    signature: Signatures = None,
    statement: StatementFile = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Reject in your name; the purchase ends and its hold is voided."""
    approver = ask("Your name in the policy", approver, "--approver NAME")
    reason = ask("Reason", reason, "--reason TEXT")
    means = Means(signer, tuple(signature or ()), statement)
    with opened(act=False) as coordinator:
        found = find_decision(coordinator, approval_id)
        return decide(coordinator, found, approver, means, reason=reason, dry_run=dry_run, yes=yes)


@command(app, "review")
def review(
    approver: Approver = None,
    signer: Signer = None,
    wait: Wait = True,
    timeout_seconds: Timeout = 60,
) -> int:
    """Go through everything that waits for approval, one by one."""
    if not at_terminal():
        return fail(
            "not_interactive",
            "a review needs a terminal: use list, approve ID and reject ID",
            ExitCode.INVALID,
        )
    from coordinator.domain.purchase.deciding import not_an_approver

    with opened() as coordinator:
        waiting = waiting_decisions(coordinator, wait=wait, timeout_seconds=timeout_seconds)
        if not waiting:
            say("nothing waits for approval")
            return ExitCode.OK
        approver = ask("Your name in the policy", approver, "--approver NAME")
        policy = coordinator.wiring.policies.current()
        if approver not in policy.approvals.approvers:
            refusal = not_an_approver(policy, approver)
            return refuse(refusal, of_refusal(refusal))
        for number, item in enumerate(waiting, start=1):
            say()
            say(f"{number} of {len(waiting)}", style="bold")
            if not item.show(shown_statement(coordinator, item.id)):
                note("it was decided or expired in the meantime")
                continue
            answer = _choose()
            if answer == "q":
                break
            reason = None
            if answer == "r":
                reason = str(typer.prompt("Reason", err=True))
            try:
                if answer != "s":
                    decide(coordinator, item, approver, Means(signer), reason=reason, shown=True)
            except CoordinatorError as fault:
                # The others can be decided all the same.
                fail(fault.code, str(fault), of_fault(fault))
    return ExitCode.OK


def _choose() -> str:
    while True:
        said = str(typer.prompt("[a]pprove, [r]eject, [s]kip or [q]uit", err=True))
        answer = _ANSWERS.get(said.strip().lower())
        if answer is not None:
            return answer
        note("type a, r, s or q")


command(app, "statement")(statement)
command(app, "watch")(watch)
