"""coordinator sessions and tasks: open with limits, look, close."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.command import (
    DryRun,
    Yes,
    command,
    confirm_person,
    mode,
    new_app,
    opened,
    operator_name,
)
from coordinator.cli.output import (
    card,
    emit,
    heading,
    limit_table,
    listing,
    readable_time,
    say,
    short_time,
    table,
    tell,
)
from coordinator.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator
    from coordinator.api.session import Session

Name = Annotated[str, typer.Argument(metavar="ID", help="Its name, as agents use it.")]
Agent = Annotated[
    str | None, typer.Option(help="Only this agent may spend in it; default: every agent.")
]
By = Annotated[str | None, typer.Option(help="Your name, for the audit log; default: this user.")]
OpenOnly = Annotated[bool, typer.Option("--open", help="List only open ones.")]
Limit = Annotated[
    list[str] | None,
    typer.Option(
        metavar="WINDOW=USDC", help="A limit, such as total=5 or daily=2; may be repeated."
    ),
]
CategoryLimit = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CATEGORY:WINDOW=USDC",
        help="A limit in one category, such as llm:total=0.25; may be repeated.",
    ),
]


def runs_app(kind: str) -> typer.Typer:
    """The commands of one kind: "session" or "task"."""
    app = new_app(f"{kind}s", f"Open, list, report and close {kind}s with their own limits.")

    def list_(open_: OpenOnly = False) -> None:
        with opened(act=False) as coordinator:
            runs = coordinator.sessions if kind == "session" else coordinator.tasks
            _list(kind, runs(open_only=open_))

    def open_session(name: Name, agent: Agent = None, limit: Limit = None, by: By = None) -> None:
        _open(kind, name, agent, _limits(limit), by)

    def open_task(
        name: Name,
        agent: Agent = None,
        limit: Limit = None,
        category_limit: CategoryLimit = None,
        by: By = None,
    ) -> None:
        _open(kind, name, agent, _limits(limit) | _categories(category_limit), by)

    def close(name: Name, by: By = None, dry_run: DryRun = False, yes: Yes = False) -> None:
        _close(kind, name, by, dry_run, yes)

    def report(name: Name) -> None:
        with opened(act=False) as coordinator:
            _report(kind, _run(coordinator, kind, name))

    list_.__doc__ = f"List opened {kind}s, oldest first."
    open_ = open_session if kind == "session" else open_task
    open_.__doc__ = f"Open a {kind} with its own limits, even above the policy's default."
    close.__doc__ = (
        "Close it: held costs are voided, and purchases with nothing signed are cancelled."
    )
    report.__doc__ = "Report its spending; --json lists every purchase and cost."
    for name, function in (("list", list_), ("open", open_), ("close", close), ("report", report)):
        command(app, name)(function)
    return app


def _run(coordinator: Coordinator, kind: str, name: str, by: str = "operator") -> Session:
    find = coordinator.session if kind == "session" else coordinator.task
    return find(name, by=by)


def _list(kind: str, found: Any) -> None:
    rows = (
        (
            run[kind],
            run["status"],
            run["agent"] or "all",
            ", ".join(f"{w.removesuffix('_limit')} {a}" for w, a in run["limits"].items()),
            run["opened_by"],
            short_time(run["opened_at"]),
        )
        for run in found
    )
    columns = (kind, "status", "agent", "limits of its own", "opened by", "opened (UTC)")
    wrap = (kind, "agent", "limits of its own", "opened by")
    listing(found, *columns, rows=rows, empty=f"no {kind}s were opened", wrap=wrap)


def _open(kind: str, name: str, agent: str | None, limits: dict[str, Any], by: str | None) -> None:
    with opened(act=False) as coordinator:
        make = coordinator.open_session if kind == "session" else coordinator.open_task
        run = make(name, agent, limits, by=operator_name(by))
        states, told = run.limits(), run.as_dict()
    if mode.json:
        emit(told)
        return
    say(f"{kind} {name} is open for {agent or 'all agents'}")
    if states:
        limit_table(states)


def _close(kind: str, name: str, by: str | None, dry_run: bool, yes: bool) -> None:
    with opened(act=False) as coordinator:
        run = _run(coordinator, kind, name, operator_name(by))
        before = run.as_dict()
        if not dry_run:
            confirm_person(f"Close {kind} {name} and cancel what waits in it?", yes=yes)
            run.close()
        told = run.as_dict() | {"dry_run": dry_run}
    done = "would be closed" if dry_run else "is closed"
    tell(told, f"{kind} {name} {'is closed already' if before['status'] == 'closed' else done}")


def _report(kind: str, run: Session) -> None:
    found = run.report()
    if mode.json:
        emit(found)
        return
    rows = [
        ("agent", found["agent"] or "all"),
        (
            "opened",
            readable_time(found["opened_at"]) or "not opened by name: the default limits apply",
        ),
        ("closed", readable_time(found["closed_at"])),
        ("spent", f"{found['spent']} USDC in {len(found['purchases'])} purchases"),
        ("held", f"{found['held']} USDC"),
        ("off chain", f"{found['off_chain']} USDC in {len(found['costs'])} costs"),
    ]
    card(f"{kind.capitalize()} {run.id}", found["status"], rows)
    states = run.limits()
    if states:
        heading("Limits, in USDC")
        limit_table(states)
    other = "session" if kind == "task" else "task"
    for what in ("category", other):
        sums = found[f"by_{what}"]
        if any(sums):
            say()
            columns = ("spent", "held", "off_chain")
            rows_of = ((name or "–", *(s[c] for c in columns)) for name, s in sums.items())
            table(
                what,
                "spent",
                "held",
                "off chain",
                rows=rows_of,
                right=("spent", "held", "off chain"),
            )


def _limits(given: list[str] | None) -> dict[str, Any]:
    """{"total_limit": "5"} of ["total=5"]."""
    found: dict[str, Any] = {}
    for text in given or ():
        window, _, amount = text.partition("=")
        key = f"{window.removesuffix('_limit')}_limit"
        if not window or not amount or key in found:
            raise InvalidRequest(f"{text[:60]!r}: write each limit once, as in --limit total=5")
        found[key] = amount
    return found


def _categories(given: list[str] | None) -> dict[str, Any]:
    """{"categories": {"llm": {"total_limit": "0.25"}}} of ["llm:total=0.25"]."""
    by_category: dict[str, list[str]] = {}
    for text in given or ():
        category, _, limit = text.rpartition(":")
        if not category:
            raise InvalidRequest(f"{text[:60]!r}: write it as in --category-limit llm:total=0.25")
        by_category.setdefault(category, []).append(limit)
    if not by_category:
        return {}
    return {"categories": {name: _limits(limits) for name, limits in by_category.items()}}
