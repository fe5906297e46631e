"""A stream that opens while the last one closes is told of events."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from coordinator.server.events.feed import EventFeed
from tests.integration.service.simulated import simulated_service


def test_a_stream_that_opens_while_the_last_one_closes_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with simulated_service() as service:
        c = service.coordinator
        feed, first, told = EventFeed(lambda: c.opened), (lambda: None), threading.Event()
        feed.subscribe(first)
        unsubscribe: Callable[[Any], None] = c.wiring.changes.unsubscribe

        def meanwhile(changed: Any) -> None:
            # The other stream subscribes in a thread of its own, just before this is carried out.
            opening = threading.Thread(target=feed.subscribe, args=(told.set,))
            opening.start()
            opening.join(0.5)
            unsubscribe(changed)

        monkeypatch.setattr(c.wiring.changes, "unsubscribe", meanwhile)
        feed.unsubscribe(first)
        monkeypatch.undo()
        reading = c.wiring.changes._thread
        if reading is not None:
            reading.join(0.5)  # what was under way when both happened is over

        service.buy("5.00", wait=False)
        assert told.wait(10), "no event is told in this process any more"
