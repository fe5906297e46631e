"""Options of long-running commands for metrics at a port of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.command import note
from coordinator.extras import needs_extra

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator
    from coordinator.monitoring.metrics import Metrics

MetricsPort = Annotated[
    int | None,
    typer.Option(
        min=0, max=65_535, help="Serve /metrics at this port too, without a key; 0: any free one."
    ),
]
MetricsHost = Annotated[
    str, typer.Option(help="The address of the metrics: whoever reaches it can read them.")
]


def watched(metrics: Metrics, *, host: str, port: int | None) -> AbstractContextManager[object]:
    """Serve these metrics at the port while it is open; without a port it does nothing."""
    if port is None:
        return nullcontext()
    from coordinator.monitoring.listener import metrics_at

    return metrics_at(metrics, host=host, port=port, listening=lambda url: note(f"metrics {url}"))


def check_metrics_port(port: int | None) -> None:
    """Raise ConfigurationError where a port is given and what serves metrics is not installed."""
    if port is not None:
        with needs_extra("server", "--metrics-port"):
            import prometheus_client  # noqa: F401


@contextmanager
def watched_worker(coordinator: Coordinator, *, host: str, port: int | None) -> Iterator[None]:
    """Serve the metrics of a worker while it is open; without a port it does nothing."""
    if port is None:
        yield
        return
    from coordinator.monitoring.metrics import Metrics
    from coordinator.monitoring.readings import Readings

    opened = lambda: coordinator.opened  # noqa: E731 - asked anew each time: it may be closed
    with watched(Metrics(opened, Readings(opened)), host=host, port=port):
        yield
