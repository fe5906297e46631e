"""coordinator policy: check the file, see what is in force, apply a change."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.command import (
    DryRun,
    Yes,
    ask,
    command,
    confirm,
    mode,
    new_app,
    note,
    opened,
    operator_name,
)
from coordinator.cli.exits import ExitCode
from coordinator.cli.output import card, emit, heading, next_commands, render, say, table, tell
from coordinator.cli.policy_card import sentence, show_effective, show_replay
from coordinator.domain.errors import ConfigurationError, InvalidRequest
from coordinator.domain.policy.changes import changed, changes_as_dicts, flat
from coordinator.domain.times import rfc3339

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator
    from coordinator.domain.policy.policy import Policy

app = new_app("policy", "Check the policy file, show the policy in force, apply changes.")

File = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="Default: COORDINATOR_POLICY_FILE.")
]


@command(app, "check")
def check(file: File = None) -> None:
    """Check that the file is a valid policy, and list every fault with its line."""
    policy = _read(file)
    faults = [f"providers.{name}.address: {why}" for name, why in _unpayable(policy)]
    if faults:
        raise ConfigurationError(*faults)
    warnings = _warn(policy)
    told = {
        "ok": True,
        "hash": policy.hash,
        "agents": sorted(policy.agents),
        "warnings": warnings,
    }
    tell(told, f"the policy is valid: {summary(policy)}", style="green")


@command(app, "show")
def show(
    agent: Annotated[
        str | None, typer.Option(metavar="ID", help="Show the limits in force for this agent.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="With --agent: on this task.")] = None,
    session: Annotated[str | None, typer.Option(help="With --agent: in this session.")] = None,
) -> None:
    """Show the policy in force, or an agent's effective limits and where each comes from."""
    with opened(act=False) as coordinator:
        book = coordinator.claimed.policies
        if agent is not None:
            show_effective(coordinator, agent, task, session)
            return
        policy, overlays = book.current(), book.overlays(at=coordinator.claimed.clock())
    shown = policy.document()
    if mode.json:
        emit({"hash": policy.hash, "policy": shown, "overlays": overlays})
        return
    card("Policy in force", None, [("hash", policy.hash), ("holds", summary(policy))])
    for path, value in flat(shown).items():
        say(f"  {path} = {value}")
    if overlays:
        heading("In force beside it")
    for overlay in overlays:
        say(f"  {sentence(overlay)}")


@command(app, "diff")
def diff(
    file: File = None,
    draft: Annotated[
        str | None, typer.Option(metavar="ID", help="A draft, pol_…, in place of the file.")
    ] = None,
) -> None:
    """Show what applying the file, or a draft of it, would change."""
    policy = _read(file) if draft is None else None
    with opened(act=False) as coordinator:
        if policy is None:
            policy = _drafted(coordinator, draft or "")
        _warn(policy)
        changes = changed(_current(coordinator), policy)
    render(changes, _show_changes, told=changes_as_dicts(changes))


@command(app, "apply")
def apply(
    file: File = None,
    by: Annotated[
        str | None, typer.Option(help="Your name, for the audit log; default: this user.")
    ] = None,
    reason: Annotated[str, typer.Option(help="The reason, for the audit log.")] = "applied by hand",
    dry_run: DryRun = False,
) -> int:
    """Put the file in force, for the next decision of every process."""
    policy = _read(file)
    _warn(policy)
    with opened(act=False) as coordinator:
        claimed = coordinator.claimed
        changes = changed(_current(coordinator), policy)
        applied = False
        if not dry_run:
            applied = claimed.activate_policy(
                policy,
                author=operator_name(by),
                reason=reason,
                now=claimed.clock(),
            )
    if mode.json:
        emit(
            {
                "hash": policy.hash,
                "applied": applied,
                "changes": changes_as_dicts(changes),
            }
        )
        return ExitCode.OK
    _show_changes(changes)
    if applied:
        say(f"in force: {policy.hash}", style="green")
    elif dry_run:
        next_commands("coordinator policy apply")
    else:
        say("this policy is already in force")
    return ExitCode.OK


@command(app, "draft")
def draft(
    file: File = None,
    by: Annotated[
        str | None, typer.Option(help="Your name, for the audit log; default: this user.")
    ] = None,
    reason: Annotated[str, typer.Option(help="The reason, for approvers and the audit log.")] = (
        "drafted by hand"
    ),
    dry_run: DryRun = False,
) -> int:
    """Propose the file to approvers: it comes into force once enough of them have approved it."""
    policy = _read(file)
    _warn(policy)
    with opened(act=False) as coordinator:
        changes = changed(_current(coordinator), policy)
        proposal = None
        if not dry_run:
            proposal = coordinator.draft_policy(policy, by=operator_name(by), reason=reason)
    if mode.json:
        emit(
            {
                "hash": policy.hash,
                "approval_id": proposal.id if proposal is not None else None,
                "required": proposal.required if proposal is not None else None,
                "expires_at": rfc3339(proposal.expires_at) if proposal is not None else None,
                "changes": changes_as_dicts(changes),
            }
        )
        return ExitCode.OK
    _show_changes(changes)
    if proposal is None:
        next_commands("coordinator policy draft")
        return ExitCode.OK
    say(f"drafted: {policy.hash}", style="green")
    many = f"{proposal.required} approver{'s' if proposal.required > 1 else ''}"
    note(f"it waits for {many} until {rfc3339(proposal.expires_at)}")
    next_commands(
        f"coordinator policy diff --draft {proposal.id}",
        f"coordinator approvals approve {proposal.id} --approver NAME",
    )
    return ExitCode.OK


