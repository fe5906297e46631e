"""Reports over the books: gas, report, audit, reconcile."""

from __future__ import annotations

import json
import sys
import time
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from coordinator.cli.command import command, mode, new_app, note, opened
from coordinator.cli.exits import ExitCode
from coordinator.cli.output import block_progress, card, emit, render, say, table, tell
from coordinator.cli.report_card import show_gas, show_report
from coordinator.cli.times import moment
from coordinator.domain.errors import ChainUnavailable, InvalidRequest, UnknownId

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator
    from coordinator.domain.chain.reconciliation import Reconciliation

_WHO: Final = ("by", "approver", "agent", "author")
_EXPLAIN: Final = "coordinator reconcile explain"

audit_app = new_app("audit", "Read, verify and export the audit log.")


def report(
    since: Annotated[
        str | None, typer.Option(help="From: 24h ago, 7d, 2026-05-01 or an RFC 3339 time.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="To this time, exclusive.")] = None,
) -> None:
    """Show where the USDC went, what is open, and what needs attention."""
    with opened(act=False) as coordinator:
        _refresh(coordinator)
        found = coordinator.report(since=moment(since), until=moment(until)).as_dict()
    render(found, show_report)


def gas() -> None:
    """Show the gas balance, what gas cost, and how many more purchases it pays for."""
    with opened(act=False) as coordinator:
        _refresh(coordinator)
        found = coordinator.gas().as_dict()
    render(found, show_gas)


@command(audit_app, "show")
def audit_show(
    after: Annotated[int, typer.Option(min=0, help="Only rows after this number.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 100,
    subject: Annotated[
        str | None, typer.Option(help="Only rows about this purchase or order.")
    ] = None,
) -> None:
    """List the rows of the audit log, oldest first."""
    with opened(act=False) as coordinator:
        found: list[dict[str, Any]] = []
        for row in coordinator.opened.audit.rows(after, subject=subject):
            if len(found) == limit:
                break
            found.append(row_dict(row))
    if mode.json:
        emit(found)
        return
    table(
        "row",
        "at",
        "event",
        "subject",
        "by",
        rows=(
            (
                row["seq"],
                row["at"],
                row["event"],
                row["subject"],
                next((row["body"][key] for key in _WHO if row["body"].get(key)), ""),
            )
            for row in found
        ),
        right=("row",),
        wrap=("subject",),
    )


@command(audit_app, "head")
def audit_head() -> None:
    """Print the log's count and hash; keep them elsewhere for `audit verify --head`."""
    with opened(act=False) as coordinator:
        head = str(coordinator.opened.audit.head())
    tell({"audit_head": head}, head)


@command(audit_app, "verify")
def audit_verify(
    head: Annotated[
        str | None, typer.Option(metavar="COUNT:HASH", help="A head you noted earlier, COUNT:HASH.")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Verify this export, without any database."),
    ] = None,
    rpc: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Compare the owners recorded of Safes with this chain."),
    ] = None,
) -> int:
    """Verify every row of the audit log, the journal's digests and each approver's signature."""
    from coordinator.books.audit_files import compared_with_chain, verify_file
    from coordinator.config import Secrets, environment, id_secret, load_settings
    from coordinator.domain.access.urls import call_urls
    from coordinator.domain.audit import Head

    try:
        expected = Head.parse(head) if head is not None else None
    except ValueError as fault:
        raise InvalidRequest(str(fault)) from None
    if export is not None:
        env = environment()
        secret, pins = id_secret(Secrets(env)), load_settings(env).pins
        found = verify_file(export, id_secret=secret, expected=expected, pins=pins)
    else:
        with opened(act=False) as coordinator:
            found = coordinator.opened.verify_audit(expected)
    if rpc is not None:
        found = compared_with_chain(found, call_urls(rpc), time.monotonic)
    render(found.as_dict(), _show_verification)
    return ExitCode.OK if found.ok else ExitCode.DISCREPANCIES


def _show_verification(found: dict[str, Any]) -> None:
    for wrong in found["faults"]:
        say(f"fault: {wrong}", style="red")
    if found["signed_for"] is not None:
        of = found["signed_for"]
        say(f"treasury {of['treasury']}, chain {of['chain_id']}, kernel {of['kernel']}")
    say(f"{found['signatures']} signatures of approvers count")
    if found["safe_signatures_not_compared"]:
        many = found["safe_signatures_not_compared"]
        say(f"{many} Safe signatures not compared with the chain: give --rpc URL")
    for row in found["unsigned_policies"]:
        say(f"{row}: nobody signed this version, and it says who the approvers are")
    whole = "is whole" if found["ok"] else f"is not whole: {len(found['faults'])} faults"
    say(f"the audit log {whole}; head {found['audit_head']}")


@command(audit_app, "export")
def audit_export(
    output: Annotated[Path | None, typer.Option(help="A new file; default: stdout.")] = None,
) -> None:
    """Export the audit log as JSON lines, for `coordinator rebuild --audit FILE`."""
    from coordinator.cli.receipts import write_new

    with opened(act=False) as coordinator:
        lines = coordinator.opened.audit.export()
        if output is None:
            for line in lines:
                sys.stdout.write(line.decode())
            return
        first = next(lines)
        write_new(output, chain([first], lines))
    head = json.loads(first)["audit_head"]
    rows = int(head.partition(":")[0])
    note(f"{rows} rows written to {output}")
    if mode.json:
        emit({"audit_head": head, "rows": rows, "output": str(output)})


def reconcile(from_block: int | None) -> int:
    """Compare the books with the chain and name every difference; signs nothing."""
    with opened(act=False) as coordinator, block_progress("reading blocks") as progress:
        found = coordinator.reconcile(from_block=from_block, progress=progress)
    return tell_reconciliation(found)


def explain(
    discrepancy_id: Annotated[str, typer.Argument(metavar="ID", help="dis_…")],
    by: Annotated[str, typer.Option(help="Your name, for the audit log.")],
    reason: Annotated[str, typer.Option(help="What explains the difference.")],
) -> int:
    """Close one discrepancy with an explanation in the audit log; the books do not change."""
    from coordinator.domain.inputs import free_text, identifier

    identifier("by", by)
    free_text("reason", reason, 2000)
    with opened(act=False) as coordinator:
        w = coordinator.wiring
        known = {item.id for item in coordinator.reconcile().discrepancies}
        if discrepancy_id not in known:
            raise UnknownId(f"there is no open discrepancy {discrepancy_id[:60]!r}")
        w.operations.explain(discrepancy_id, by=by, reason=reason, now=w.clock())
    told = {"id": discrepancy_id, "explained": True, "by": by, "reason": reason}
    tell(told, f"{discrepancy_id} is explained; {len(known) - 1} left")
    return ExitCode.OK


def tell_reconciliation(found: Reconciliation) -> int:
    """Print what was compared; the code says whether anything differs."""
    render(found, _show_reconciliation)
    return ExitCode.DISCREPANCIES if found.discrepancies else ExitCode.OK


def _show_reconciliation(found: Reconciliation) -> None:
    blocks = f"blocks {found.from_block:,} to {found.to_block:,}, {found.events} new events"
    if not found.discrepancies:
        say(f"{blocks}: the books match the chain", style="green")
    else:
        say(f"{blocks}: {len(found.discrepancies)} discrepancies", style="bold red")
    for item in found.discrepancies:
        say()
        rows = [
            ("what", item.detail),
            ("amount", f"{item.amount} USDC" if item.amount is not None else None),
            ("purchase", item.purchase_id),
            ("escrow", item.escrow_id),
            ("next", item.action.replace(_EXPLAIN, f"{_EXPLAIN} {item.id} --by … --reason …")),
        ]
        card(f"{item.kind} {item.id}", None, rows)


def row_dict(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the audit log as JSON shows it."""
    from coordinator.domain.times import rfc3339

    return {**row, "at": rfc3339(row["at"])}


def _refresh(coordinator: Coordinator) -> None:
    try:
        with block_progress("reading blocks") as progress:
            coordinator.refresh(progress=progress)
    except ChainUnavailable as fault:
        note(f"{fault}: showing the last known figures")
