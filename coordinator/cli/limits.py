"""coordinator limits: limits and their usage, sharing of pools, overlays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from coordinator.cli.command import (
    Debug,
    DryRun,
    Json,
    Verbose,
    Yes,
    carry_out,
    command,
    confirm,
    confirm_person,
    mode,
    new_app,
    opened,
    operator_name,
    set_mode,
)
from coordinator.cli.exits import ExitCode
from coordinator.cli.output import (
    emit,
    limit_table,
    listing,
    next_commands,
    render,
    say,
    short_time,
    table,
    tell,
)
from coordinator.cli.times import moment
from coordinator.domain.errors import UnknownId

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator
    from coordinator.domain.limits.limits import LimitState
    from coordinator.domain.limits.service import Finding
    from coordinator.domain.policy.policy import Policy

app = new_app(
    "limits",
    "Show every limit in force with spent, held and remaining; share pools; list overlays.",
)
app.info.no_args_is_help = False

By = Annotated[str | None, typer.Option(help="Your name, for the audit log; default: this user.")]
_DAY: Final = 86_400


@app.callback(invoke_without_command=True)
def limits(
    context: typer.Context,
    agent: Annotated[str | None, typer.Option(help="Limits of this agent.")] = None,
    category: Annotated[str | None, typer.Option(help="Limits of this category.")] = None,
    pool: Annotated[
        str | None, typer.Option(help="Limits of this pool, and its agents' shares.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Limits of this task.")] = None,
    session: Annotated[str | None, typer.Option(help="Limits of this session.")] = None,
    provider: Annotated[str | None, typer.Option(help="Limits of this provider.")] = None,
    json: Json = False,
    debug: Debug = False,
    verbose: Verbose = False,
) -> None:
    """Show the limits of the organisation and of the scopes named; without any, every limit."""
    set_mode(json=json, debug=debug, verbose=verbose)
    if context.invoked_subcommand is None:
        shown = partial(_show, agent, category, pool, task, session, provider)
        raise typer.Exit(carry_out(shown))


def _show(
    agent: str | None,
    category: str | None,
    pool: str | None,
    task: str | None,
    session: str | None,
    provider: str | None,
) -> int:

    with opened(act=False) as coordinator:
        policy = coordinator.wiring.policies.current()
        for what, name, known in (
            ("an agent", agent, policy.agents),
            ("a category", category, policy.categories.named),
            ("a pool", pool, policy.pools),
        ):
            if name is not None and name not in known:
                raise UnknownId(f"{name[:60]!r} is not {what} of the policy")
        if provider is not None and policy.provider(provider)[0] is None:
            raise UnknownId(f"{provider[:60]!r} is not a provider of the policy")
        named = {"provider": provider, "task": task, "session": session}
        found = list(coordinator.limits(agent, category, **named))
        if agent is not None and category is None:
            found += _by_category(coordinator, policy, agent)
        if pool is not None:
            found += _of_pool(coordinator, policy, pool)
        if not any((agent, category, pool, task, session, provider)):
            found += _all(coordinator, policy)
    shown = _once(found)
    render(shown, limit_table)
    return ExitCode.OK


def _all(coordinator: Coordinator, policy: Policy) -> Iterator[LimitState]:
    for agent in sorted(policy.agents):
        yield from coordinator.limits(agent)
        yield from _by_category(coordinator, policy, agent)
    for category in sorted(policy.categories.named):
        yield from coordinator.limits(None, category)
    for provider in sorted(policy.providers):
        yield from coordinator.limits(provider=provider)
    sessions = policy.sessions.named if policy.sessions else {}
    open_sessions = {run["session"] for run in coordinator.sessions(open_only=True)}
    for session in sorted({*sessions, *open_sessions}):
        yield from coordinator.limits(session=session)
    tasks = policy.tasks.named if policy.tasks else {}
    open_tasks = {run["task"] for run in coordinator.tasks(open_only=True)}
    for task in sorted({*tasks, *open_tasks}):
        yield from coordinator.limits(task=task)
        for category in sorted(policy.categories.named):
            yield from coordinator.limits(None, category, task=task)


def _by_category(coordinator: Coordinator, policy: Policy, agent: str) -> Iterator[LimitState]:
    stated = policy.agent(agent)
    pair = f"agent_category:{agent}/"
    for category in sorted(stated.categories) if stated else ():
        states = coordinator.limits(agent, category)
        yield from (state for state in states if str(state.limit.scope).startswith(pair))


def _of_pool(coordinator: Coordinator, policy: Policy, pool: str) -> Iterator[LimitState]:
    for agent in policy.pools[pool].agents:
        for state in coordinator.limits(agent):
            scope = str(state.limit.scope)
            if scope == f"pool:{pool}" or scope.startswith(f"pool_agent:{pool}/"):
                yield state


def _once(states: Iterable[LimitState]) -> Sequence[LimitState]:
    found: dict[Any, LimitState] = {}
    for state in states:
        found.setdefault((state.limit.scope, state.limit.window), state)
    return list(found.values())


@command(app, "usage")
def usage(
    scope: Annotated[
        str, typer.Option(help='"organisation", or "pool:NAME", "agent:ID" and so on.')
    ] = "organisation",
    since: Annotated[
        str | None,
        typer.Option(help="From: 24h ago (the default), 7d, 2026-05-01 or an RFC 3339 time."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="To this time, exclusive; default: now.")
    ] = None,
    by: Annotated[str, typer.Option(help="hour, day, week or month.")] = "hour",
) -> None:
    """Show what a scope held and spent by hour, day, week or month."""
    from coordinator.domain.times import rfc3339

    first, last = moment(since), moment(until)
    with opened(act=False) as coordinator:
        last = coordinator.wiring.clock() if last is None else last
        first = last - _DAY if first is None else first
        found = coordinator.usage(scope, since=first, until=last, by=by)
    told = [
        {
            "start": rfc3339(used.start),
            "end": rfc3339(used.end),
            "spent": str(used.usage.spent),
            "held": str(used.usage.held),
        }
        for used in found
    ]
    rows = [(short_time(used.start), used.usage.spent, used.usage.held) for used in found]
    columns = (f"{by} from (UTC)", "spent", "held")
    render(told, lambda _: table(*columns, rows=rows, right=("spent", "held")))


@command(app, "rebalance")
def rebalance(
    pool: Annotated[str, typer.Option(help="The pool to share among its agents.")],
    method: Annotated[
        str, typer.Option(help="fixed, by_usage, by_priority or rebalance (both together).")
    ] = "rebalance",
    by: By = None,
    reason: Annotated[str | None, typer.Option(help="The reason, for the audit log.")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Share a pool's limit among its agents; each share becomes a limit of that agent."""
    with opened(act=False) as coordinator:
        sharing = coordinator.share(pool, method)
        told = sharing.as_dict()
        told |= {"method": method, "sum": str(sharing.amount), "applied": not dry_run}
        if not mode.json:
            before, after = told["before"], told["after"]
            rows = [(agent, before.get(agent, "–"), share) for agent, share in after.items()]
            rows.append(("sum", "", told["sum"]))
            table("agent", "before", "after", rows=rows, right=("before", "after"), wrap=("agent",))
        if not dry_run:
            confirm(f"Share {sharing.amount} USDC of {pool} like this?", yes=yes)
            why = reason if reason is not None else f"shared by {method}"
            coordinator.apply_sharing(sharing, by=operator_name(by), reason=why)
    if mode.json:
        emit(told)
    elif dry_run:
        next_commands(f"coordinator limits rebalance --pool {pool} --method {method}")
    else:
        say(f"{pool} is shared out: {told['window']} limits of {len(sharing.after)} agents")


