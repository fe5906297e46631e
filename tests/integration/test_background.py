"""What an approver is told of the past of a provider and of an agent."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.dialects import sqlite

from coordinator.domain.purchase.background import DAYS
from coordinator.ledger.spend.background_book import STATEMENTS
from tests.integration.stores import on_either
from tests.integration.world import World

DAY = 86_400


def settled(world: World, amount: str = "25.00") -> None:
    bought = world.fund(amount)
    world.chain.deliver(bought.escrow_id)
    world.pass_time(3 * DAY)
    world.go()
    assert world.status(bought) == "settled"


@on_either
def test_the_first_payment_to_a_provider_is_told_until_one_was_settled(world: World) -> None:
    background = world.coordinator.background
    asked = world.buy("60.00").approval_id or ""
    first = background(asked).as_dict()["provider"]
    assert first == {
        "address": world.chain.provider,
        "settled": 0,
        "disputed": 0,
        "first_payment": True,
    }
    settled(world)
    delivered = world.fund("25.00")
    world.chain.deliver(delivered.escrow_id)
    world.go()
    world.coordinator.dispute(delivered.id, approver="alice", reason="it is empty")
    world.go()
    past = background(world.buy("60.00").approval_id or "").provider
    assert past is not None
    assert (past.settled, past.disputed, past.first_payment) == (1, 1, False)
    other = background(world.buy("60.00", provider="other-api").approval_id or "").provider
    assert other is not None and other.first_payment


@on_either
def test_an_agents_last_days_are_counted_and_summed(world: World) -> None:
    world.buy("10.00")
    world.pass_time(DAYS * DAY)
    world.fund("20.00")
    world.buy("2000.00")  # denied: above its limit for one purchase
    asked = world.buy("60.00")
    past = world.coordinator.background(asked.approval_id or "").agent
    assert past is not None
    assert (past.requests, past.paid, past.denied) == (3, 1, 1)
    assert len(past.days) == DAYS
    today = past.as_dict()["days"][-1]
    assert (today["spent"], today["held"]) == ("0.00", "80.00")


@on_either
def test_proposals_and_requests_for_more_have_their_own_background(world: World) -> None:
    more: dict[str, Any] = {"required": 2}
    approvals = world.policy.approvals.model_copy(update=more)
    world.apply(world.policy.model_copy(update={"approvals": approvals}))
    delivered = world.fund("25.00")
    world.chain.deliver(delivered.escrow_id)
    world.go()
    world.coordinator.settle(delivered.id, approver="alice")
    (settle,) = world.coordinator.proposals()
    about = world.coordinator.background(settle.id)
    assert about.provider is not None and about.provider.address == world.chain.provider
    assert about.agent is not None and about.agent.agent == "research-agent"
    world.coordinator.pause("a test", by="olga")
    world.coordinator.unpause("go on", by="alice")
    (unpause,) = [one for one in world.coordinator.proposals() if one.id != settle.id]
    nothing = world.coordinator.background(unpause.id)
    assert (nothing.provider, nothing.agent) == (None, None)


@pytest.mark.parametrize(
    ("name", "indices"),
    [
        ("settled", {"escrows_settled"}),
        ("disputed", {"escrow_events_disputed", "sqlite_autoindex_escrows_1"}),
        ("counts", {"purchases_agent"}),
    ],
)
def test_no_history_makes_it_slow(world: World, name: str, indices: set[str]) -> None:
    """Each is read by an index and stops at a number of rows."""
    compiled = STATEMENTS[name].compile(
        dialect=sqlite.dialect(), compile_kwargs={"literal_binds": False}
    )
    with world.wiring.database.read() as connection:
        raw: Any = connection.connection.dbapi_connection
        plan = raw.execute(
            f"EXPLAIN QUERY PLAN {compiled}", [1] * len(compiled.positiontup or ())
        ).fetchall()
    steps = [row[3] for row in plan]
    used = {step.split("INDEX ")[1].split(" ")[0] for step in steps if "INDEX" in step}
    assert used == indices, steps
    read = [step for step in steps if step.startswith("SCAN")]
    assert all("INDEX" in step or "subquery" in step or "anon" in step for step in read), steps
    assert "LIMIT" in str(compiled)
