"""Each kind of bad request has one clear answer, and nothing is held because of it."""

from __future__ import annotations

import gzip
import socket
import tracemalloc
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from coordinator import ConfigurationError
from coordinator.domain.policy.text import parse_policy
from coordinator.server import bodies
from tests.integration.service.simulated import AGENT, SimulatedService, simulated_service

GOOD = {"provider": "paper-api", "amount": "5.00", "purpose": "a paper"}
KEY = {"Idempotency-Key": "k-1"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def service() -> Iterator[SimulatedService]:
    with simulated_service() as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_is_held(service: SimulatedService) -> Iterator[None]:
    before = service.coordinator.wiring.audit.head()
    yield
    assert service.coordinator.wiring.audit.head() == before


def check(told: Any, status: int, code: str) -> None:
    assert (told.status_code, told.json().get("code")) == (status, code), told.text
    assert told.headers["content-type"] == "application/problem+json"
    assert told.json()["money_moved"] is False
    assert told.json()["status"] == status


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "invalid_request"),
        (b"{", 400, "malformed"),
        (b"\xff\xfe", 400, "malformed"),
        (b'{"a": NaN}', 400, "malformed"),
        (b'{"amount": "1", "amount": "2"}', 400, "malformed"),
        (b'{"purpose": {"purpose": 1, "purpose": 2}}', 400, "malformed"),
        (b"[" * 50_000, 400, "malformed"),
        (b'{"a":' * 17 + b"1" + b"}" * 17, 400, "malformed"),
        (b"null", 422, "invalid_request"),
        (b"[]", 422, "invalid_request"),
        (b'"text"', 422, "invalid_request"),
        (b"x" * (bodies.BODY_BYTES_MAX + 1), 413, "too_large"),
        (b"x" * 10_000_000, 413, "too_large"),
    ],
    ids=lambda value: f"{len(value)}:{value[:16]!r}" if isinstance(value, bytes) else None,
)
def test_a_body_that_is_no_plain_json_is_refused(
    service: SimulatedService, body: bytes, status: int, code: str
) -> None:
    told = service.client().post("/v1/purchases", content=body, headers={**KEY, **JSON})
    check(told, status, code)


def test_a_body_in_pieces_is_refused_once_it_is_too_large(service: SimulatedService) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_000

    told = service.client().post("/v1/purchases", content=pieces(), headers={**KEY, **JSON})
    check(told, 413, "too_large")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_content_type_is_refused(service: SimulatedService, kind: str) -> None:
    headers = {**KEY, "Content-Type": kind}
    told = service.client().post("/v1/purchases", content=b'{"amount": "5"}', headers=headers)
    check(told, 415, "unsupported_media_type")


def test_a_compressed_body_is_refused_before_it_is_read(service: SimulatedService) -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    headers = {**KEY, **JSON, "Content-Encoding": "gzip"}
    told = service.client().post("/v1/purchases", content=bomb, headers=headers)
    check(told, 415, "unsupported_media_type")


def test_a_body_that_does_not_come_is_given_up(
    service: SimulatedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS_MAX", 0.2)
    where = urlsplit(service.url)
    with socket.create_connection((where.hostname or "", where.port or 0)) as slow:
        slow.sendall(
            b"POST /v1/purchases HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 10\r\n\r\n{"
        )
        slow.settimeout(30)
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"amount": 5}, "invalid_request"),
        ({"amount": 5.0}, "invalid_request"),
        ({"amount": "5.0000001"}, "invalid_request"),
        ({"amount": "-5"}, "invalid_request"),
        ({"amount": "1e3"}, "invalid_request"),
        ({"amount": "0"}, "invalid_amount"),
        ({"amount": "9999999999"}, "invalid_amount"),
        ({"amount": "\u0665"}, "invalid_request"),
        ({"purpose": ""}, "invalid_request"),
        ({"purpose": "a\u202eb"}, "invalid_purpose"),
        ({"provider": "0x" + "0" * 39 + "g"}, "invalid_provider"),
        ({"task": "x" * 201}, "invalid_request"),
        ({"agent": "data-agent"}, "invalid_request"),
        ({"idempotency_key": "k-2"}, "invalid_request"),
        ({"wait": True}, "invalid_request"),
    ],
    ids=repr,
)
def test_malformed_terms_are_refused_by_name(
    service: SimulatedService, changes: dict[str, Any], code: str
) -> None:
    told = service.client().post("/v1/purchases", json={**GOOD, **changes}, headers=KEY)
    check(told, 422, code)
    if code == "invalid_request":
        assert f"body.{next(iter(changes))}" in [f["where"] for f in told.json()["faults"]]


