"""coordinator serve: the treasury as an HTTP service."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from coordinator.cli.command import mode, note, opened, set_up_logging
from coordinator.cli.exits import ExitCode
from coordinator.cli.watching import MetricsHost, MetricsPort, watched
from coordinator.extras import needs_extra


def serve(
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any that is free.")] = 8402,
    with_worker: Annotated[
        bool, typer.Option("--with-worker", help="Act on chain too, in this process.")
    ] = False,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
) -> int:
    """Serve HTTP: decide, and let a worker act. It needs no treasury key.

    COORDINATOR_SIGNER=address:0x… is enough. Ends with SIGTERM or Ctrl-C.
    """
    with needs_extra("server", "coordinator serve"):
        from coordinator.server.serving import serve as run
    with opened(act=with_worker) as coordinator:
        if not (mode.debug or mode.verbose):
            settings = coordinator.wiring.settings
            set_up_logging(settings.log_level, settings.log_format)
        if with_worker:
            coordinator.wiring.signer.open()
            coordinator.start()
        coordinator.wiring.audit.check_may_write()
        treasury = coordinator.wiring.treasury_address
        run(
            coordinator,
            host=host,
            port=port,
            listening=lambda url: note(f"serving {url} for treasury {treasury}"),
            watched=partial(watched, host=metrics_host, port=metrics_port),
        )
    note("stopped serving; open purchases go on with the worker")
    return ExitCode.OK
