"""What the application tells those who keep it running, and what it keeps to itself."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import text

from coordinator import Coordinator
from coordinator.doctor.service import checks_of_the_service
from coordinator.ledger.store.opening import open_database
from coordinator.ledger.store.sqlite import SqliteDatabase
from coordinator.ledger.tx.figures import QUERIES, FigureBook
from coordinator.monitoring import readiness
from coordinator.monitoring.logs import set_up
from coordinator.monitoring.readings import WAIT_SECONDS
from coordinator.server.app import make_app
from tests.integration.service.processes import client
from tests.integration.service.simulated import served as serving
from tests.integration.stores import Store, on_both, on_postgresql

POLICY = """
[organisation]
total_limit = "1000"
daily_limit = "unlimited"
[agents.research-agent]
per_purchase_limit = "100"
daily_limit = "300"
approval_threshold = "50"
[providers.paper-api]
address = "0x1111111111111111111111111111111111111111"
[approvals]
approvers = ["alice"]
"""
TERMS = {"provider": "paper-api", "amount": "25.00", "purpose": "Paper access"}
# History, of which there is more every day.
GROWS = {"purchases", "holds", "steps", "notices", "proposals", "increases"}


@contextmanager
def served(app: Any) -> Iterator[httpx.Client]:
    """A client of the application while it is served."""
    with serving(app) as url, client(url) as http:
        yield http


@pytest.fixture
def make_coordinator(tmp_path: Path, store: Store) -> Iterator[Callable[..., Coordinator]]:
    """Makes a coordinator on a simulated chain and this test's database."""
    made: list[Coordinator] = []
    (tmp_path / "policy.toml").write_text(POLICY)

    def make(**settings: str) -> Coordinator:
        settings = {"database_url": store.migrated(store.url()), **settings}
        policy = tmp_path / "policy.toml"
        made.append(Coordinator.from_env(network="simulated", policy=policy, **settings))
        return made[-1]

    yield make
    for coordinator in made:
        coordinator.close()


def key(coordinator: Coordinator, role: str, name: str) -> dict[str, str]:
    token = coordinator.create_api_key(role, name, by="olga").token
    return {"Authorization": f"Bearer {token}"}


@on_both
def test_figures_are_those_of_the_books(
    make_coordinator: Callable[..., Coordinator], store: Store
) -> None:
    coordinator = make_coordinator()
    agent = coordinator.agent("research-agent")
    assert agent.purchase(**TERMS, wait=True).ok
    assert agent.purchase(**TERMS | {"amount": "75.00"}).needs_approval
    coordinator.pause("a look", by="olga", agent="research-agent")

    database = open_database(store.url())
    found = FigureBook(database).read()
    database.close()

    assert found.has_this_schema
    assert found.worker_alive
    assert found.holds and found.open and found.waiting
    assert (found.holds["purchase"].count, str(found.holds["purchase"].amount)) == (2, "100.00")
    assert (found.open["funded"], found.open["awaiting_approval"]) == (1, 1)
    assert set(found.oldest or ()) == {"funded", "awaiting_approval"}
    assert (found.waiting["purchase"], found.pauses, found.nonce_gap) == (1, 1, 0)
    assert found.block and found.balances and found.reconciled is None
    coordinator.reconcile()
    assert coordinator.opened.figures.read().reconciled == (0, pytest.approx(found.now, abs=60))


def test_no_figure_reads_more_when_history_is_longer(
    make_coordinator: Callable[..., Coordinator],
) -> None:
    database = make_coordinator().claimed.database
    assert isinstance(database, SqliteDatabase)
    with database.read() as connection:
        for name, query in QUERIES.items():
            sql = str(query.compile(connection, compile_kwargs={"literal_binds": True}))
            plan = connection.execute(text(f"EXPLAIN QUERY PLAN {sql}")).all()
            scanned = {match[1] for row in plan if (match := re.match(r"SCAN (\w+)", row.detail))}
            assert not scanned & GROWS, f"{name}: {plan}"


