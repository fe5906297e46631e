"""The command line. Each command imports what it needs, so that --help is there at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from coordinator.cli import (
    agents,
    alerts,
    approvals,
    books,
    costs,
    health,
    hosts,
    increases,
    init,
    keys,
    limits,
    mcp,
    money,
    operations,
    policy,
    purchases,
    recovery,
    rotate,
    runs,
    serve,
    treasury,
    wallet,
    webhooks,
    x402,
)
from coordinator.cli.command import (
    Debug,
    Json,
    Verbose,
    carry_out,
    command,
    fail,
    mode,
    new_app,
    set_mode,
)
from coordinator.cli.exits import ExitCode

_FIRST: Final = "The first hour"
_BUYING: Final = "Buying"
_BUDGETS: Final = "Budgets"
_BOOKS: Final = "Books"
_RUNNING: Final = "Running it"
_PANELS: Final = (_FIRST, _BUYING, _BUDGETS, _BOOKS, _RUNNING)
# Usage errors of typer, whichever library it takes them from.
_UsageError: Final[Any] = typer.BadParameter.__mro__[1]


class _InPanels(TyperGroup):
    """Lists commands and groups panel by panel; by itself it lists all commands first."""

    def list_commands(self, ctx: Any) -> list[str]:
        def panel(name: str) -> int:
            return _PANELS.index(getattr(self.commands[name], "rich_help_panel", _RUNNING))

        return sorted(super().list_commands(ctx), key=panel)


def make_app() -> typer.Typer:
    app = new_app(summary="Budgets, approvals and on-chain USDC escrow for teams of agents.")
    app.callback(cls=_InPanels)(_global_options)
    top: dict[str, dict[str, Callable[..., int | None]]] = {
        _FIRST: {
            "demo": health.demo,
            "init": init.init,
            "deploy": money.deploy,
            "fund": money.fund,
            "doctor": health.doctor,
        },
        _BUDGETS: {"review": limits.review},
        _BOOKS: {
            "report": books.report,
            "gas": books.gas,
        },
        _RUNNING: {
            "serve": serve.serve,
            "mcp": mcp.mcp,
            "worker": operations.worker,
            "recover": recovery.recover,
            "pause": operations.pause,
            "unpause": operations.unpause,
            "withdraw": money.withdraw,
            "migrate": operations.migrate,
            "backup": recovery.backup,
            "rebuild": recovery.rebuild,
        },
    }
    for panel, commands in top.items():
        for name, function in commands.items():
            command(app, name, panel=panel)(function)
    groups = {
        _BUYING: (purchases.app, approvals.app, agents.app),
        _BUDGETS: (
            limits.app,
            increases.app,
            runs.runs_app("session"),
            runs.runs_app("task"),
            costs.app,
        ),
        _BOOKS: (_reconcile_app(), books.audit_app),
        _RUNNING: (
            keys.app,
            hosts.app,
            rotate.app,
            webhooks.app,
            policy.app,
            alerts.app,
            wallet.app,
            treasury.app,
            x402.app,
        ),
    }
    for panel, members in groups.items():
        for group in members:
            app.add_typer(group, rich_help_panel=panel)
    return app


def _reconcile_app() -> typer.Typer:
    app = new_app("reconcile", "Compare the books with the chain; also: explain.")
    app.info.no_args_is_help = False
    command(app, "explain")(books.explain)

    @app.callback(invoke_without_command=True)
    def reconcile(
        context: typer.Context,
        from_block: Annotated[
            int | None,
            typer.Option(min=0, help="Read the events from here on again, entry by entry."),
        ] = None,
        json: Json = False,
        debug: Debug = False,
        verbose: Verbose = False,
    ) -> None:
        set_mode(json=json, debug=debug, verbose=verbose)
        if context.invoked_subcommand is None:
            raise typer.Exit(carry_out(partial(books.reconcile, from_block)))

    return app


def _usage_message(fault: Any) -> str:
    said: str = fault.format_message()
    if fault.ctx is None:
        return said
    return f"{said.rstrip('.')}; see `{fault.ctx.command_path} --help`"


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"coordinator {version('usdc-escrow-coordinator')}")
        raise typer.Exit


def _global_options(
    json: Json = False,
    debug: Debug = False,
    verbose: Verbose = False,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_tell_version, help="Show the version."),
    ] = False,
) -> None:
    set_mode(json=json, debug=debug, verbose=verbose)


def main(
    arguments: Sequence[str] | None = None,
    *,
    app: typer.Typer | None = None,
    name: str = "coordinator",
) -> int:
    """Run one command; its exit code. ``app`` takes one group of the commands alone."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    mode.json = mode.debug = mode.verbose = False
    try:
        code = (app or make_app())(args=given or ["--help"], prog_name=name, standalone_mode=False)
    except typer.Abort:
        return fail("aborted", "stopped by you", ExitCode.FAILED)
    except _UsageError as fault:
        if not fault.format_message():  # a group alone has printed its help
            return ExitCode.INVALID
        mode.json |= "--json" in given
        return fail("usage", _usage_message(fault), ExitCode.INVALID)
    return int(code or ExitCode.OK)
