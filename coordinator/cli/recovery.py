"""After a crash or a loss: recover, backup, rebuild."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.books import tell_reconciliation
from coordinator.cli.command import DryRun, Timeout, Yes, confirm, mode, note, opened
from coordinator.cli.exits import ExitCode
from coordinator.cli.output import block_progress, emit, next_commands, render, say, table, tell
from coordinator.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator
    from coordinator.books.backup import Backup
    from coordinator.domain.purchase.purchase import Purchase

_ENDED = ("_mined", "_reverted")


def recover(timeout_seconds: Timeout = 60) -> int:
    """Finish what a crash or a stopped process left open, and report what was done.

    Every command that acts does so by itself at its start. Exit code 5: something is still open.
    """
    with opened() as coordinator:
        return tell_recovered(coordinator, timeout_seconds)


def backup(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file to write; it must not exist.")
    ],
) -> int:
    """Copy the database while in use, check the copy, and print its audit head to keep.

    Exit code 6: the copy was made, and its audit log is not whole. To restore: stop every process,
    put the copy in the place of the database, start.
    """
    with opened(act=False) as coordinator:
        found = coordinator.backup(file)
    render(found, _show_backup)
    return ExitCode.OK if found.ok else ExitCode.DISCREPANCIES


def _show_backup(found: Backup) -> None:
    for wrong in found.faults:
        say(f"fault: {wrong}", style="red")
    say(f"{found.path}: {found.size_bytes:,} bytes, checked; keep its audit head elsewhere:")
    say(str(found.head))
    note(
        "the treasury's key and COORDINATOR_ID_SECRET are not in the copy: back them up separately"
    )


def rebuild(
    audit: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file that `coordinator audit export` wrote."),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="COUNT:HASH",
            help="With --audit: the head you noted, COUNT:HASH, to find a file that was cut off.",
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Rebuild a lost database from the chain and the id secret; spending is paused afterwards.

    With --audit purchases get back who asked, why, and who allowed it.
    """
    with opened(act=False) as coordinator:
        w = coordinator.wiring
        cursor = w.books.cursor()
        if cursor is not None and dry_run:
            raise ConfigurationError(
                f"rebuild needs an empty database; this one has books up to block {cursor.number}"
            )
        if dry_run:
            first, last = w.follower.start_block, w.chain.observe().readable
            told = {"dry_run": True, "from_block": first, "to_block": last}
            tell(told, f"dry run: would read blocks {first:,} to {last:,}, then pause spending")
            return ExitCode.OK
        confirm("Rebuild this database from the chain and pause spending?", yes=yes)
        with block_progress("rebuilding") as progress:
            found = coordinator.rebuild(audit=audit, head=head, progress=progress)
        imported = w.imports.done()
        if imported is not None:
            note(
                f"{imported.head.count} rows of the audit log and {imported.purchases} purchases"
                f" were put back; {len(w.books.escrows(unknown=True))} escrows are known by the"
                " chain alone"
            )
        code = tell_reconciliation(found)
        if not mode.json:
            next_commands("coordinator report", "coordinator unpause --by NAME --reason TEXT")
    return code


def tell_recovered(coordinator: Coordinator, timeout_seconds: int) -> int:
    """Let the executor finish what is open, and print what it did and what is left."""
    w = coordinator.wiring
    ids, before_log = _unfinished(coordinator), w.audit.head().count
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
    did = _did(coordinator, before_log)
    if mode.json:
        found: list[dict[str, Any]] = [
            {"before": before[purchase.id], **purchase.as_dict()} for purchase in after
        ]
        emit({"idle": idle, "open": found, "orders": ended, **did})
    else:
        _show_recovered(after, before, ended, did)
    if not idle:
        note(
            "something is still open: run `coordinator recover` again, or keep `coordinator worker`"
            " running"
        )
    return ExitCode.OK if idle else ExitCode.CHAIN


def _did(coordinator: Coordinator, before_log: int) -> dict[str, Any]:
    """Count the work that the log has since row ``before_log``, and list the pauses."""
    w = coordinator.wiring
    rows = list(w.audit.rows(before_log))
    nonces = [row["body"] for row in rows if row["event"] == "nonces_adopted"]
    return {
        "steps_finished": sum(row["event"].endswith(_ENDED) for row in rows),
        "nonces_adopted": sum(body["last"] - body["first"] + 1 for body in nonces),
        "escrows_adopted": sum(row["event"] == "escrow_attributed" for row in rows),
        "paused": [{"scope": str(p), "reason": p.reason} for p in w.operations.pauses()],
    }


def _show_recovered(
    after: list[Purchase], before: dict[str, str], ended: dict[str, str], did: dict[str, Any]
) -> None:
    if not after and not ended:
        say("nothing was open")
    else:
        orders = [(order, "approved", status, "") for order, status in ended.items()]
        table("id", "was", "is", "why", rows=[*_moves(after, before), *orders], wrap=("why",))
    say(f"finished {did['steps_finished']} steps")
    if did["nonces_adopted"] or did["escrows_adopted"]:
        say(
            f"adopted {did['nonces_adopted']} transactions and {did['escrows_adopted']} escrows"
            " found on chain and missing from this database"
        )
    for pause in did["paused"]:
        say(f"paused: {pause['scope']}, because {pause['reason']}", style="red")


def _moves(after: list[Purchase], before: dict[str, str]) -> list[tuple[str, str, str, str]]:
    return [
        (p.id, before[p.id], p.status.value, p.reason.message if p.reason else "") for p in after
    ]


def _unfinished(coordinator: Coordinator) -> list[str]:
    """Purchases on their way to an escrow, and those with a transaction in flight."""
    waiting = coordinator.purchases(status=("approved", "created"), limit=10_000)
    flying = [step.call.purchase_id for step in coordinator.wiring.steps.in_flight()]
    return list(dict.fromkeys([p.id for p in waiting] + [i for i in flying if i is not None]))
