"""No block is final before it was read twice: what the readings do not agree about is mended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import event

from coordinator.domain.errors import ChainUnavailable
from tests.integration.bad_endpoint import Ask, BadEndpoint, Call
from tests.integration.stores import on_both_payers, on_either
from tests.integration.world import World

pytestmark = [on_either, on_both_payers]
FINALITY = 30


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(finality=str(FINALITY))


def finalise(world: World) -> None:
    world.chain.mine(FINALITY)
    world.round()
    world.round()


def final_number(world: World) -> int:
    final = world.wiring.books.final()
    assert final is not None
    return final.number


def ranges_without_logs(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
    """Logs of ranges are left out; those of a block by its hash are told."""
    return [
        [] if method == "eth_getLogs" and "fromBlock" in params[0] else answer
        for (method, params), answer in zip(calls, ask(url, calls), strict=True)
    ]


def test_a_second_reading_that_is_interrupted_goes_on_where_it_stopped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fund()
    world.chain.mine(FINALITY + 20)
    world.wiring.follower.follow(world.wiring.chain.observe())
    before = final_number(world)
    monkeypatch.setattr("coordinator.books.ranges.RANGE_MAX", 4)
    told: list[tuple[int, int, int]] = []

    def stop(first: int, reached: int, last: int) -> None:
        told.append((first, reached, last))
        if len(told) == 3:
            raise KeyboardInterrupt

    seen = world.wiring.chain.observe()
    with pytest.raises(KeyboardInterrupt):
        world.wiring.follower.follow(seen, progress=stop)
    reached = final_number(world)
    assert reached == told[-1][1] == before + 12 < seen.final_number
    world.restart()
    told.clear()
    world.wiring.follower.follow(seen, progress=lambda *at: told.append(at))
    assert told[0] == (reached, reached + 4, seen.final_number)
    assert final_number(world) == seen.final_number
    world.check_books()


@pytest.mark.parametrize("table", ["journal", "escrow_events"])
def test_an_event_of_a_block_that_is_not_on_the_chain_is_taken_out_before_it_is_final(
    world: World, table: str
) -> None:
    purchase = world.fund()
    at = world.chain.height
    if table == "journal":
        world.edit(
            "INSERT INTO journal (block_hash, log_index, block_number, tx_hash, at, kind, debit,"
            " credit, amount) VALUES ('0xdead', 0, ?, '0xbeef', 0, 'deposit', 'own:0xa1',"
            " 'address:0x1', 5000000)",
            at,
        )
    else:
        world.edit(
            "INSERT INTO escrow_events (block_hash, log_index, block_number, tx_hash, at, kind,"
            " escrow_id, state) VALUES ('0xdead', 0, ?, '0xbeef', 0, 'escrow_moved', ?, 'started')",
            at,
            purchase.escrow_id or "",
        )
    finalise(world)
    world.go()
    assert world.rows(f"SELECT count(*) FROM {table} WHERE block_hash = '0xdead'") == [(0,)]
    assert world.status(purchase) == "funded"
    assert final_number(world) > at
    assert world.wiring.operations.pauses() == []
    world.check_books()


def test_logs_left_out_of_the_second_reading_are_waited_for_and_take_nothing_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    purchase = world.fund()
    before = final_number(world)
    world.chain.mine(FINALITY)
    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, ranges_without_logs)
    for _ in range(3):
        with pytest.raises(ChainUnavailable, match="leaves logs of block"):
            world.round()
    assert final_number(world) == before
    assert world.status(purchase) == "funded"
    assert world.rows("SELECT count(*) FROM audit WHERE event = 'journal_rolled_back'") == [(0,)]
    endpoint.heal()
    finalise(world)
    assert final_number(world) > before
    world.check_books()


def test_the_second_reading_asks_for_its_own_escrows_and_not_for_all_of_history(
    world: World,
) -> None:
    world.fund()
    world.round()
    asked: list[str] = []
    engine = world.wiring.database.engine

    @event.listens_for(engine, "before_cursor_execute")
    def _note(_: Any, __: Any, statement: str, *___: Any) -> None:
        asked.append(statement)

    finalise(world)
    event.remove(engine, "before_cursor_execute", _note)
    of_escrows = [s for s in asked if s.startswith("SELECT escrows.escrow_id \nFROM escrows")]
    assert all("WHERE escrows.escrow_id IN" in statement for statement in of_escrows)
    assert final_number(world) > 0
