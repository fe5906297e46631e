"""Serve the metrics of one process at a port of their own, without a key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import start_http_server

from coordinator.domain.errors import ConfigurationError
from coordinator.monitoring.metrics import Metrics


@contextmanager
def metrics_at(
    metrics: Metrics, *, host: str, port: int, listening: Callable[[str], object]
) -> Iterator[None]:
    """Serve ``/metrics`` until the block ends; ``listening`` is told the URL.

    ConfigurationError when the address can't be used.
    """
    try:
        server, thread = start_http_server(port, host, metrics.registry)
    except OSError as fault:
        said = fault.strerror or fault
        raise ConfigurationError(f"can't serve metrics at {host} port {port}: {said}") from None
    shown = f"[{host}]" if ":" in host else host
    listening(f"http://{shown}:{server.server_port}/metrics")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
