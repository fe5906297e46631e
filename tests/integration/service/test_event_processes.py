"""Events across processes: a worker, two servers of which one is killed, and a receiver."""

from __future__ import annotations

import signal

from tests.integration.service.processes import Service, client
from tests.integration.service.receivers import ids_of, receiving, types_of
from tests.integration.service.streams import streaming
from tests.integration.stores import on_either

_BUY = {"provider": "paper-api", "amount": "5.00", "purpose": "Papers"}
_LIFE = ["purchase.approved", "purchase.created", "purchase.funded"]


@on_either
def test_a_purchase_is_told_once_by_whichever_server_is_left(service: Service) -> None:
    with service.opened() as coordinator:
        roles = {"research-agent": "agent", "data-agent": "agent", "olga": "operator"}
        keys = [coordinator.create_api_key(r, name, by="olga") for name, r in roles.items()]
    token, other, operator = (key.token for key in keys)
    service.worker()
    allowed = {"COORDINATOR_WEBHOOK_ALLOW": "127.0.0.1/32"}
    first, one = service.serve(**allowed)
    _, two = service.serve(**allowed)

    with receiving() as receiver, client(one, operator) as staff, client(two, operator) as still:
        target = {"url": receiver.url, "agent": "research-agent"}
        made = staff.post("/v1/webhooks", json=target).json()
        receiver.knows(made["secret"])
        private = {"url": "https://127.0.0.2/in"}
        refused = staff.post("/v1/webhooks", json=private)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")

        with streaming(two, token) as stream, streaming(one, other) as others:
            begin = stream.position
            with client(one, token) as http:
                asked = http.post("/v1/purchases", json=_BUY, headers={"Idempotency-Key": "1"})
                purchase_id = asked.json()["purchase_id"]
            told = stream.until("purchase.approved")
            # On the other server, from where this one was left.
            with streaming(one, token, last_event_id=stream.position) as further:
                told += further.until("purchase.funded")
            with client(two, other) as http:
                cost = {"amount": "1.00", "purpose": "tokens"}
                http.post("/v1/costs", json=cost, headers={"Idempotency-Key": "1"})
            assert [event["agent"] for event in others.until("cost.posted")] == ["data-agent"]
        assert [event["type"] for event in told] == _LIFE
        with streaming(two, token, after=begin) as again:
            assert again.until("purchase.funded") == told

        delivered = receiver.told(3)
        assert types_of(delivered) == _LIFE
        assert [one["body"]["data"] for one in delivered] == told
        assert all(one["verified"] == [True] for one in delivered)
        assert {event["purchase_id"] for event in told} == {purchase_id}

        first.send_signal(signal.SIGKILL)
        first.wait()
        with client(two, token) as http:
            http.post("/v1/purchases", json=_BUY, headers={"Idempotency-Key": "2"})
        seen, count = set(ids_of(delivered)), 3
        while len(seen) < 6:
            count += 1
            seen |= set(ids_of(receiver.told(count)))
        assert still.get("/v1/webhooks").json()["items"][0]["status"] == "enabled"
