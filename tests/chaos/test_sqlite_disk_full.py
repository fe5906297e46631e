"""SQLite's file may not grow, at each point of a purchase: nothing is promised, lost or doubled."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from coordinator import LedgerUnavailable
from coordinator.domain.ports import KillPoint
from tests.chaos.evidence import check_lane, fundings, lane
from tests.integration.world import World


class Disk:
    """No file of this process takes another byte while it is full."""

    def __init__(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, self._limits[1]))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)

    @contextmanager
    def full(self) -> Iterator[None]:
        self.fill()
        try:
            yield
        finally:
            self.free()


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.free()


def test_a_request_on_a_full_disk_is_refused_and_leaves_nothing(world: World, disk: Disk) -> None:
    first = world.fund("1.00")
    with disk.full(), pytest.raises(LedgerUnavailable):
        world.buy("25.00", idempotency_key="papers")
    assert world.rows("SELECT count(*) FROM purchases") == [(1,)]
    assert world.usage()[0] == first.amount
    asked = world.buy("25.00", idempotency_key="papers")
    world.go()
    assert world.status(asked) == "funded"
    assert fundings(world, asked) == 1
    world.check_books()


_POINTS = [
    KillPoint.BEFORE_ALLOCATE,
    KillPoint.STEPS_ALLOCATED,
    KillPoint.ATTEMPTS_SIGNED,
    KillPoint.ATTEMPTS_STORED,
    KillPoint.EVENTS_READ,
    KillPoint.EVENTS_STORED,
    KillPoint.RECEIPTS_READ,
    KillPoint.RECEIPTS_STORED,
]
_BEFORE_SENDING = _POINTS[:3]


@pytest.mark.each_choice
@pytest.mark.parametrize("restarted", [False, True], ids=["", "restart"])
@pytest.mark.parametrize("point", _POINTS)
def test_a_disk_that_fills_up_at_any_point_only_delays_the_purchase(
    world: World, disk: Disk, point: KillPoint, restarted: bool
) -> None:
    world.fund("1.00")
    sent = len(lane(world))
    asked = world.buy("25.00")
    world.at(point, disk.fill)
    failed = 0
    for _ in range(4):
        try:
            world.round()
        except LedgerUnavailable as fault:
            failed += 1
            assert fault.money_moved is False
        if point in _BEFORE_SENDING:
            # What could not be stored was not sent.
            assert len(lane(world)) == sent
            assert world.chain.pool(world.signer) == []
        world.chain.mine()
    disk.free()
    assert failed
    if restarted:
        world.restart()
    world.go()
    assert world.status(asked) == "funded"
    assert fundings(world, asked) == 1
    check_lane(world)
    world.check_books()
