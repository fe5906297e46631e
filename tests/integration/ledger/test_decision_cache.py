"""The decision cache keeps nothing that another connection has changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest

from coordinator import Coordinator, Status
from coordinator.domain.limits.limits import CounterKey, LimitState, Scope, ScopeKind
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window
from coordinator.ledger.limits.counters import CounterSheet
from coordinator.ledger.store.database import Database, Stamp
from coordinator.ledger.store.opening import open_database
from coordinator.ledger.tx.policies import PolicyBook
from coordinator.ledger.tx.transaction import Tx
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import (
    HOUR,
    NOON,
    USDC,
    Clock,
    append,
    ask,
    counter,
    edit,
    policy,
    rows,
)
from tests.integration.stores import Store, on_both, on_postgresql

pytestmark = on_both
LIMITED: dict[str, Any] = {"agents": {"ada": {"daily_limit": "10", "hourly_limit": "100"}}}
ADA = Scope(ScopeKind.AGENT, "ada")

_PAUSE = (
    'INSERT INTO pauses (scope_kind, scope_id, reason, "by", at)'
    " VALUES ('agent', 'bert', 'stop', 'alice', 1)"
)

Reads = list[str]


@pytest.fixture
def opened(database: str, store: Store) -> Iterator[Database]:
    made = open_database(store.migrated(database))
    yield made
    made.close()


@pytest.fixture
def read_anew(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """One entry for each time that decisions read which rules are in force."""
    found: Reads = []
    real = PolicyBook.rules

    def counted(self: PolicyBook, *given: Any, **named: Any) -> Any:
        found.append("rules")
        return real(self, *given, **named)

    monkeypatch.setattr(PolicyBook, "rules", counted)
    return found


def write(database: Database) -> Stamp:
    with database.write() as connection:
        stamp = database.stamp(connection)
        connection.exec_driver_sql("DELETE FROM pauses")
    return stamp


def test_two_writes_with_nothing_between_them_have_one_stamp_between_them(
    opened: Database,
) -> None:
    first = write(opened)
    with opened.read() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM pauses")
    second = write(opened)

    assert first.after is not None
    assert second.before == first.after
    assert write(opened).before == second.after != first.after


def test_a_write_of_another_use_case_of_the_process_is_noticed(opened: Database) -> None:
    first = write(opened)
    with opened.write() as connection:
        connection.exec_driver_sql(_PAUSE)
    assert write(opened).before != first.after


def test_a_write_of_another_process_is_noticed(opened: Database, database: str) -> None:
    first = write(opened)
    other = open_database(database)
    write(other)
    other.close()
    assert write(opened).before != first.after


def test_a_write_by_hand_is_noticed(opened: Database, database: str) -> None:
    first = write(opened)
    edit(database, _PAUSE)
    assert write(opened).before != first.after


@on_postgresql
@pytest.mark.parametrize("began", ["before the first", "between the two"])
def test_a_session_that_writes_without_our_lock_is_noticed_whenever_it_commits(
    opened: Database, database: str, began: str
) -> None:
    with psycopg.connect(database) as shell:
        if began == "before the first":
            shell.execute("CREATE TABLE beside (id int)")
        first = write(opened)
        if began == "between the two":
            shell.execute("CREATE TABLE beside (id int)")
        second = write(opened)
        shell.commit()
    third = write(opened)

    assert first.after is None or began == "between the two"
    assert second.after is None
    assert third.before not in (first.after, second.after)


def test_the_second_decision_of_two_reads_nothing_anew(opener: Opener, read_anew: Reads) -> None:
    ada = opener(LIMITED).agent("ada")
    ask(ada)
    read_anew.clear()
    assert ask(ada).status is Status.APPROVED
    assert read_anew == []


def _pause(other: Coordinator) -> None:
    assert other.pause("stop", by="alice")


def _disable(other: Coordinator) -> None:
    assert other.disable_agent("ada", by="alice", reason="no")


def _spend(other: Coordinator) -> None:
    assert ask(other.agent("ada"), "8.00").status is Status.APPROVED


def _record(other: Coordinator) -> None:
    other.agent("ada").record("9.00")


def _close(other: Coordinator) -> None:
    other.open_task("t").close()


def _lower(other: Coordinator) -> None:
    wiring = other.wiring
    lowered = policy({"agents": {"ada": {"daily_limit": "1"}}})
    assert wiring.activate_policy(lowered, author="olga", reason="less", now=wiring.clock())


CHANGES = {
    "paused": _pause,
    "agent_disabled": _disable,
    "spent": _spend,
    "recorded": _record,
    "task_closed": _close,
    "lowered": _lower,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("where", ["another process", "the same process"])
def test_what_anybody_changes_is_seen_by_the_very_next_decision(
    opener: Opener, change: str, where: str
) -> None:
    first = opener(LIMITED)
    other = opener(LIMITED) if where == "another process" else first
    ada = first.agent("ada")
    for _ in "12":
        assert ask(ada, task="t").status is Status.APPROVED

    CHANGES[change](other)

    denied = ask(ada, "1.00", task="t")
    assert denied.status is Status.DENIED
    codes = {reason.code.value for reason in denied.reasons}
    assert codes == {change if change not in ("spent", "recorded", "lowered") else "daily_limit"}


def test_an_approval_that_came_to_its_end_meanwhile_is_voided_by_the_next_decision(
    opener: Opener, clock: Clock, database: str
) -> None:
    ada = opener({"agents": {"ada": {"approval_threshold": "5"}}}).agent("ada")
    for _ in "12":
        ask(ada)
    waiting = ask(ada, "6.00")
    assert waiting.status is Status.AWAITING_APPROVAL
    clock.now += HOUR

    assert ask(ada).status is Status.APPROVED
    assert ada.get(waiting.id).status is Status.EXPIRED
    assert counter(database, "agent", "ada", "total") == (3 * USDC, 0)


def test_work_that_fails_leaves_nothing_in_what_is_known(opener: Opener, database: str) -> None:
    first = opener(LIMITED)
    ada = first.agent("ada")
    ask(ada)

    def charge_and_fail(tx: Tx) -> None:
        tx.sheet.charge([CounterKey(ADA, Window.TOTAL, 0)], held=7 * USDC, spent=0)
        tx.treasury_state.promise(Usdc("7"), x402=False)
        raise RuntimeError("after it was charged")

    with pytest.raises(RuntimeError):
        first.wiring.group_commit.run(charge_and_fail)
    total = {str(s.limit.window): s.usage.held for s in ask(ada).limits if s.limit.scope == ADA}

    assert total == {"daily": Usdc("1"), "hourly": Usdc("1")}
    assert counter(database, "agent", "ada", "total") == (2 * USDC, 0)


def test_a_database_that_was_restored_under_a_process_is_not_read_by_what_ids_meant_before(
    opener: Opener, database: str
) -> None:
    ada, bert = (opener(LIMITED).agent(name) for name in ("ada", "bert"))
    for agent in (ada, bert, ada):
        ask(agent)
    before = held_by_limit(ask(ada).limits)

    # Each counter gets the id of another.
    (last,) = rows(database, "SELECT max(id) + 1 FROM counters")[0]
    edit(database, "UPDATE counters SET id = -id")
    edit(database, f"UPDATE counters SET id = {last} + id")

    assert held_by_limit(ask(ada).limits) == {key: held + USDC for key, held in before.items()}
    edit(database, f"UPDATE counters SET id = id + {last}")
    assert ask(bert).status is Status.APPROVED


def test_another_policy_under_the_number_of_the_one_in_force_is_read(
    opener: Opener, database: str
) -> None:
    coordinator = opener(LIMITED)
    ada = coordinator.agent("ada")
    ask(ada)
    other = policy({"agents": {"ada": {"per_purchase_limit": "1"}}})
    document = json.dumps(other.document())
    edit(database, "UPDATE policies SET hash = ?, document = ?", other.hash, document)
    wiring = coordinator.wiring
    with wiring.database.write() as connection:
        said = {"author": "olga", "reason": "a test", "before": None}
        append(wiring, connection, NOON, "policy_activated", other.hash, **said)

    assert [r.code.value for r in ask(ada, "1.01").reasons] == ["per_purchase_limit"]


def test_a_batch_that_wrote_nothing_is_not_relied_on(opener: Opener, read_anew: Reads) -> None:
    ada = opener(LIMITED).agent("ada")
    for _ in "12":
        ask(ada, idempotency_key="k")
    read_anew.clear()
    ask(ada)
    assert read_anew == ["rules"]


def held_by_limit(limits: Sequence[LimitState]) -> dict[str, int]:
    return {f"{s.limit.scope} {s.limit.window}": s.usage.held_units for s in limits}


def test_a_clock_that_goes_back_finds_the_buckets_before(opened: Database) -> None:
    window = Window("rolling_24h")
    early, late = (CounterKey(ADA, window, NOON + hours * HOUR) for hours in (0, 5))
    with opened.write() as connection:
        sheet = CounterSheet(connection)
        sheet.charge([early], held=3, spent=0)
        sheet.charge([late], held=4, spent=0)
        sheet.flush()
    with opened.read() as connection:
        sheet = CounterSheet(connection)
        assert sheet.usage([late])[late].held_units == 4
        assert sheet.usage([early])[early].held_units == 7


def test_what_a_failed_purchase_promised_is_free_for_the_next_decision(
    opener: Opener, database: str
) -> None:
    coordinator = opener(policy())
    failed = ask(coordinator.agent("ada"))
    edit(
        database,
        "INSERT INTO steps (chain_id, signer, nonce, kind, status, recipient, data, gas_limit,"
        " purchase_id, created_at, given_up, mac)"
        f" VALUES (1, '0x', 0, 'create', 'reverted', '0x', '0x', 1, '{failed.id}', 1, 0, '')",
    )
    edit(
        database,
        "INSERT INTO attempts (hash, step_id, raw, max_fee_per_gas, max_priority_fee_per_gas,"
        " signed_at, fills, block_number) SELECT '0x1', id, '0x', 1, 1, 1, 0, 5 FROM steps",
    )
    wiring = coordinator.wiring
    lease = wiring.leases.acquire("one", seconds=60)
    assert lease is not None
    assert ask(coordinator.agent("ada")).status is Status.APPROVED
    late = Reason(ReasonCode.EXPIRED, "too late")
    terms = {"signer": wiring.identity.treasury, "used": 1, "now": NOON}
    assert wiring.purchases.fail(lease, failed.id, Status.FAILED, late, **terms)
    assert wiring.group_commit.run(lambda tx: tx.treasury_state.unstarted) == 1
