"""Commands for operators: pause, migrate, and run the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.command import ask, fail, mode, note, opened, refuse, set_up_logging
from coordinator.cli.ending import Ending, ending
from coordinator.cli.exits import ExitCode, of_refusal
from coordinator.cli.output import emit, tell
from coordinator.cli.recovery import tell_recovered
from coordinator.cli.watching import MetricsHost, MetricsPort, check_metrics_port, watched_worker
from coordinator.domain.errors import CoordinatorError

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator

By = Annotated[str | None, typer.Option(help="Your name, for the audit log (required).")]
ByApprover = Annotated[
    str | None, typer.Option("--by", help="Your name, one of the policy's approvers (required).")
]
Reason = Annotated[str | None, typer.Option(help="The reason, for the audit log (required).")]
OfAgent = Annotated[str | None, typer.Option(help="Only this agent's spending.")]
OfPool = Annotated[str | None, typer.Option(help="Only the spending of this pool's agents.")]
OfProvider = Annotated[str | None, typer.Option(help="Only spending to this provider.")]
OfRequests = Annotated[bool, typer.Option("--x402", help="Only payments for HTTP requests.")]


def pause(
    reason: Reason = None,
    by: By = None,
    agent: OfAgent = None,
    pool: OfPool = None,
    provider: OfProvider = None,
    x402: OfRequests = False,
) -> None:
    """Stop new spending at once, in every process; funded escrows are still followed."""
    reason = ask("Reason", reason, "--reason TEXT")
    by = ask("Your name", by, "--by NAME")
    with opened(act=False) as coordinator:
        changed = coordinator.pause(
            reason, by=by, agent=agent, pool=pool, provider=provider, x402=x402
        )
        _tell_pauses(coordinator, changed, "paused", "already paused")


def unpause(
    reason: Reason = None,
    by: ByApprover = None,
    agent: OfAgent = None,
    pool: OfPool = None,
    provider: OfProvider = None,
    x402: OfRequests = False,
) -> int:
    """Allow spending again, once as many approvers as the policy requires have agreed."""
    from coordinator.api.queries import scope_of

    by = ask("Your name in the policy", by, "--by NAME")
    reason = ask("Reason", reason, "--reason TEXT")
    with opened(act=False) as coordinator:
        before = len(coordinator.wiring.operations.pauses())
        scope, of = scope_of(agent=agent, pool=pool, provider=provider, x402=x402)
        treasury = coordinator.wiring.treasury
        refusal = treasury.unpause(reason, approver=by, scope=scope, of=of)
        if refusal is not None:
            return refuse(refusal, of_refusal(refusal))
        changed = len(coordinator.wiring.operations.pauses()) < before
        _tell_pauses(coordinator, changed, "unpaused", "nothing was paused there")
    return ExitCode.OK


def worker(
    once: Annotated[bool, typer.Option("--once", help="Exit once nothing is left to do.")] = False,
    timeout_seconds: Annotated[
        int, typer.Option(min=1, help="With --once: the most seconds it may take.")
    ] = 600,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
) -> int:
    """Carry purchases to their end until SIGTERM or Ctrl-C, logging each event to stderr."""
    check_metrics_port(metrics_port)
    with opened() as coordinator:
        if not (mode.debug or mode.verbose):
            settings = coordinator.wiring.settings
            set_up_logging(settings.log_level, settings.log_format)
        if once:
            return tell_recovered(coordinator, timeout_seconds)
        with ending() as end:
            fault = _work(coordinator, end, metrics_host, metrics_port)
    if fault is not None:
        if isinstance(fault, CoordinatorError):
            raise fault
        return fail("executor_stopped", f"the executor stopped: {fault}", ExitCode.FAILED)
    if mode.json:
        emit({"stopped": True})
    note("worker stopped; open purchases continue at the next start")
    return ExitCode.OK


def _work(
    coordinator: Coordinator, end: Ending, metrics_host: str, metrics_port: int | None
) -> BaseException | None:
    """Work until ``end``; return the fault that stopped the executor before, if any did."""
    w = coordinator.wiring
    w.signer.open()
    coordinator.start()
    with watched_worker(coordinator, host=metrics_host, port=metrics_port):
        note(
            f"worker for {w.treasury_address} on {w.network.name}, chain"
            f" {w.deployment.chain_id}; Ctrl-C or SIGTERM ends it"
        )
        # An executor that stops has everybody look.
        w.changes.subscribe(end.poke)
        end.wait(lambda: w.executor.fault is not None)
        w.changes.unsubscribe(end.poke)
    return w.executor.fault


def migrate() -> None:
    """Upgrade the database to the schema of this version."""
    from coordinator.config import environment, load_settings
    from coordinator.provisioning.schema import migrate_database

    found = migrate_database(load_settings(environment()).database_url)
    done = "migrated to" if found.changed else "already has"
    tell(
        {"database": found.database, "migrated": found.changed, "revision": found.revision},
        f"{found.database} {done} schema revision {found.revision}",
    )


def _tell_pauses(coordinator: Coordinator, changed: bool, done: str, nothing: str) -> None:
    pauses = [str(found) for found in coordinator.claimed.operations.pauses()]
    text = f"{done if changed else nothing}; scopes paused now: {', '.join(pauses) or 'none'}"
    tell({"changed": changed, "paused": pauses}, text)
