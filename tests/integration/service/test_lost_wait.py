"""A fault while a purchase is waited for says that its outcome is not known."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.service.simulated import SimulatedService, simulated_service


@pytest.fixture
def service() -> Iterator[SimulatedService]:
    with simulated_service() as made:
        yield made


def test_a_purchase_that_was_made_is_not_said_to_have_moved_no_money(
    service: SimulatedService,
) -> None:
    c, client = service.coordinator, service.client()
    c.acts = c.wiring.acts = False  # another process acts
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(
            client.post(
                "/v1/purchases?wait=funded&timeout=30",
                json={"provider": "paper-api", "amount": "5.00", "purpose": "a paper"},
                headers={"Idempotency-Key": "k"},
            )
        )

    asking = threading.Thread(target=ask)
    asking.start()
    with c.wiring.changes.watching() as told:
        while not len(c._watcher):
            told.wait(0.05)
    c._watcher.close()  # what Coordinator.close() does first
    asking.join()
    (made,) = c.purchases()
    assert made.status == "approved"  # a worker pays it
    assert answers[0].status_code == 200 or answers[0].json()["money_moved"] is not False, answers[
        0
    ].text
