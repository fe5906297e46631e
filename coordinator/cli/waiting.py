"""Waiting for a purchase, with one line at a terminal that tells what is going on."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from coordinator.cli.command import mode
from coordinator.cli.exits import ExitCode, of_purchase
from coordinator.cli.output import readable_time

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator
    from coordinator.domain.purchase.purchase import Purchase

_LINE_SECONDS: Final = 1.0


def watched(
    coordinator: Coordinator, purchase_id: str, until: str, timeout_seconds: float
) -> Purchase:
    """Wait for the purchase; at a terminal one line tells what is going on."""
    if mode.json or not sys.stderr.isatty():
        return coordinator.wait_for(purchase_id, until=until, timeout_seconds=timeout_seconds)
    from rich.console import Console
    from rich.markup import escape

    deadline = time.monotonic() + timeout_seconds
    with Console(stderr=True).status("asking") as line:
        while True:
            look = max(0.0, min(deadline - time.monotonic(), _LINE_SECONDS))
            purchase = coordinator.wait_for(purchase_id, until=until, timeout_seconds=look)
            if of_purchase(purchase, until=until) == ExitCode.OK or purchase.needs_approval:
                return purchase
            if purchase.final or time.monotonic() >= deadline:
                return purchase
            line.update(
                escape(purchase.blocker.message if purchase.blocker else progress(purchase))
            )


def progress(purchase: Purchase) -> str:
    """Say in a few words what an unfinished, unblocked purchase waits for."""
    sent = [one for one in purchase.transactions if one.status in ("signed", "submitted")]
    if sent:
        steps = " and ".join(dict.fromkeys(one.step for one in sent))
        return f"{steps} sent, waiting for a block since {readable_time(purchase.updated_at)}"
    if purchase.status.value in ("approved", "created"):
        return f"{purchase.status}, about to be sent"
    return {
        "funded": "funded, waiting for the provider to start",
        "started": "started, waiting for the provider to deliver",
        "delivered": "delivered, waiting for its dispute window to end",
        "disputed": "disputed, waiting for the ruling",
    }.get(purchase.status.value, f"{purchase.status}")