@command(app, "overlays")
def overlays() -> None:
    """List changes in force beside the policy file: grants, pool shares, disabled agents."""
    with opened(act=False) as coordinator:
        found = [one.as_dict(at=coordinator.wiring.clock()) for one in coordinator.overlays()]
    columns = ("id", "kind", "scope", "window", "amount", "in force", "ends (UTC)", "by", "why")
    rows = [
        (
            *(one[key] for key in ("id", "kind", "scope", "window", "amount")),
            "yes" if one["in_force"] else "no",
            short_time(one["ends_at"]),
            one["author"],
            one["reason"],
        )
        for one in found
    ]
    empty, wrap = (
        "no grants, shares or disabled agents beside the policy file",
        ("scope", "by", "why"),
    )
    listing(found, *columns, rows=rows, empty=empty, right=("amount",), wrap=wrap)


@command(app, "withdraw")
def withdraw(
    overlay_id: Annotated[str, typer.Argument(metavar="ID", help="The grant or share, ovl_…")],
    by: Annotated[str, typer.Option(help="Your name, for the audit log.")],
    reason: Annotated[str, typer.Option(help="The reason, for the audit log.")],
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """End a grant or a share at once; amounts already held stay held."""
    with opened(act=False) as coordinator:
        now = coordinator.wiring.clock()
        found = next((one for one in coordinator.overlays() if one.id == overlay_id), None)
        if found is None or found.kind not in ("grant", "allocation"):
            raise UnknownId(f"there is no grant or share {overlay_id[:60]!r}")
        if not dry_run:
            confirm_person(f"Take back {found.amount} USDC of {found.scope}?", yes=yes)
            coordinator.withdraw_overlay(overlay_id, by=by, reason=reason)
    would = "would be" if dry_run else "is"
    tell(
        found.as_dict(at=now) | {"withdrawn": not dry_run},
        f"{found.kind} {found.id} of {found.scope} {would} taken back: {found.amount} USDC",
    )


def review() -> None:
    """List budgets that need a look: under-used, nearly depleted, pools below their mark."""
    with opened(act=False) as coordinator:
        found = coordinator.review()
    render(found, _show_review)


def _show_review(found: Sequence[Finding]) -> None:
    if not found:
        say("nothing needs a look")
    for one in found:
        say(one.message, style="yellow" if one.kind != "under_used" else None)
