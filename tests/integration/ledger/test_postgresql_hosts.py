"""Several hosts on one PostgreSQL: one clock, one policy, roles for each purpose."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from coordinator import Coordinator, LedgerUnavailable, Status, doctor
from coordinator.config import Settings
from coordinator.ledger.proofs.verification import verify
from coordinator.ledger.store.migrate import HEAD, migrate
from coordinator.ledger.store.opening import open_database
from coordinator.ledger.tx.leases import LeaseBook
from coordinator.wiring import Wiring
from tests.integration.ledger.child import ROOT
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import (
    ID_SECRET,
    SIGNER_KEY,
    Clock,
    ask,
    contents,
    edit,
    open_coordinator,
    policy,
    rows,
)
from tests.integration.ledger.history import live_one
from tests.integration.ledger.test_postgresql_faults import PASSWORD, assert_one_sentence
from tests.integration.ledger.test_restart import toml
from tests.integration.stores import PostgresqlServer, Store, name_of, on_postgresql

pytestmark = on_postgresql


# Clocks


@pytest.fixture
def wrong_clock(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """This host's clock is wrong by the given seconds."""
    real, real_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real() + request.param)
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + request.param * 10**9)


@pytest.mark.usefixtures("wrong_clock")
@pytest.mark.parametrize("wrong_clock", [-3600, 3600], indirect=True)
def test_decisions_and_approvals_go_by_the_databases_clock(database: str, store: Store) -> None:
    settings = {"network": "base-sepolia", "database_url": store.migrated(database)}
    secrets = {"TREASURY_PRIVATE_KEY": SIGNER_KEY, "COORDINATOR_ID_SECRET": ID_SECRET}
    wiring = Wiring(Settings.model_validate(settings), secrets, policy=policy())
    coordinator = Coordinator(wiring, act=False)
    purchase = ask(coordinator.agent("ada"), "75.00")

    ((now,),) = rows(database, "SELECT extract(epoch FROM clock_timestamp())::bigint")
    assert abs(purchase.created_at - now) <= 5
    assert [pending.id for pending in coordinator.approvals()] == [purchase.approval_id]
    assert coordinator.approve(purchase.approval_id or "", approver="alice").done
    coordinator.close()


@pytest.mark.usefixtures("wrong_clock")
@pytest.mark.parametrize("wrong_clock", [-3600, 3600], indirect=True)
def test_a_lease_is_taken_over_when_it_ends_by_the_databases_clock(
    coordinator: Coordinator, database: str
) -> None:
    leases = LeaseBook(coordinator.wiring.database, chain_id=1, signer="0xabc")
    first = leases.acquire("one", seconds=2)
    assert first is not None
    # Its process is on another host, so only time tells.
    edit(database, "UPDATE leases SET host = 'elsewhere'")

    assert leases.acquire("two", seconds=2) is None
    present = leases.present()
    assert present is not None and present.alive
    started = time.monotonic()
    while (second := leases.acquire("two", seconds=2)) is None:
        assert time.monotonic() - started < 10
    assert second.token == first.token + 1
    assert time.monotonic() - started > 1


def test_a_given_clock_is_the_one_of_the_lease(coordinator: Coordinator, database: str) -> None:
    now_ms = [1_000]
    leases = LeaseBook(
        coordinator.wiring.database, chain_id=1, signer="0xabc", now_ms=lambda: now_ms[0]
    )
    leases.acquire("one", seconds=2)
    edit(database, "UPDATE leases SET host = 'elsewhere'")
    now_ms[0] = 2_999
    assert leases.acquire("two", seconds=2) is None
    now_ms[0] = 3_000
    assert leases.acquire("two", seconds=2) is not None


# The policy


