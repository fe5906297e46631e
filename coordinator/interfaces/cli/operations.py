"""What operators do: pause, recover, rebuild, migrate, and run the worker."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.domain.errors import ConfigurationError, CoordinatorError
from coordinator.interfaces.cli.books import tell_reconciliation
from coordinator.interfaces.cli.command import (
    DryRun,
    Timeout,
    Yes,
    ask,
    confirm,
    fail,
    mode,
    note,
    opened,
    refuse,
    set_up_logging,
)
from coordinator.interfaces.cli.exits import ExitCode, of_refusal
from coordinator.interfaces.cli.output import (
    block_progress,
    emit,
    next_commands,
    say,
    table,
)

if TYPE_CHECKING:
    from coordinator.interfaces.python import Coordinator

By = Annotated[str | None, typer.Option(help="Who does it, for the audit log (required).")]
ByApprover = Annotated[
    str | None, typer.Option("--by", help="Your name: only an approver of the policy (required).")
]
Reason = Annotated[str | None, typer.Option(help="Why, for the audit log (required).")]
OfAgent = Annotated[str | None, typer.Option(help="Only this agent's spending.")]
OfProvider = Annotated[str | None, typer.Option(help="Only spending to this provider.")]


def pause(
    reason: Reason = None, by: By = None, agent: OfAgent = None, provider: OfProvider = None
) -> None:
    """Stop new spending at once, in every process; funded escrows are followed all the same."""
    reason = ask("Reason", reason, "--reason TEXT")
    by = ask("Your name", by, "--by NAME")
    with opened(act=False) as coordinator:
        changed = coordinator.pause(reason, by=by, agent=agent, provider=provider)
        _tell_pauses(coordinator, changed, "paused", "it was paused already")


def unpause(
    reason: Reason = None,
    by: ByApprover = None,
    agent: OfAgent = None,
    provider: OfProvider = None,
) -> int:
    """Allow spending again, in an approver's name."""
    by = ask("Your name in the policy", by, "--by NAME")
    reason = ask("Reason", reason, "--reason TEXT")
    with opened(act=False) as coordinator:
        from coordinator.treasury import not_an_approver

        refusal = not_an_approver(coordinator.wiring.policies.current(), by)
        if refusal is not None:
            return refuse(refusal, of_refusal(refusal))
        before = len(coordinator.wiring.operations.pauses())
        coordinator.unpause(reason, by=by, agent=agent, provider=provider)
        changed = len(coordinator.wiring.operations.pauses()) < before
        _tell_pauses(coordinator, changed, "unpaused", "it was not paused")
    return ExitCode.OK


def worker(
    once: Annotated[bool, typer.Option("--once", help="End when nothing is left to do.")] = False,
    timeout_seconds: Annotated[
        int, typer.Option(min=1, help="With --once: the longest it may take.")
    ] = 600,
) -> int:
    """Drive purchases until SIGTERM or Ctrl-C, and log each event to stderr."""
    with opened() as coordinator:
        if not (mode.debug or mode.verbose):
            set_up_logging(coordinator.wiring.settings.log_level)
        if once:
            return _tell_recovered(coordinator, timeout_seconds)
        stopped = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
        coordinator.start()
        w = coordinator.wiring
        note(
            f"worker for {w.signer.address} on {w.network.name}, chain {w.deployment.chain_id};"
            " Ctrl-C or SIGTERM ends it"
        )
        # Short waits, because only the main thread runs signal handlers.
        while not stopped.wait(0.2) and w.executor.fault is None:
            pass
        fault = w.executor.fault
    if fault is not None:
        if isinstance(fault, CoordinatorError):
            raise fault
        return fail("executor_stopped", f"the executor stopped: {fault}", ExitCode.FAILED)
    if mode.json:
        emit({"stopped": True})
    note("worker stopped; what is open goes on at the next start")
    return ExitCode.OK


def recover(timeout_seconds: Timeout = 60) -> int:
    """Finish what a crash or a process that ended left open; tells what became of it."""
    with opened() as coordinator:
        return _tell_recovered(coordinator, timeout_seconds)