@pytest.mark.parametrize("path", ["/v1/purchases", "/v1/holds", "/v1/costs", "/v1/increases"])
def test_spending_without_an_idempotency_key_is_refused(
    service: SimulatedService, path: str
) -> None:
    told = service.client().post(path, json={**GOOD})
    check(told, 422, "invalid_request")
    assert "Idempotency-Key" in told.json()["detail"]


@pytest.mark.parametrize("key", ["", "x" * 201, b"a\x07", "schl\u00fcssel".encode()])
def test_a_malformed_idempotency_key_is_refused(
    service: SimulatedService, key: str | bytes
) -> None:
    told = service.client().post("/v1/purchases", json=GOOD, headers={"Idempotency-Key": key})
    check(told, 422, "invalid_request")


def token_of(service: SimulatedService, case: str) -> str:
    coordinator = service.coordinator
    token = service.tokens["agent"]
    return {
        "nothing": "",
        "no_token": "secret",
        "another_secret": token[:-1] + ("0" if token[-1] != "0" else "1"),
        "an_unknown_id": "uec_" + "0" * 20 + token[24:],
        "upper_case": token.upper(),
        "with_a_line": token + " x",
        "digest": coordinator.wiring.api_keys.list()[0].id,
    }[case]


@pytest.mark.parametrize(
    "case",
    [
        "nothing",
        "no_token",
        "another_secret",
        "an_unknown_id",
        "upper_case",
        "with_a_line",
        "digest",
    ],
)
def test_a_key_that_does_not_count_is_refused_without_saying_why(
    service: SimulatedService, case: str
) -> None:
    client = service.client(None)
    headers = {**KEY, "Authorization": f"Bearer {token_of(service, case)}".strip()}
    told = client.post("/v1/purchases", json=GOOD, headers=headers)
    check(told, 401, "unauthenticated")
    basic = client.get("/v1/me", headers={"Authorization": "Basic YTpi"})
    assert told.json()["detail"] == basic.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("DELETE", "/v1/purchases", 405, "method_not_allowed"),
        ("PUT", "/v1/purchases/pur_1", 405, "method_not_allowed"),
        ("GET", "/v1/purchases/pur_1", 404, "not_found"),
        ("GET", "/v1/purchases/..%2f..%2fetc", 404, "not_found"),
        ("GET", "/v1/purchases/somebody", 422, "invalid_request"),
        ("GET", "/v1/purchases/" + "x" * 65, 422, "invalid_request"),
        ("GET", "/v1/purchases?limit=501", 422, "invalid_request"),
        ("GET", "/v1/purchases?status=nonsense", 422, "invalid_request"),
        ("GET", "/v1/purchases?since=tomorrow", 422, "invalid_request"),
        ("GET", "/v1/purchases/pur_1?wait=forever", 422, "invalid_request"),
        ("GET", "/v1/purchases/pur_1?wait=funded&timeout=61", 422, "invalid_request"),
        ("GET", "/v1/purchases/pur_1?wait=funded&timeout=nan", 422, "invalid_request"),
    ],
)
def test_unknown_paths_methods_and_values(
    service: SimulatedService, method: str, path: str, status: int, code: str
) -> None:
    check(service.client().request(method, path), status, code)


