"""Webhooks: nothing is lost, nobody else is told, and nothing private is reached."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator import Coordinator
from coordinator.domain.access.destinations import networks
from coordinator.domain.events.event import PublicEvent
from coordinator.webhooks.sending import Outcome, Resolve, Sender, resolve
from tests.integration.service.receivers import Receiver, ids_of, receiving, types_of
from tests.integration.stores import on_both
from tests.integration.world import World

LOOPBACK = "127.0.0.0/8"
DAY = 86_400


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def world(make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> World:
    """It delivers, looks often, and may reach loopback."""
    monkeypatch.setattr("coordinator.webhooks.delivery._LOOK_SECONDS", 0.02)
    made = make_world(webhook_allow=LOOPBACK)
    made.wiring.deliverer.start()
    return made


def _add(world: World, url: str, **terms: Any) -> tuple[str, str]:
    made = world.coordinator.add_webhook(url, by="olga", **terms)
    return made.webhook.id, made.secret


def _until(world: World, condition: Callable[[Coordinator], Any]) -> None:
    """Wait for what the deliverer writes."""
    deadline = time.monotonic() + 30
    with world.wiring.changes.watching() as looked:
        while not condition(world.coordinator):
            assert time.monotonic() < deadline, "it did not come"
            # A position alone is no change that anybody is told of.
            looked.wait(0.02)
            looked.clear()


@on_both
def test_a_purchases_life_is_told_signed_and_in_order(world: World, receiver: Receiver) -> None:
    webhook_id, secret = _add(world, receiver.url, agent="research-agent")
    receiver.knows(secret, "whsec_" + "A" * 43 + "=")
    purchase = world.fund("5.00")
    world.buy("1.00", agent="data-agent")
    world.coordinator.agent("research-agent").record("0.10")

    told = receiver.told(4)
    assert types_of(told) == [
        "purchase.approved",
        "purchase.created",
        "purchase.funded",
        "cost.posted",
    ]
    assert [one["verified"] for one in told] == [[True, False]] * 4
    assert told[2]["body"]["data"]["purchase_id"] == purchase.id
    assert told[2]["body"]["timestamp"] == told[2]["body"]["data"]["at"]
    assert len(set(ids_of(told))) == 4
    _until(world, lambda c: c.webhook(webhook_id).position >= world.wiring.events.head())


@on_both
def test_a_receiver_that_was_down_loses_nothing_and_is_told_in_order(
    world: World, receiver: Receiver
) -> None:
    types = ["purchase.approved"]
    webhook_id, _ = _add(world, receiver.url, types=types)
    receiver.stop()
    bought = [world.buy("1.00").id]
    _until(world, lambda c: c.webhook_deliveries(webhook_id))
    bought += [world.buy("1.00").id for _ in range(3)]
    (failed,) = world.coordinator.webhook_deliveries(webhook_id)
    assert failed.status == "waiting"
    # Refused, or taken by a socket that was just closing.
    assert failed.fault

    with receiving(port=receiver.port) as back:
        world.pass_time(6)
        told = back.told(4)
    assert [one["body"]["data"]["purchase_id"] for one in told] == bought
    _until(world, lambda c: c.webhook(webhook_id).failing_since is None)
    (failed,) = world.coordinator.webhook_deliveries(webhook_id)
    assert (failed.status, failed.tries, failed.fault) == ("delivered", 1, None)


def test_what_is_told_again_has_the_same_id(world: World, receiver: Receiver) -> None:
    webhook_id, _ = _add(world, receiver.url, types=["purchase.approved"])
    begin = world.coordinator.webhook(webhook_id).position
    world.buy("1.00"), world.buy("1.00")
    first = receiver.told(2)
    _until(world, lambda c: c.webhook(webhook_id).position >= first[1]["body"]["data"]["id"])
    world.coordinator.replay_webhook(webhook_id, after=begin, by="olga")
    assert ids_of(receiver.told(4)) == ids_of(first) * 2
    second_event = first[1]["body"]["data"]["id"]
    world.coordinator.replay_webhook(webhook_id, after=second_event - 1, by="olga")
    assert ids_of(receiver.told(5))[4:] == ids_of(first)[1:]


def test_a_replay_counts_though_a_try_of_the_same_event_is_under_way(
    make_world: Callable[..., World],
) -> None:
    world = make_world(webhook_allow=LOOPBACK)
    webhook_id, _ = _add(world, "http://127.0.0.1:9/")
    w, now = world.wiring, world.clock()
    lease = w.webhook_leases.acquire("one", seconds=60)
    under_way = w.webhooks.get(webhook_id)
    assert lease is not None
    world.buy("1.00")
    world.coordinator.replay_webhook(webhook_id, after=under_way.position, by="olga")
    head = w.events.head()
    assert not w.outbox.delivered(lease, under_way, head, again=False, now=now)
    assert w.webhooks.get(webhook_id).position == under_way.position


def test_both_secrets_sign_until_the_overlap_ends(world: World, receiver: Receiver) -> None:
    webhook_id, old = _add(world, receiver.url, types=["purchase.approved"])
    new = world.coordinator.rotate_webhook(webhook_id, by="olga", overlap="1h").secret
    assert new != old
    receiver.knows(old, new)
    world.buy("1.00")
    assert [one["verified"] for one in receiver.told(1)] == [[True, True]]
    world.pass_time(3601)
    world.buy("1.00")
    last = receiver.told(2)[1]
    assert (last["verified"], last["signatures"]) == ([False, True], 1)
    stored = world.rows("SELECT * FROM webhooks")
    assert old not in str(stored) and new not in str(stored)


def test_what_fails_for_three_days_disables_the_target_and_people_are_told(
    world: World, receiver: Receiver
) -> None:
    webhook_id, _ = _add(world, f"{receiver.url}/broken", types=["purchase.approved"])
    world.buy("1.00")
    told = receiver.told(1)

    def tries(coordinator: Coordinator) -> int:
        return coordinator.webhook_deliveries(webhook_id)[0].tries

    for count in range(1, 10):
        _until(world, lambda c, count=count: c.webhook_deliveries(webhook_id) and tries(c) == count)
        assert world.coordinator.webhook(webhook_id).disabled_at is None
        world.pass_time(DAY)
    told = receiver.told(10)
    assert len(set(ids_of(told))) == 1
    _until(world, lambda c: c.webhook(webhook_id).disabled_at is not None)
    (notice,) = world.coordinator.alerts(kind="webhook_disabled")
    assert webhook_id in notice.notice.message
    assert "webhook_disabled" in [row["event"] for row in world.coordinator.audit()]
    world.buy("1.00")
    # Enabled again, it is told of what came meanwhile.
    after = told[0]["body"]["data"]["id"]
    world.coordinator.replay_webhook(webhook_id, after=after, by="olga")
    assert receiver.told(11)[10]["body"]["data"]["id"] > after


def test_an_event_that_is_refused_for_ever_does_not_hold_up_the_others(
    world: World, receiver: Receiver
) -> None:
    webhook_id, _ = _add(world, f"{receiver.url}/broken", types=["purchase.approved"])
    world.buy("1.00")
    _until(world, lambda c: c.webhook_deliveries(webhook_id))
    (due,) = world.rows("SELECT due_at FROM webhook_deliveries")
    world.edit("UPDATE webhook_deliveries SET due_at = ?", due[0] + 10 * DAY)
    world.buy("1.00")
    world.pass_time(6)
    assert len(set(ids_of(receiver.told(2)))) == 2


def test_what_failed_meanwhile_comes_as_soon_as_the_target_is_back(
    world: World, receiver: Receiver
) -> None:
    webhook_id, _ = _add(world, receiver.url, types=["purchase.approved"])
    receiver.stop()
    bought = [world.buy("1.00").id]
    _until(world, lambda c: c.webhook_deliveries(webhook_id))
    (due,) = world.rows("SELECT due_at FROM webhook_deliveries")
    world.edit("UPDATE webhook_deliveries SET due_at = ?", due[0] + 10 * DAY)
    bought.append(world.buy("1.00").id)
    with receiving(port=receiver.port) as back:
        world.pass_time(6)
        told = back.told(2)
    assert [one["body"]["data"]["purchase_id"] for one in told] == bought[::-1]


def test_410_disables_at_once(world: World, receiver: Receiver) -> None:
    webhook_id, _ = _add(world, f"{receiver.url}/gone")
    world.buy("1.00")
    _until(world, lambda c: c.webhook(webhook_id).disabled_at is not None)
    assert len(receiver.told()) == 1


def test_a_target_changed_in_the_database_is_told_nothing(
    make_world: Callable[..., World], receiver: Receiver
) -> None:
    world = make_world(webhook_allow=LOOPBACK)
    thief, _ = _add(world, f"{receiver.url}/first", types=["purchase.approved"])
    _add(world, f"{receiver.url}/second", types=["purchase.approved"])
    world.edit("UPDATE webhooks SET url = ? WHERE id = ?", f"{receiver.url}/thief", thief)
    world.buy("1.00")
    world.wiring.deliverer.start()
    assert [one["path"] for one in receiver.told(1)] == ["/second"]
    head = world.wiring.events.head()
    _until(world, lambda c: [w.position for w in c.webhooks() if w.id != thief] == [head])
    assert len(receiver.told()) == 1


def test_one_process_delivers_and_another_goes_on(world: World, receiver: Receiver) -> None:
    webhook_id, _ = _add(world, receiver.url, types=["purchase.approved"])
    world.buy("1.00")
    receiver.told(1)
    standby = world.open()
    standby.wiring.deliverer.start()
    world.buy("1.00")
    receiver.told(2)
    head = world.wiring.events.head()
    _until(world, lambda c: c.webhook(webhook_id).position >= head)
    world.wiring.deliverer.stop()
    world.buy("1.00")
    assert len(set(ids_of(receiver.told(3)))) == 3


# One try, without a store.


def _event() -> PublicEvent:
    return PublicEvent(7, "purchase.funded", 0, "me", "evt_1", {"purchase_id": "pur_1"})


def _try(
    url: str, *, allow: str = LOOPBACK, find: Resolve = resolve, seconds: float = 10
) -> Outcome:

    sender = Sender(networks(allow), find=find, seconds_max=seconds)
    return asyncio.run(sender.send(url, _event(), ["whsec_" + "A" * 43 + "="]))


def _found(*addresses: str) -> Resolve:
    async def find(host: str, port: int) -> list[str]:
        return list(addresses)

    return find


def test_redirects_are_not_followed(receiver: Receiver) -> None:
    found = _try(f"{receiver.url}/redirect")
    assert found.fault == "answered 302: redirects are not followed"
    assert [one["path"] for one in receiver.told()] == ["/redirect"]


@pytest.mark.parametrize(
    ("path", "says"),
    [("/slow", "no answer within 0.4 s"), ("/endless", "its answer's head exceeds")],
)
def test_time_and_size_of_an_answer_are_bounded(receiver: Receiver, path: str, says: str) -> None:
    seconds = 0.4 if path == "/slow" else 10
    assert says in str(_try(f"{receiver.url}{path}", seconds=seconds).fault)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "2130706433", "0"]
)
def test_what_leads_to_a_private_address_is_refused(receiver: Receiver, host: str) -> None:
    outcome = _try(f"https://{host}:{receiver.port}/", allow="10.0.0.0/8")
    assert "is not public" in str(outcome.fault), outcome
    assert receiver.told() == []


@pytest.mark.parametrize(
    "addresses",
    [("127.0.0.1",), ("93.184.216.34", "10.0.0.1"), ("fe80::1%lo",), ("64:ff9b::7f00:1",), ()],
)
def test_a_name_with_a_private_address_is_refused(addresses: tuple[str, ...]) -> None:
    outcome = _try("https://hooks.example/", allow="", find=_found(*addresses))
    assert str(outcome.fault).startswith("refused: ")


def test_the_connection_goes_to_the_address_that_was_checked(receiver: Receiver) -> None:
    asked = []

    async def changing(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.9"]

    # The system does not know the name: whoever asked again would fail.
    outcome = _try(f"http://hooks.invalid:{receiver.port}/", find=changing)
    assert outcome == Outcome()
    assert asked == ["hooks.invalid"]
    assert receiver.told()[0]["host"] == f"hooks.invalid:{receiver.port}"


def test_tls_is_for_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = tmp_path / "receiver.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    made += ["-subj", "/CN=hooks.invalid", "-addext", "subjectAltName=DNS:hooks.invalid"]
    made += ["-keyout", str(certificate), "-out", str(tmp_path / "public.pem")]
    subprocess.run(made, check=True, capture_output=True)
    public = (tmp_path / "public.pem").read_text()
    certificate.write_text(certificate.read_text() + public)
    with receiving(certificate=certificate) as receiver:
        to, find = f"{receiver.port}/", _found("127.0.0.1")
        assert (
            _try(f"https://hooks.invalid:{to}", find=find).fault == "TLS: CERTIFICATE_VERIFY_FAILED"
        )
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "public.pem"))
        assert _try(f"https://hooks.invalid:{to}", find=find) == Outcome()
        assert receiver.told()[0]["sni"] == "hooks.invalid"
        outcome = _try(f"https://other.invalid:{to}", find=find)
        assert outcome.fault == "TLS: CERTIFICATE_VERIFY_FAILED"
        assert len(receiver.told()) == 1


def test_a_deliverer_that_stops_leaves_what_was_under_way_to_the_next(
    world: World, receiver: Receiver
) -> None:
    webhook_id, _ = _add(world, f"{receiver.url}/slow", types=["purchase.approved"])
    world.buy("1.00")
    first = receiver.told(1)
    world.wiring.deliverer.stop()
    assert world.coordinator.webhook_deliveries(webhook_id) == []
    world.open().wiring.deliverer.start()
    assert ids_of(receiver.told(2)) == ids_of(first) * 2