def rebuild(dry_run: DryRun = False, yes: Yes = False) -> int:
    """Fill a fresh database from the chain and the id secret; spending is paused afterwards."""
    with opened(act=False) as coordinator:
        w = coordinator.wiring
        cursor = w.books.cursor()
        if cursor is not None and dry_run:
            raise ConfigurationError(
                f"rebuild needs a fresh database; this one was written up to block {cursor.number}"
            )
        if dry_run:
            first, last = w.follower.start_block, w.chain.observe().readable
            if mode.json:
                emit({"dry_run": True, "from_block": first, "to_block": last})
            else:
                say(f"dry run: would read blocks {first:,} to {last:,}, then pause spending")
            return ExitCode.OK
        confirm("Rebuild this database from the chain and pause spending?", yes=yes)
        with block_progress("rebuilding") as progress:
            found = coordinator.rebuild(progress=progress)
        code = tell_reconciliation(found)
        if not mode.json:
            next_commands("coordinator report", "coordinator unpause --by NAME --reason TEXT")
    return code


def migrate() -> None:
    """Bring the database to the schema of this version."""
    from coordinator.config import environment, load_settings
    from coordinator.ledger.database import open_database
    from coordinator.ledger.migrate import HEAD
    from coordinator.ledger.migrate import migrate as migrate_database

    database = open_database(load_settings(environment()).database_url)
    try:
        changed = migrate_database(database)
    finally:
        database.close()
    if mode.json:
        emit({"database": database.name, "migrated": changed, "revision": HEAD})
    else:
        done = "migrated to" if changed else "already has"
        say(f"{database.name} {done} schema revision {HEAD}")


def _tell_pauses(coordinator: Coordinator, changed: bool, done: str, nothing: str) -> None:
    pauses = [str(found) for found in coordinator.wiring.operations.pauses()]
    if mode.json:
        emit({"changed": changed, "paused": pauses})
    else:
        say(f"{done if changed else nothing}; paused now: {', '.join(pauses) or 'nothing'}")


def _tell_recovered(coordinator: Coordinator, timeout_seconds: int) -> int:
    w = coordinator.wiring
    ids = _unfinished(coordinator)
    before = {purchase_id: coordinator.get(purchase_id).status.value for purchase_id in ids}
    orders = [order.id for order in w.operations.orders("approved")]
    idle = coordinator.recover(timeout_seconds=timeout_seconds)
    if not idle:
        holder = w.leases.present()
        if not w.executor.acting and holder is not None and holder.alive:
            note(f"another process ({holder.pid}) acts for this treasury")
            idle = w.executor.idle()
    after = [coordinator.get(purchase_id) for purchase_id in ids]
    ended = {order.id: order.status for order in w.operations.orders() if order.id in orders}
    if mode.json:
        found: list[dict[str, Any]] = [
            {"before": before[purchase.id], **purchase.as_dict()} for purchase in after
        ]
        emit({"idle": idle, "open": found, "orders": ended})
    elif not ids and not orders:
        say("nothing was open")
    else:
        table(
            "id",
            "was",
            "is",
            "why",
            rows=[
                *(
                    (p.id, before[p.id], p.status.value, p.reason.message if p.reason else "")
                    for p in after
                ),
                *((order, "approved", status, "") for order, status in ended.items()),
            ],
            wrap=("why",),
        )
    if not idle:
        note("something is still open: run it again, or keep `coordinator worker` running")
    return ExitCode.OK if idle else ExitCode.CHAIN


def _unfinished(coordinator: Coordinator) -> list[str]:
    """Purchases on their way to an escrow, and those with a transaction in flight."""
    waiting = coordinator.purchases(status=("approved", "created"), limit=10_000)
    flying = [step.call.purchase_id for step in coordinator.wiring.steps.in_flight()]
    return list(dict.fromkeys([p.id for p in waiting] + [i for i in flying if i is not None]))
