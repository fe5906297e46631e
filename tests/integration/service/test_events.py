"""Events over HTTP: whose they are, where a stream goes on, and when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from coordinator.domain.events.event import EventFilter
from coordinator.server.events.streams import PER_KEY_MAX, EventStream, Streams
from tests.integration.service.streams import Served, served, streaming
from tests.integration.stores import on_both
from tests.integration.world import World


@pytest.fixture
def server(world: World) -> Iterator[Served]:
    with served(world.coordinator) as made:
        yield made


def _key(world: World, role: str, name: str, **terms: Any) -> str:
    return world.coordinator.create_api_key(role, name, by="olga", **terms).token


def _types(found: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in found]


@on_both
def test_an_agent_is_told_of_its_own_purchase_costs_increases_and_runs_alone(
    world: World, server: Served
) -> None:
    mine = _key(world, "agent", "research-agent")
    everybody = _key(world, "auditor", "carol")
    head = str(world.wiring.events.head())
    own, other = (world.coordinator.agent(f"{name}-agent") for name in ("research", "data"))

    for agent in (other, own):
        agent.open_session(f"of {agent.id}")
        agent.hold("1.00").post("0.50")
        world.buy("60.00", agent=agent.id)
        agent.request_increase("3000", reason="more papers", window="total")
    world.coordinator.pause("a look", by="olga")
    bought = world.buy("2.00")
    assert bought.denied
    world.buy("3.00", agent="data-agent")
    end = "purchase.denied"

    with streaming(server.url, mine, last_event_id=head) as stream:
        told = stream.until(end)
    assert {event["agent"] for event in told} == {"research-agent"}
    assert _types(told) == [
        "session.opened",
        "cost.held",
        "cost.posted",
        "approval.waiting",
        "increase.waiting",
        "purchase.denied",
    ]
    assert (told[2]["amount"], told[2]["posted"]) == ("1.00", "0.50")
    assert told[3]["provider_name"] == "paper-api"
    assert told[5]["reason"]["code"] == "paused"
    assert "data-agent" not in str(told)

    with streaming(server.url, everybody, last_event_id=head) as stream:
        all_told = stream.until("paused")
    assert {event.get("agent") for event in all_told} == {"research-agent", "data-agent", None}
    ids = [event["id"] for event in all_told]
    assert ids == sorted(set(ids))


@on_both
def test_a_stream_goes_on_after_the_last_id_without_gaps_or_doubles(
    world: World, server: Served
) -> None:
    token = _key(world, "agent", "research-agent")
    with streaming(server.url, token) as live:
        begin = live.position
        world.fund("5.00")
        whole = live.until("purchase.funded")
        assert _types(whole) == ["purchase.approved", "purchase.created", "purchase.funded"]
    assert [event["tx_hash"] is not None for event in whole[1:]] == [True, True]

    for place, event in enumerate(whole[:-1]):
        with streaming(server.url, token, last_event_id=str(event["id"])) as again:
            assert again.until("purchase.funded") == whole[place + 1 :]
    with streaming(server.url, token, after=begin, types="purchase.funded,paused") as some:
        assert some.until("purchase.funded") == whole[-1:]


@on_both
def test_what_is_not_kept_any_more_is_read_again(
    world: World, server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.server.events.feed._KEPT_MAX", 2)
    monkeypatch.setattr("coordinator.ledger.events.event_book.PAGE_ROWS", 3)
    token = _key(world, "agent", "research-agent")
    with streaming(server.url, token) as live:
        begin = live.position
        ids = [world.buy("1.00").id for _ in range(9)]
        last = world.coordinator.agent("research-agent").record("0.10")
        told = live.until("cost.posted")
        with streaming(server.url, token, after=begin) as late:
            assert late.until("cost.posted") == told
    assert [event["purchase_id"] for event in told[:-1]] == ids
    assert told[-1]["cost_id"] == last.id


@pytest.mark.parametrize("how", ["revoked", "rotated"])
def test_a_stream_ends_with_its_key(world: World, server: Served, how: str) -> None:
    made = world.coordinator.create_api_key("agent", "research-agent", by="olga")
    with streaming(server.url, made.token) as stream:
        if how == "revoked":
            world.coordinator.revoke_api_key(made.key.id, by="olga")
        else:
            world.coordinator.rotate_api_key(made.key.id, by="olga", overlap=0)
        assert list(stream.events()) == []


def test_streams_end_cleanly_when_the_server_stops(world: World) -> None:
    token = _key(world, "auditor", "carol")
    with ExitStack() as open_streams, served(world.coordinator) as server:
        stream = open_streams.enter_context(streaming(server.url, token))
        server.stop()
        assert list(stream.events()) == []


def test_a_key_has_a_bounded_number_of_streams(world: World, server: Served) -> None:
    token, other = _key(world, "auditor", "carol"), _key(world, "auditor", "dave")
    kept = []
    with ExitStack() as streams:
        for _ in range(PER_KEY_MAX):
            kept.append(streams.enter_context(streaming(server.url, token)))
        with pytest.raises(AssertionError, match="too_many_requests"):
            streams.enter_context(streaming(server.url, token))
        streams.enter_context(streaming(server.url, other))


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({"Last-Event-ID": "999999"}, {}, 409),
        ({"Last-Event-ID": "-1"}, {}, 422),
        ({"Last-Event-ID": "1; DROP"}, {}, 422),
        ({}, {"after": "9" * 30}, 422),
        ({}, {"types": "purchase.funded,nonsense"}, 422),
        ({"Authorization": "Bearer uec_0"}, {}, 401),
    ],
)
def test_what_makes_no_sense_is_refused(
    world: World, server: Served, headers: dict[str, str], query: dict[str, str], status: int
) -> None:
    auth = {"Authorization": f"Bearer {_key(world, 'auditor', 'carol')}"}
    answer = httpx.get(
        f"{server.url}/v1/events", headers=auth | headers, params=query, trust_env=False
    )
    assert answer.status_code == status
    assert answer.json()["code"]


def test_a_changed_row_is_not_told(world: World, server: Served) -> None:
    token = _key(world, "auditor", "carol")
    head = world.wiring.events.head()
    world.buy("1.00")
    world.edit("UPDATE audit SET event = 'purchase_settled' WHERE seq = ?", head + 1)
    world.coordinator.agent("research-agent").record("0.10")
    with streaming(server.url, token, after=head) as stream:
        # The row after it is proved by the changed one's hash, which is still the same.
        assert _types(stream.until("cost.posted")) == ["cost.posted"]


def _told_to(send: Callable[[dict[str, Any]], Any], world: World, **terms: float) -> None:
    streams = Streams(world.coordinator, **terms)
    made = world.coordinator.create_api_key("auditor", "carol", by="olga")
    stream = EventStream(streams, made.key, EventFilter(), 0, still_valid=lambda: True)

    async def stay() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    asyncio.run(asyncio.wait_for(stream({"type": "http"}, stay, send), 20))


def test_a_reader_that_takes_nothing_is_let_go(world: World) -> None:
    sent: list[dict[str, Any]] = []

    async def full(message: dict[str, Any]) -> None:
        sent.append(message)
        if len(sent) == 3:
            await asyncio.Event().wait()

    _told_to(full, world, send_seconds=0.05)
    assert [message["type"] for message in sent] == [
        "http.response.start",
        "http.response.body",
        "http.response.body",
    ]


def test_a_quiet_stream_shows_that_it_lives(world: World) -> None:
    class LeftError(Exception):
        pass

    async def take(message: dict[str, Any]) -> None:
        if message.get("body") == b": still here\n":
            raise LeftError

    with pytest.raises(LeftError):
        _told_to(take, world, heartbeat_seconds=0.02)