@command(app, "recover")
def recover(
    file: File = None,
    reason: Annotated[str | None, typer.Option(help="The reason (required).")] = None,
    by: Annotated[
        str | None, typer.Option(help="Your name, for the audit log; default: this user.")
    ] = None,
    yes: Yes = False,
) -> int:
    """Replace a policy whose approvers lost their credentials, on the worker's host.

    It takes effect after 72 hours; everybody is told, and any approver can reject it until then.
    """
    policy = _read(file)
    why = ask("Reason", reason, "--reason TEXT")
    _warn(policy)
    with opened(act=False) as coordinator:
        changes = changed(_current(coordinator), policy)
        if not mode.json:
            _show_changes(changes)
        confirm("Replace the policy with the treasury's key, in 72 hours?", yes=yes)
        made = coordinator.recover_policy(policy, by=operator_name(by), reason=why)
    tell(
        {"hash": policy.hash, "approval_id": made.id, "changes": changes_as_dicts(changes)},
        f"begun: {made.id}; in force after 72 hours unless an approver rejects it",
        style="green",
    )
    return ExitCode.OK


@command(app, "export")
def export(
    output: Annotated[Path | None, typer.Option(help="A new file; default: stdout.")] = None,
    merge: Annotated[
        bool, typer.Option("--merged", help="Write grants and disabled agents into the file.")
    ] = False,
) -> None:
    """Export the policy in force as a file that `policy apply` takes.

    Grants, allocations and disabled agents stand below it as comments: they stay in force beside
    any file, and in the file too they would count twice. With --merged, for another database,
    disabled agents and grants without an end are in it. A terminal gets no secret of [alerts].
    """
    import sys

    from coordinator.cli.receipts import write_new
    from coordinator.domain.limits.merge import merged
    from coordinator.domain.policy.export import to_toml

    with opened(act=False) as coordinator:
        book = coordinator.claimed.policies
        rules, overlays = book.current_rules(), book.overlays(at=coordinator.claimed.clock())
        now = coordinator.claimed.clock()
    policy, written = rules.policy, frozenset[str]()
    if merge:
        policy, written = merged(rules.policy, rules.overlays, now)
    left = [o for o in overlays if o["id"] not in written and not (merge and o["window"] is None)]
    if mode.json:
        text = json.dumps({"policy": policy.document(), "overlays": left}, indent=2) + "\n"
    else:
        text = to_toml(policy) + _comments(left)
    if output is None:
        sys.stdout.write(text)
    else:
        write_new(output, [text.encode()])
        note(f"the policy in force, {rules.policy.hash}, was written to {output}")


@command(app, "replay")
def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The policy to try.")],
    days: Annotated[int, typer.Option(min=1, max=3650, help="How many days back.")] = 30,
) -> None:
    """Replay the requests of the last days under another policy; changes nothing.

    Each is decided again in order. What was denied and is allowed, or is newly asked, counts in
    full from then on. Pauses and balances are left out.
    """
    with opened(act=False) as coordinator:
        found = coordinator.replay(file, days=days)
    show_replay(found)


def _unpayable(policy: Policy) -> Iterator[tuple[str, str]]:
    """Providers at contracts that are known here; no chain is asked, and no key is read."""
    from coordinator.config import environment, load_settings
    from coordinator.domain.policy.payees import unpayable_providers
    from coordinator.provisioning.contracts import list_contracts

    try:
        settings = load_settings(environment())
    except ConfigurationError:
        return
    yield from unpayable_providers(policy, list_contracts(settings))


def _read(file: Path | None) -> Policy:
    from coordinator.config import environment, load_settings, read_policy

    return read_policy(file or load_settings(environment()).policy_file)


def _warn(policy: Policy) -> list[str]:
    """Print what the policy, valid as it is, leaves open; return it, too."""
    from coordinator.domain.policy.chain_limits import chain_limit_warnings
    from coordinator.domain.policy.losses import approval_warnings

    warnings = list(approval_warnings(policy.approvals))
    warnings += chain_limit_warnings(policy, now=int(time.time()))
    for warning in warnings:
        note(warning)
    return warnings


def _drafted(coordinator: Coordinator, proposal_id: str) -> Policy:
    from coordinator.domain.policy.policy import Policy

    document = coordinator.proposal(proposal_id).terms.get("document")
    if document is None:
        raise InvalidRequest(f"{proposal_id} is no draft of a policy")
    return Policy.from_dict(document)


def _current(coordinator: Coordinator) -> Policy | None:
    try:
        return coordinator.claimed.policies.current()
    except ConfigurationError:
        return None


def summary(policy: Policy) -> str:
    """Summarise the policy in a line."""
    counts = (
        (len(policy.agents), "agents"),
        (len(policy.providers), "providers"),
        (len(policy.categories.named), "categories"),
        (len(policy.approvals.approvers), "approvers"),
    )
    return ", ".join(f"{name}: {count}" for count, name in counts)


def _comments(overlays: list[dict[str, Any]]) -> str:
    from coordinator.domain.policy.export import comment

    if not overlays:
        return ""
    heads = "In force beside this policy, and beside any file that is applied:"
    return "\n" + "".join(map(comment, [heads, *map(sentence, overlays)]))


def _show_changes(changes: list[tuple[str, str | None, str | None]]) -> None:
    if not changes:
        say("no difference")
        return
    heading("Changes")
    table(
        "key",
        "in force",
        "file",
        rows=((k, old if old is not None else "–", new or "–") for k, old, new in changes),
        wrap=("in force", "file"),
    )
