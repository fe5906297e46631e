"""Nothing is forgotten by a restart, and what changed meanwhile counts from then on."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from coordinator import (
    ConfigurationError,
    Coordinator,
    IdempotencyConflict,
    InvalidRequest,
    Purchase,
    Status,
)
from coordinator.domain.chain.events import EscrowState
from coordinator.ledger.proofs.verification import verify
from coordinator.ledger.tx.identity import Identity
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import (
    DAY,
    HOUR,
    NOON,
    PROVIDER,
    USDC,
    Clock,
    ask,
    assert_books_agree,
    contents,
    counter,
    open_coordinator,
    policy,
    rows,
)
from tests.integration.stores import on_both

pytestmark = on_both
TODAY = NOON - NOON % DAY


def reason(purchase: Purchase) -> str:
    assert purchase.reason is not None
    return str(purchase.reason.code)


def settled(coordinator: Coordinator, purchase: Purchase) -> None:
    feed = ChainFeed(coordinator)
    feed.open()
    feed.fund(purchase)
    for state in (EscrowState.STARTED, EscrowState.DELIVERED):
        feed.move(purchase, state)
    feed.settle(purchase)
    feed.finalise()


# What survives


def test_everything_is_the_same_after_a_restart(
    opener: Opener, database: str, clock: Clock
) -> None:
    first = opener()
    agent = first.agent("ada")
    paid = ask(agent, "10.00", idempotency_key="paid")
    settled(first, paid)
    ask(agent, "0.10")
    rejected = ask(agent, "80.00")
    first.reject(rejected.approval_id or "", approver="bob", reason="too dear")
    ask(agent, "90.00", task="t", session="s", category="data")
    first.pause("a look", by="olga", provider="paper-api")
    clock.now += 1
    before = contents(database)
    purchases = [purchase.as_dict() for purchase in first.purchases()]
    head, limits = first.wiring.audit.head(), first.limits("ada")
    waiting = first.approvals()
    first.close()

    again = opener()

    assert contents(database) == before
    assert [purchase.as_dict() for purchase in again.purchases()] == purchases
    assert len(purchases) == 4
    assert again.approvals() == waiting
    assert again.limits("ada") == limits
    assert verify(again.wiring.audit, head).ok
    assert reason(ask(again.agent("ada"))) == "provider_paused"


def test_a_key_finds_its_purchase_after_a_restart_and_writes_nothing(
    opener: Opener, database: str
) -> None:
    terms = {"category": "data", "task": "t", "idempotency_key": "task-7"}
    bought = ask(opener().agent("ada"), "5.00", **terms)
    again = opener()
    before = contents(database)

    assert ask(again.agent("ada"), "5.00", **terms).id == bought.id
    assert ask(again.agent("ada"), "5.00", **{**terms, "purpose": "reworded"}).id == bought.id
    assert ask(again.agent("ada"), "5.00", **{**terms, "provider": PROVIDER}).id == bought.id
    with pytest.raises(IdempotencyConflict):
        ask(again.agent("ada"), "5.01", **terms)
    assert contents(database) == before


@pytest.mark.parametrize("end", ["rejected", "expired", "cancelled"])
def test_a_key_stays_bound_to_a_purchase_that_ended(
    opener: Opener, database: str, clock: Clock, end: str
) -> None:
    first = opener()
    waiting = ask(first.agent("ada"), "75.00", idempotency_key="task-7")
    if end == "rejected":
        first.reject(waiting.approval_id or "", approver="bob", reason="no")
    if end == "cancelled":
        first.cancel(waiting.id, by="ada")
    clock.now += HOUR

    again = ask(opener().agent("ada"), "75.00", idempotency_key="task-7")

    assert (again.id, again.status) == (waiting.id, end)
    assert counter(database, "organisation", "", "total") == (0, 0)


def test_a_denial_binds_nothing_and_the_same_key_is_judged_afresh(
    opener: Opener, database: str
) -> None:
    tight = {"agents": {"ada": {"per_purchase_limit": "4"}}}
    denied = ask(opener(tight).agent("ada"), "5.00", idempotency_key="task-7")

    allowed = ask(opener().agent("ada"), "5.00", idempotency_key="task-7")

    assert denied.status is Status.DENIED
    assert allowed.status is Status.APPROVED
    assert allowed.id != denied.id
    assert rows(database, "SELECT count(*) FROM holds") == [(1,)]


def test_held_and_spent_are_exact_after_a_restart(opener: Opener, database: str) -> None:
    limited = {"agents": {"ada": {"daily_limit": "100"}}}
    first = opener(limited)
    paid = ask(first.agent("ada"), "30.00")
    settled(first, paid)
    for amount in ("20.00", "9.99"):
        ask(first.agent("ada"), amount)
    first.close()

    again = opener(limited)

    assert counter(database, "agent", "ada", "daily", TODAY) == (29_990_000, 30 * USDC)
    assert reason(ask(again.agent("ada"), "40.010001")) == "daily_limit"
    assert ask(again.agent("ada"), "40.01").status is Status.APPROVED
    assert reason(ask(again.agent("ada"))) == "daily_limit"
    assert_books_agree(database)


def test_a_new_day_starts_with_its_whole_limit_and_the_total_goes_on(
    opener: Opener, database: str, clock: Clock
) -> None:
    limited = {"agents": {"ada": {"daily_limit": "10", "total_limit": "15"}}}
    clock.now = TODAY + DAY - 1
    assert ask(opener(limited).agent("ada"), "10.00").status is Status.APPROVED
    assert reason(ask(opener(limited).agent("ada"))) == "daily_limit"
    clock.now += 1
    again = opener(limited)

    assert reason(ask(again.agent("ada"), "5.01")) == "total_limit"
    assert ask(again.agent("ada"), "5.00").status is Status.APPROVED
    assert counter(database, "agent", "ada", "daily", TODAY) == (10 * USDC, 0)
    assert counter(database, "agent", "ada", "daily", TODAY + DAY) == (5 * USDC, 0)


# Approvals: open in [created, created + expires_after)


def test_an_approval_is_open_in_the_last_second_before_it_expires(
    opener: Opener, clock: Clock
) -> None:
    waiting = ask(opener().agent("ada"), "75.00")
    clock.now += HOUR - 1
    again = opener()

    assert [pending.id for pending in again.approvals()] == [waiting.approval_id]
    assert again.approve(waiting.approval_id or "", approver="alice").done


def test_an_approval_is_expired_at_its_second_and_its_hold_is_voided(
    opener: Opener, database: str, clock: Clock
) -> None:
    waiting = ask(opener().agent("ada"), "75.00")
    clock.now += HOUR
    again = opener()

    assert again.approvals() == []
    answer = again.approve(waiting.approval_id or "", approver="alice")

    assert not answer.done
    assert answer.reason and answer.reason.code == "approval_expired"
    assert answer.purchase.status is Status.EXPIRED
    assert rows(database, "SELECT status, posted, ended_at FROM holds") == [
        ("voided", 0, clock.now)
    ]
    assert counter(database, "agent", "ada", "total") == (0, 0)
    assert rows(database, "SELECT count(*) FROM approval_decisions") == [(0,)]
    assert_books_agree(database)


def test_what_an_expired_approval_held_is_free_for_the_next_request_of_that_second(
    opener: Opener, database: str, clock: Clock
) -> None:
    limited = {"agents": {"ada": {"daily_limit": "100"}}}
    first = opener(limited)
    waiting = ask(first.agent("ada"), "75.00")
    clock.now += HOUR - 1
    assert reason(ask(first.agent("ada"), "40.00")) == "daily_limit"
    clock.now += 1

    assert ask(opener(limited).agent("ada"), "40.00").status is Status.APPROVED
    assert first.get(waiting.id).status is Status.EXPIRED
    assert counter(database, "agent", "ada", "daily", TODAY) == (40 * USDC, 0)


# The policy in force


def toml(**changes: str) -> str:
    organisation = {"total_limit": "1000", "daily_limit": "unlimited", **changes}
    lines = [f'{key} = "{value}"' for key, value in organisation.items()]
    agents = ['[agents.ada]\nper_purchase_limit = "50"\ndaily_limit = "unlimited"']
    agents += ['approval_threshold = "50"']
    provider = f'[providers.paper-api]\naddress = "{PROVIDER}"'
    return "\n".join(["[organisation]", *lines, *agents, provider, ""])


def test_a_changed_policy_file_is_in_force_from_the_next_start_as_a_new_version(
    opener: Opener, database: str, tmp_path: Path
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(toml())
    running = opener(file)
    before = ask(running.agent("ada"), "30.00")
    file.write_text(toml(total_limit="40"))
    unseen = ask(running.agent("ada"), "1.00")

    again = opener(file)
    denied = ask(again.agent("ada"), "30.00")

    versions = rows(
        database, "SELECT version, hash, reason, document FROM policies ORDER BY version"
    )
    assert [(version, why) for version, _, why, _ in versions] == [
        (1, "read from policy.toml"),
        (2, "read from policy.toml"),
    ]
    assert json.loads(versions[1][3])["organisation"]["total_limit"] == "40.00"
    assert reason(denied) == "organisation_limit"
    assert before.policy_hash == unseen.policy_hash == versions[0][1]
    assert denied.policy_hash == versions[1][1]
    assert again.get(before.id).policy_hash == versions[0][1]
    events = rows(
        database, "SELECT subject FROM audit WHERE event = 'policy_activated' ORDER BY seq"
    )
    assert [subject for (subject,) in events] == [versions[0][1], versions[1][1]]


def test_a_process_that_is_running_decides_by_the_version_that_another_put_in_force(
    opener: Opener,
) -> None:
    running = opener()
    ask(running.agent("ada"))
    opener({"organisation": {"total_limit": "1.50"}})

    assert reason(ask(running.agent("ada"))) == "organisation_limit"


@pytest.mark.parametrize("edited", [toml(), "# a comment\n\n" + toml()])
def test_a_policy_that_says_the_same_is_no_new_version(
    opener: Opener, database: str, tmp_path: Path, edited: str
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(toml())
    opener(file)
    file.write_text(edited)
    before = contents(database)

    opener(file)

    assert contents(database) == before


def test_a_version_that_comes_back_is_put_in_force_again(opener: Opener, database: str) -> None:
    for changes in ({}, {"organisation": {"daily_limit": "1"}}, {}):
        opener(changes)

    hashes = [h for (h,) in rows(database, "SELECT hash FROM policies ORDER BY version")]
    assert len(hashes) == 3
    assert hashes[0] == hashes[2] != hashes[1]


def test_a_faulty_policy_file_leaves_the_version_in_force_as_it_is(
    opener: Opener, database: str, tmp_path: Path
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(toml())
    opener(file)
    before = contents(database)
    file.write_text(toml(daily_limt="5"))

    # On PostgreSQL the file is applied by hand, elsewhere at the start.
    with pytest.raises(ConfigurationError, match=r"policy\.toml:4: organisation\.daily_limt"):
        opener(file)._check_policy_file()
    assert contents(database) == before


def test_a_change_of_zone_counts_the_new_days_holds_and_no_others(
    opener: Opener, database: str, clock: Clock
) -> None:
    limited = {
        "agents": {"ada": {"daily_limit": "100"}},
        "organisation": {"daily_limit": "1000"},
        "categories": {"other": {"daily_limit": "1000"}},
    }
    first = opener(limited)
    # Tokyo's 2 January starts at 15:00 UTC of the first.
    tokyo = int(datetime(2026, 1, 2, tzinfo=ZoneInfo("Asia/Tokyo")).timestamp())
    clock.now = tokyo - 1
    ask(first.agent("ada"), "40.00")
    clock.now = tokyo
    ask(first.agent("ada"), "10.00")
    paid = ask(first.agent("ada"), "20.00")
    settled(first, paid)
    voided = ask(first.agent("ada"), "5.00")
    first.cancel(voided.id, by="ada")
    clock.now += HOUR

    zone = {"organisation": {"daily_limit": "1000", "time_zone": "Asia/Tokyo"}}
    moved = opener({**limited, **zone})

    for kind, of in (("agent", "ada"), ("organisation", ""), ("category", "other")):
        assert counter(database, kind, of, "daily", tokyo) == (10 * USDC, 20 * USDC)
        assert counter(database, kind, of, "daily", TODAY) == (50 * USDC, 20 * USDC)
        assert counter(database, kind, of, "total") == (50 * USDC, 20 * USDC)
    assert_books_agree(database)
    assert reason(ask(moved.agent("ada"), "70.01")) == "daily_limit"
    # Above the threshold it waits, and its hold counts like any other.
    assert ask(moved.agent("ada"), "70.00").status is Status.AWAITING_APPROVAL
    assert reason(ask(moved.agent("ada"))) == "daily_limit"


def test_a_zone_that_changes_and_changes_back_counts_nothing_twice(
    opener: Opener, database: str
) -> None:
    limited = {"agents": {"ada": {"daily_limit": "100"}}}
    waiting = ask(opener(limited).agent("ada"), "75.00")
    ask(opener(limited).agent("ada"), "7.00")
    zones = ("Asia/Tokyo", "America/New_York", "UTC", "Asia/Tokyo")
    for zone in zones:
        last = opener({**limited, "organisation": {"time_zone": zone}})

    assert counter(database, "agent", "ada", "daily", TODAY) == (82 * USDC, 0)
    assert counter(database, "agent", "ada", "total") == (82 * USDC, 0)
    assert_books_agree(database)
    last.reject(waiting.approval_id or "", approver="bob", reason="no")
    assert counter(database, "agent", "ada", "daily", TODAY) == (7 * USDC, 0)
    assert_books_agree(database)


def test_a_lowered_limit_admits_nothing_while_it_is_exceeded(opener: Opener, database: str) -> None:
    first = opener()
    bought = [ask(first.agent("ada"), "30.00") for _ in range(3)]
    lowered = opener({"organisation": {"total_limit": "50"}})

    over = ask(lowered.agent("bert"))
    assert reason(over) == "organisation_limit"
    assert [str(state.remaining) for state in over.limits if state.broken] == ["-40.00"]
    lowered.cancel(bought[0].id, by="ada")
    assert reason(ask(lowered.agent("bert"))) == "organisation_limit"
    lowered.cancel(bought[1].id, by="ada")
    assert ask(lowered.agent("bert"), "20.00").status is Status.APPROVED
    assert reason(ask(lowered.agent("bert"))) == "organisation_limit"
    assert counter(database, "organisation", "", "total") == (50 * USDC, 0)
    assert_books_agree(database)


def test_a_limit_that_is_added_later_counts_what_was_held_before(opener: Opener) -> None:
    ask(opener().agent("ada"), "30.00", category="data")

    limited = opener({"categories": {"data": {"total_limit": "31"}}})

    assert reason(ask(limited.agent("bert"), "1.01", category="data")) == "category_limit"
    assert ask(limited.agent("bert"), "1.00", category="data").status is Status.APPROVED


def test_an_agent_taken_out_of_the_policy_is_denied_and_its_purchases_stay(
    opener: Opener, database: str
) -> None:
    bought = ask(opener().agent("ada"), "30.00", idempotency_key="mine")

    again = opener({"agents": {"ada": None}})

    assert reason(ask(again.agent("ada"), "1.00")) == "agent_not_registered"
    assert ask(again.agent("ada"), "30.00", idempotency_key="mine").id == bought.id
    assert counter(database, "agent", "ada", "total") == (30 * USDC, 0)
    assert_books_agree(database)


def test_a_waiting_purchase_of_a_removed_agent_or_provider_cannot_be_approved(
    opener: Opener, database: str
) -> None:
    waiting = ask(opener().agent("ada"), "75.00")
    for changes, code in (
        ({"agents": {"ada": None}}, "agent_not_registered"),
        ({"agents": {"ada": {"enabled": False}}}, "agent_disabled"),
        ({"providers": {"paper-api": None}}, "provider_not_allowed"),
    ):
        again = opener(changes)
        before = contents(database)
        answer = again.approve(waiting.approval_id or "", approver="alice")
        assert not answer.done
        assert answer.reason and answer.reason.code == code
        assert contents(database) == before


# What the database belongs to


OTHER_KERNEL = "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"


@pytest.mark.parametrize(
    "other", [{"key": "0x" + "33" * 32}, {"kernel_address": OTHER_KERNEL}], ids=["key", "kernel"]
)
def test_a_database_of_another_treasury_or_kernel_is_refused(
    coordinator: Coordinator, database: str, clock: Clock, other: dict[str, str]
) -> None:
    ask(coordinator.agent("ada"))
    before = contents(database)

    foreign = open_coordinator(database, policy(), clock=clock, **other)
    with pytest.raises(ConfigurationError, match="this database belongs to treasury 0x"):
        ask(foreign.agent("ada"))

    foreign.close()
    assert contents(database) == before


@pytest.mark.parametrize("part", ["treasury", "policies", "purchases"])
def test_a_refused_database_does_not_get_the_others_policy(
    coordinator: Coordinator, database: str, clock: Clock, part: str
) -> None:
    before = contents(database)
    changed = policy({"organisation": {"total_limit": "5"}})

    foreign = open_coordinator(database, changed, clock=clock, key="0x" + "33" * 32)
    with pytest.raises(ConfigurationError, match="this database belongs to treasury 0x"):
        getattr(foreign.wiring, part)

    foreign.close()
    assert contents(database) == before


@pytest.mark.parametrize("field", ["chain_id", "genesis", "kernel", "treasury", "signer"])
def test_a_database_is_bound_to_each_part_of_what_it_belongs_to(
    coordinator: Coordinator, database: str, field: str
) -> None:
    book = coordinator.wiring.identity_book
    known = book.identity()
    assert known is not None
    values = {name: getattr(known, name) for name in known.__dataclass_fields__}
    book.claim(Identity(**values))
    before = contents(database)

    other = {**values, field: 1 if field == "chain_id" else "0x" + "ee" * 20}
    with pytest.raises(ConfigurationError, match="use another COORDINATOR_DATABASE_URL"):
        book.claim(Identity(**other))
    assert contents(database) == before


def test_another_id_secret_is_refused_before_anything_is_decided(
    coordinator: Coordinator, opener: Opener
) -> None:
    ask(coordinator.agent("ada"))

    with pytest.raises(ConfigurationError, match="COORDINATOR_ID_SECRET is not the secret"):
        ask(opener(secret="44" * 32).agent("ada"))


def test_a_pause_of_a_provider_by_its_address_holds(coordinator: Coordinator) -> None:
    known = coordinator.wiring.policies.current()
    name, provider = next(iter(known.providers.items()))

    assert coordinator.pause("checking", by="olga", provider=provider.address)

    assert [str(p) for p in coordinator.wiring.operations.pauses()] == [f"provider:{name}"]
    assert ask(coordinator.agent("ada")).reason.code == "provider_paused"  # type: ignore[union-attr]


@pytest.mark.parametrize("unknown", [{"agent": "nobody"}, {"provider": "nobody"}])
def test_a_pause_of_nobody_is_refused(coordinator: Coordinator, unknown: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        coordinator.pause("checking", by="olga", **unknown)  # type: ignore[arg-type]
