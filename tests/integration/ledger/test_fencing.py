"""Whoever lost the lease commits nothing for the signer; who took it over commits the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from coordinator.api.coordinator import Coordinator
from coordinator.domain.chain.steps import Attempt, Call, Step, StepKind
from coordinator.domain.errors import LeaseLost
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.ledger.chain.nonce_lane import LaneBook
from coordinator.ledger.tx.leases import Lease
from tests.integration.ledger.deciding import PROVIDER, ask, contents, edit, rows
from tests.integration.stores import on_both

pytestmark = on_both
FILL = Call(kind=StepKind.FILL, to=PROVIDER, data="0x", gas_limit=1)
LATE = Reason(ReasonCode.EXPIRED, "no escrow could be created in time")


@dataclass(frozen=True)
class Turn:
    """Two executors of one signer in turn: ``present`` has taken over from ``lost``."""

    coordinator: Coordinator
    lost: Lease
    present: Lease


def allocate(coordinator: Coordinator, lease: Lease, floor: int = 0) -> list[Step]:
    now = coordinator.wiring.clock()
    return coordinator.wiring.steps.allocate(
        lease, [FILL, FILL], composed=list, nonce_floor=floor, now=now, seen=None
    )


def lane(coordinator: Coordinator) -> LaneBook:
    wiring = coordinator.wiring
    return LaneBook(wiring.transactions, wiring.steps)


def attempt(step: Step) -> Attempt:
    fees = {"max_fee_per_gas": 2, "max_priority_fee_per_gas": 1}
    return Attempt(hash=f"0x{step.nonce + 1:064x}", raw="0x02", **fees)


def take_over(coordinator: Coordinator, database: str, lost: Lease) -> Turn:
    edit(database, "UPDATE leases SET expires_at_ms = 0")
    present = coordinator.wiring.leases.acquire("second", seconds=60)
    assert present is not None and present.token > lost.token
    return Turn(coordinator, lost, present)


@pytest.fixture
def lost(coordinator: Coordinator) -> Lease:
    lease = coordinator.wiring.leases.acquire("first", seconds=60)
    assert lease is not None
    return lease


def check_only_the_present_commits(turn: Turn, database: str, act: Callable[[Lease], None]) -> None:
    before = contents(database)
    with pytest.raises(LeaseLost):
        act(turn.lost)
    assert contents(database) == before
    act(turn.present)
    assert contents(database) != before


def test_nonces_are_given_by_the_present_holder_alone(
    coordinator: Coordinator, database: str, lost: Lease
) -> None:
    allocate(coordinator, lost)
    turn = take_over(coordinator, database, lost)

    check_only_the_present_commits(turn, database, lambda lease: [*allocate(coordinator, lease)])

    assert [n for (n,) in rows(database, "SELECT nonce FROM steps ORDER BY 1")] == [0, 1, 2, 3]


def test_signed_bytes_are_stored_by_the_present_holder_alone(
    coordinator: Coordinator, database: str, lost: Lease
) -> None:
    steps, now = allocate(coordinator, lost), coordinator.wiring.clock()
    turn = take_over(coordinator, database, lost)
    signed = [(step, attempt(step)) for step in steps]

    def store(lease: Lease) -> None:
        kept = coordinator.wiring.steps.store_attempts(
            lease, signed, composed=list, fill=FILL, now=now, seen=None
        )
        assert kept == [made for _, made in signed]

    check_only_the_present_commits(turn, database, store)

    assert rows(database, "SELECT DISTINCT status FROM steps") == [("signed",)]


def test_the_chains_nonces_are_adopted_by_the_present_holder_alone(
    coordinator: Coordinator, database: str, lost: Lease
) -> None:
    allocate(coordinator, lost)
    turn, now = take_over(coordinator, database, lost), coordinator.wiring.clock()

    def adopt(lease: Lease) -> None:
        assert lane(coordinator).adopt(lease, 5, FILL, now=now) == 3

    check_only_the_present_commits(turn, database, adopt)

    assert [str(p) for p in coordinator.wiring.operations.pauses()] == ["organisation"]


def test_holes_are_filled_by_the_present_holder_alone(
    coordinator: Coordinator, database: str, lost: Lease
) -> None:
    allocate(coordinator, lost, floor=2)
    turn, now = take_over(coordinator, database, lost), coordinator.wiring.clock()

    def repair(lease: Lease) -> None:
        assert lane(coordinator).repair(lease, 0, FILL, now=now) == 2

    check_only_the_present_commits(turn, database, repair)

    assert [n for (n,) in rows(database, "SELECT nonce FROM steps ORDER BY 1")] == [0, 1, 2, 3]


def test_purchases_are_failed_by_the_present_holder_alone(
    coordinator: Coordinator, database: str, lost: Lease
) -> None:
    purchase, now = ask(coordinator.agent("ada")), coordinator.wiring.clock()
    turn = take_over(coordinator, database, lost)

    def fail(lease: Lease) -> None:
        wiring = coordinator.wiring
        terms = {"signer": wiring.identity.treasury, "used": 0, "now": now}
        assert wiring.purchases.fail(lease, purchase.id, Status.FAILED, LATE, **terms)

    check_only_the_present_commits(turn, database, fail)


def test_a_holder_that_renews_may_still_commit_and_one_that_let_go_may_not_renew_as_before(
    coordinator: Coordinator, database: str, lost: Lease
) -> None:
    leases = coordinator.wiring.leases
    assert leases.acquire("first", seconds=60) == lost
    assert len(allocate(coordinator, lost)) == 2
    leases.release(lost)
    second = leases.acquire("second", seconds=60)
    assert second is not None
    leases.release(lost)
    assert leases.acquire("first", seconds=60) is None
    with pytest.raises(LeaseLost):
        allocate(coordinator, lost)
    assert len(allocate(coordinator, second)) == 2
