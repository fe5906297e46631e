"""The metrics of one process, in a registry of its own.

An amount named ``_usdc`` is the one place where USDC is a float: Prometheus has no other number.
Nothing is computed from it here, and the exact amounts are in the reports.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from coordinator.domain.observed import Event
from coordinator.domain.usdc import Usdc
from coordinator.ledger.tx.figures import Figures
from coordinator.monitoring.readings import Readings
from coordinator.wiring import Wiring

_DECISION_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_HTTP_SECONDS: Final = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60)


class Metrics:
    """The counters of this process, and the books' figures at the time of a scrape."""

    def __init__(self, opened: Callable[[], Wiring], readings: Readings) -> None:
        self.registry = registry = CollectorRegistry()
        self._decisions = Counter(
            "coordinator_decisions",
            "Decisions on purchases and costs, by outcome and reason code.",
            ("of", "outcome", "reason"),
            registry=registry,
        )
        self._seconds = Histogram(
            "coordinator_decision_seconds",
            "Seconds from a purchase's request to its committed decision.",
            buckets=_DECISION_SECONDS,
            registry=registry,
        )
        self._requests = Counter(
            "coordinator_http_requests",
            "HTTP requests by the template of their route.",
            ("route", "method", "status"),
            registry=registry,
        )
        self._request_seconds = Histogram(
            "coordinator_http_request_seconds",
            "Seconds of HTTP requests, long polls included.",
            ("route",),
            buckets=_HTTP_SECONDS,
            registry=registry,
        )
        registry.register(_Books(opened, readings))
        ProcessCollector(registry=registry)
        opened().on_event(self._count)
        opened().timers.append(self._seconds.observe)

    def request(self, *, route: str, method: str, status: int, seconds: float) -> None:
        """Count one HTTP request."""
        self._requests.labels(route, method, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)

    def _count(self, event: Event) -> None:
        if event.kind == "decision":
            of = "cost" if "cost_id" in event.ids else "purchase"
            self._decisions.labels(of, event.outcome or "", event.reason or "").inc()


class _Books(Collector):
    """Figures that are read when they are asked for."""

    def __init__(self, opened: Callable[[], Wiring], readings: Readings) -> None:
        self._opened = opened
        self._readings = readings

    def describe(self) -> Sequence[Metric]:
        """Name nothing beforehand: a registry would read the database to find the names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        w = self._opened()
        yield _labelled(
            "coordinator_build_info",
            "The version that runs.",
            ("version", "python", "network"),
            [
                (
                    (
                        version("usdc-escrow-coordinator"),
                        platform.python_version(),
                        w.settings.network,
                    ),
                    1,
                )
            ],
        )
        calls = CounterMetricFamily(
            "coordinator_rpc_calls",
            "JSON-RPC calls that this process has sent.",
            labels=("method",),
        )
        sent = w.rpc.calls_sent if "rpc" in vars(w) else {}
        for method, count in sorted(sent.items()):
            calls.add_metric((method,), count)
        yield calls
        figures = self._readings.read()
        known = figures is not None and figures.has_this_schema
        yield _gauge("coordinator_books_readable", "1 if the database answers.", int(known))
        if figures is not None and known:
            yield from _of(figures)


def _of(f: Figures) -> Iterator[Metric]:
    yield _gauge("coordinator_worker_alive", "1 while a worker's lease is alive.", f.worker_alive)
    yield _gauge("coordinator_pauses", "Scopes in which spending is paused.", f.pauses)
    holds = sorted((f.holds or {}).items())
    yield _labelled(
        "coordinator_holds",
        "Open holds by kind.",
        ("kind",),
        [((kind,), held.count) for kind, held in holds],
    )
    yield _labelled(
        "coordinator_held_usdc",
        "USDC of open holds by kind; a float, for display alone.",
        ("kind",),
        [((kind,), _display(held.amount)) for kind, held in holds],
    )
    yield _labelled(
        "coordinator_purchases_open",
        "Purchases that are not final, by status.",
        ("status",),
        [((status,), count) for status, count in (f.open or {}).items()],
    )
    yield _labelled(
        "coordinator_purchase_oldest_seconds",
        "Age of the oldest open purchase of each status.",
        ("status",),
        [((status,), max(0, f.now - at)) for status, at in (f.oldest or {}).items()],
    )
    yield _labelled(
        "coordinator_approvals_waiting",
        "What waits for approvers, by kind.",
        ("kind",),
        [((kind,), count) for kind, count in (f.waiting or {}).items()],
    )
    yield _gauge(
        "coordinator_nonce_gap",
        "Nonces owned by calls that the chain has not used yet.",
        f.nonce_gap,
    )
    yield _gauge("coordinator_notices_undelivered", "Notices due for delivery.", f.notices_due)
    yield from _of_the_chain(f)


def _of_the_chain(f: Figures) -> Iterator[Metric]:
    if f.block is not None:
        number, at = f.block
        yield _gauge("coordinator_cursor_block", "The newest block in the books.", number)
        yield _gauge(
            "coordinator_cursor_lag_seconds",
            "Age of the newest block in the books.",
            max(0, f.now - at),
        )
        if f.balances is not None:
            yield _gauge(
                "coordinator_cursor_lag_blocks",
                "Blocks from the books' newest to the newest that the worker saw.",
                max(0, f.balances.block_number - number),
            )
    if f.balances is not None:
        seen = f.balances
        yield _gauge("coordinator_gas_balance_wei", "The treasury's ETH in wei.", seen.gas_wei)
        yield _gauge(
            "coordinator_treasury_usdc",
            "The treasury's USDC outside escrows; a float, for display alone.",
            _display(seen.usdc),
        )
        yield _gauge(
            "coordinator_balances_age_seconds",
            "Age of these balances.",
            max(0, f.now - seen.at),
        )
    if f.reconciled is not None:
        found, at = f.reconciled
        yield _gauge(
            "coordinator_discrepancies", "Discrepancies that the last reconciliation found.", found
        )
        yield _gauge(
            "coordinator_reconciliation_age_seconds",
            "Seconds since the last reconciliation.",
            max(0, f.now - at),
        )


def _display(amount: Usdc) -> float:
    return amount.base_units / 1_000_000


def _gauge(name: str, summary: str, value: float) -> Metric:
    return GaugeMetricFamily(name, summary, value=value)


def _labelled(
    name: str,
    summary: str,
    labels: Sequence[str],
    values: Sequence[tuple[Sequence[str], float]],
) -> Metric:
    family = GaugeMetricFamily(name, summary, labels=labels)
    for found, value in values:
        family.add_metric(found, value)
    return family