def test_a_changed_policy_file_is_put_in_force_only_by_hand(
    database: str, store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(toml())
    for changes in ({}, {"total_limit": "40"}):
        file.write_text(toml(**changes))
        coordinator = open_coordinator(store.migrated(database), file)
        assert ask(coordinator.agent("ada"), "30.00").status is Status.APPROVED
        coordinator.close()
    file.unlink()
    coordinator = open_coordinator(database, file)
    assert ask(coordinator.agent("ada"), "1.00").status is Status.APPROVED
    assert rows(database, "SELECT version, reason FROM policies") == [(1, "read from policy.toml")]

    file.write_text(toml(total_limit="40"))
    told = _command(database, "policy", "apply", str(file), "--json")

    assert told["applied"] is True
    assert [change["key"] for change in told["changes"]] == ["organisation.total_limit"]
    denied = ask(coordinator.agent("ada"), "1.00")
    assert denied.reason is not None
    assert denied.reason.code == "organisation_limit"
    coordinator.close()


def test_of_two_first_policies_one_is_in_force(opener: Opener, database: str) -> None:
    wiring = opener().wiring
    changed = policy({"organisation": {"total_limit": "5"}})
    before = contents(database)

    terms = {"author": "olga", "reason": "first", "now": 1}
    assert not wiring.activate_policy(changed, only_first=True, **terms)  # type: ignore[arg-type]

    assert contents(database) == before


# Roles


@pytest.fixture
def roles(
    database: str, store: Store, postgresql: PostgresqlServer
) -> Iterator[Callable[..., str]]:
    """The address for a role of the documentation, whose SQL was run as it stands there."""
    before, after = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/postgresql.md").read_text(), re.S)
    store.make(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(before)
        owner = open_database(database)
        migrate(owner)
        owner.close()
        connection.execute(after)
    yield lambda role: database.replace("postgres:@", f"{role}@")
    postgresql.drop(name_of(database))
    for role in ("coordinator_app", "coordinator_reader"):
        postgresql.sql(f"DROP ROLE {role}")


def test_the_documented_roles_may_do_what_they_are_for_and_no_more(
    roles: Callable[..., str], clock: Clock
) -> None:
    deciding = open_coordinator(roles("coordinator_app"), policy(), clock=clock)
    waiting = ask(deciding.agent("ada"), "75.00")
    assert deciding.approve(waiting.approval_id or "", approver="alice").done
    assert deciding.pause("a look", by="olga") and deciding.unpause("seen", by="alice")
    assert deciding.cancel(waiting.id, by="ada").done
    settled = live_one(deciding)
    for table in ("audit", "policies", "idempotency_keys"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            edit(roles("coordinator_app"), f"DELETE FROM {table}")
    deciding.close()

    reading = open_coordinator(roles("coordinator_reader"), policy(), clock=clock)
    assert reading.get(settled).status is Status.SETTLED
    assert verify(reading.wiring.audit).ok
    with pytest.raises(LedgerUnavailable) as told:
        ask(reading.agent("ada"))
    assert_one_sentence(told.value, "permission denied for table", "; nothing was written")
    reading.close()


# Commands


def test_migrating_and_the_doctor_name_the_database_and_never_the_password(
    database: str, store: Store
) -> None:
    store.make(database)
    url = database.replace("postgres:@", f"postgres:{PASSWORD}@")
    assert PASSWORD in url
    told = _command(url, "migrate", "--json")
    assert told == {"database": _shown(database), "migrated": True, "revision": HEAD}
    coordinator = open_coordinator(url, policy())
    ask(coordinator.agent("ada"))
    coordinator.close()

    checks = {check.name: check for check in doctor.run(_environment(url))}

    assert "SQLite" not in checks
    assert (checks["database"].status, checks["audit log"].status) == ("ok", "ok")
    assert _shown(database) in checks["database"].found
    assert PASSWORD not in repr(checks)


def _shown(database: str) -> str:
    return f"{database.partition('?host=')[2]}/{name_of(database)}"


def _environment(url: str) -> dict[str, str]:
    return {
        "COORDINATOR_NETWORK": "base-sepolia",
        "COORDINATOR_RPC_URL": "http://127.0.0.1:1",
        "COORDINATOR_DATABASE_URL": url,
        "COORDINATOR_ID_SECRET": ID_SECRET,
        "TREASURY_PRIVATE_KEY": SIGNER_KEY,
    }


def _command(url: str, *arguments: str) -> dict[str, object]:
    ran = subprocess.run(
        [sys.executable, "-m", "coordinator", *arguments],
        env={**os.environ, **_environment(url)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert PASSWORD not in ran.stdout + ran.stderr
    return json.loads(ran.stdout)