@on_postgresql
def test_readiness_answers_in_time_while_the_database_hangs(
    make_coordinator: Callable[..., Coordinator], store: Store
) -> None:
    coordinator = make_coordinator()
    agent = coordinator.agent("research-agent")
    assert agent.purchase(**TERMS, wait=True).ok
    with served(make_app(coordinator)) as http, psycopg.connect(store.url()) as other:
        other.execute("LOCK TABLE purchases IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        refused = http.get("/readyz")
        took = time.monotonic() - began
        other.rollback()
        while http.get("/readyz").status_code != 200:
            assert time.monotonic() - began < 60

    assert refused.status_code == 503
    assert refused.json()["checks"]["database"]["detail"] == "the database does not answer"
    assert took < WAIT_SECONDS + 10


@on_both
def test_a_schema_of_another_version_is_not_ready(
    make_coordinator: Callable[..., Coordinator],
) -> None:
    coordinator = make_coordinator()
    with served(make_app(coordinator)) as http:
        with coordinator.claimed.database.write() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        checks = http.get("/readyz").json()["checks"]
        assert checks["database"]["ok"]
        assert not checks["schema"]["ok"]
        assert checks["schema"]["detail"] == "revision 9999 is another version's"


def test_an_old_block_is_not_ready_but_on_a_local_chain(
    make_coordinator: Callable[..., Coordinator],
) -> None:
    coordinator = make_coordinator()
    assert coordinator.agent("research-agent").purchase(**TERMS, wait=True).ok
    figures = coordinator.opened.figures.read()
    assert figures.block
    late = figures.__class__(
        **{name: getattr(figures, name) for name in figures.__slots__}
        | {"now": figures.block[1] + 301}
    )
    assert not readiness.judge(late, chain_seconds_max=300).ok
    assert readiness.judge(late, chain_seconds_max=None).ok
    assert readiness.chain_seconds_max(coordinator.opened.settings) is None


def test_metrics_are_for_operators_and_auditors(
    make_coordinator: Callable[..., Coordinator],
) -> None:
    coordinator = make_coordinator()
    with served(make_app(coordinator)) as http:
        statuses = {
            role: http.get("/metrics", headers=key(coordinator, role, name)).status_code
            for role, name in (
                ("agent", "research-agent"),
                ("approver", "alice"),
                ("operator", "olga"),
                ("auditor", "ann"),
            )
        }
        assert http.get("/metrics").status_code == 401
    assert statuses == {"agent": 403, "approver": 403, "operator": 200, "auditor": 200}


def test_only_the_public_origin_is_served(make_coordinator: Callable[..., Coordinator]) -> None:
    coordinator = make_coordinator(public_url="https://pay.example.org/")
    agent = key(coordinator, "agent", "research-agent")
    with served(make_app(coordinator)) as http:

        def status(path: str, host: str) -> int:
            return http.get(path, headers={**agent, "host": host}).status_code

        assert status("/v1/purchases", "pay.example.org") == 200
        assert status("/v1/purchases", "PAY.example.org:443") == 200
        for host in ("evil.example", "pay.example.org:8402", "pay.example.org.evil", "127.0.0.1"):
            assert status("/v1/purchases", host) == 421, host
        refused = http.get("/healthz", headers={"host": "evil.example"})
        assert refused.status_code == 421
        assert refused.json()["code"] == "misdirected_request"
        assert refused.headers["content-type"] == "application/problem+json"
        for host in ("127.0.0.1:8402", "localhost", "[::1]:8402", "[::1]"):
            assert status("/healthz", host) == 200, host


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("trace-1.2_3", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("bad id", False),
        ("x\tlevel=ERROR", False),
        ("", False),
    ],
)
def test_a_valid_request_id_is_echoed_and_any_other_replaced(
    make_coordinator: Callable[..., Coordinator], given: str, kept: bool
) -> None:
    with served(make_app(make_coordinator())) as http:
        told = http.get("/healthz", headers={"X-Request-Id": given}).headers["X-Request-Id"]
        nowhere = http.get("/nowhere", headers={"X-Request-Id": given})
        assert nowhere.status_code == 404
        assert nowhere.headers["X-Request-Id"]
    assert (told == given) is kept
    assert kept or re.fullmatch("req_[0-9a-f]{20}", told)