def test_a_key_with_other_terms_is_a_conflict() -> None:
    with simulated_service() as service:
        client = service.client()
        first = client.post("/v1/purchases", json=GOOD, headers=KEY)
        assert first.status_code == 200
        other = client.post("/v1/purchases", json={**GOOD, "amount": "6.00"}, headers=KEY)
        check(other, 409, "idempotency_conflict")
        again = client.post("/v1/purchases", json={**GOOD, "purpose": "reworded"}, headers=KEY)
        assert again.json()["purchase_id"] == first.json()["purchase_id"]
        assert len(service.coordinator.purchases()) == 1


def test_a_denial_is_an_answer_and_no_problem(service: SimulatedService) -> None:
    told = service.client().post(
        "/v1/purchases/check", json={**GOOD, "amount": "1000.01"}, headers=KEY
    )
    assert (told.status_code, told.json()["outcome"]) == (200, "denied")
    assert told.json()["reason"]["code"] == "per_purchase_limit"


def test_expired_rotated_and_revoked_keys_stop_to_count() -> None:
    with simulated_service() as service:
        c = service.coordinator
        short = c.create_api_key("agent", AGENT, by="root", expires_after="1h")
        lasting = c.create_api_key("agent", AGENT, by="root")

        def status(token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            return service.client(None).get("/v1/me", headers=headers).status_code

        assert [status(short.token), status(lasting.token)] == [200, 200]
        renewed = c.rotate_api_key(lasting.key.id, by="root", overlap="1h")
        assert [status(renewed.token), status(lasting.token)] == [200, 200]
        c.simulation.pass_time(3_700)
        assert [status(short.token), status(lasting.token), status(renewed.token)] == [
            401,
            401,
            200,
        ]
        c.revoke_api_key(renewed.key.id, by="root")
        assert status(renewed.token) == 401


def test_uses_of_keys_are_noted_and_no_request_waits_for_it() -> None:
    with simulated_service() as service:
        c = service.coordinator
        assert service.client("auditor").get("/v1/me").status_code == 200
        assert all(key.last_used_at is None for key in c.api_keys())
    with simulated_service() as service:
        service.client("auditor").get("/v1/me")
        service.stop()
        used = {key.role.value for key in service.coordinator.api_keys() if key.last_used_at}
        assert used == {"auditor"}


def test_a_key_that_asks_too_often_is_told_when_to_ask_again(service: SimulatedService) -> None:
    service.app.state.rates = type(service.app.state.rates)(2)
    try:
        client = service.client("auditor")
        told = [client.get("/v1/me") for _ in range(8)]
    finally:
        service.app.state.rates = type(service.app.state.rates)(10_000)
    refused = [answer for answer in told if answer.status_code != 200]
    assert refused
    check(refused[0], 429, "too_many_requests")
    assert int(refused[0].headers["Retry-After"]) >= 1


@pytest.mark.parametrize(
    ("role", "path"),
    [
        ("agent", "/v1/usage?since=1099511620000&until=1099511627776"),
        ("auditor", "/v1/report?since=1099511627776"),
        ("auditor", "/v1/report?until=1099511627776"),
        ("agent", "/v1/usage?since=0&until=253402128000"),
        ("agent", "/v1/usage?since=0&until=253402128000&by=month"),
    ],
)
def test_a_far_time_is_no_internal_fault(service: SimulatedService, role: str, path: str) -> None:
    answered = service.client(role).get(path)
    assert answered.status_code in (200, 422), answered.text


def test_a_long_number_in_a_policy_is_a_fault_of_the_policy(service: SimulatedService) -> None:
    text = "a = " + "9" * 5000
    answered = service.client("auditor").post("/v1/policy/check", json={"toml": text})
    assert answered.status_code == 200, answered.text
    assert answered.json()["ok"] is False


def test_a_deep_header_of_a_policy_takes_no_memory_to_speak_of() -> None:
    # A tenth of what a body may hold; memory grows with the square of its length.
    text = "[" + ".".join("a" * 3000) + "]"
    tracemalloc.start()
    try:
        with pytest.raises(ConfigurationError):
            parse_policy(text)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