def _lines(stderr: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stderr.splitlines()]


def test_each_request_is_one_json_line_with_its_ids(
    make_coordinator: Callable[..., Coordinator], capsys: pytest.CaptureFixture[str]
) -> None:
    coordinator = make_coordinator()
    agent = key(coordinator, "agent", "research-agent")
    app = make_app(coordinator)

    @app.get("/broken/{secret}")
    def broken(secret: str) -> None:
        raise ValueError(f"text of the request: {secret}")

    set_up("INFO", format="json", tracebacks=False)
    try:
        with served(app) as http:
            asked = http.post(
                "/v1/purchases",
                headers={**agent, "Idempotency-Key": "one", "X-Request-Id": "trace-1"},
                json=TERMS,
            ).json()
            http.get(f"/v1/purchases/{asked['purchase_id']}", headers=agent)
            http.get("/v1/purchases/uec_planted", headers=agent)
            http.get("/planted-path?token=planted-query")
            fault = http.get("/broken/planted-value")
            assert fault.status_code == 500
            assert fault.headers["x-request-id"]
    finally:
        _reset_logging()
    stderr = capsys.readouterr().err
    lines = _lines(stderr)
    access = [line for line in lines if line["event"] == "http_request"]
    keys = coordinator.api_keys()

    assert "planted" not in stderr
    assert [(line["route"], line["status"]) for line in access] == [
        ("/v1/purchases", 200),
        ("/v1/purchases/{purchase_id}", 200),
        ("/v1/purchases/{purchase_id}", 422),
        ("unknown", 404),
        ("/broken/{secret}", 500),
    ]
    assert access[0]["request_id"] == "trace-1"
    assert access[0]["key_id"] == keys[0].id
    assert access[0]["ms"] >= 0
    assert access[0]["purchase_id"] == access[1]["purchase_id"] == asked["purchase_id"]
    (decided,) = (line for line in lines if line["event"] == "purchase_approved")
    assert decided["purchase_id"] == asked["purchase_id"]
    # The thread that decides knows for whom it works.
    assert decided["request_id"] == "trace-1"
    assert any(line["event"] == "request_broke" for line in lines)


def test_people_read_the_same_request_as_one_line(
    make_coordinator: Callable[..., Coordinator], capsys: pytest.CaptureFixture[str]
) -> None:
    coordinator = make_coordinator()
    set_up("INFO", format="text", tracebacks=False)
    try:
        with served(make_app(coordinator)) as http:
            http.get("/v1/purchases", headers={"X-Request-Id": "trace-1"})
    finally:
        _reset_logging()
    said = capsys.readouterr().err
    line = r"Z INFO +http_request method=GET route=/v1/purchases status=401 ms=\d+"
    assert re.search(rf"{line} request_id=trace-1$", said.strip()), said


def _reset_logging() -> None:
    logging.getLogger("coordinator").setLevel(logging.NOTSET)
    for handler in list(logging.getLogger().handlers):
        if type(handler) is logging.StreamHandler:
            logging.getLogger().removeHandler(handler)


def test_the_doctor_tells_whether_the_service_answers_at_its_public_url(
    make_coordinator: Callable[..., Coordinator],
) -> None:
    with served(make_app(make_coordinator())) as http:
        url = str(http.base_url).rstrip("/")
        found = {check.name: check for check in checks_of_the_service(url)}
        assert [found[name].status for name in ("server", "public URL")] == ["ok", "ok"]
    (_, gone) = checks_of_the_service(url)
    assert (gone.status, gone.found) == ("warn", f"{url} does not answer (ConnectionError)")

    with served(make_app(make_coordinator(public_url="https://pay.example.org"))) as http:
        (_, other) = checks_of_the_service(str(http.base_url).rstrip("/"))
        assert other.status == "fail"
        assert "another COORDINATOR_PUBLIC_URL" in other.found
