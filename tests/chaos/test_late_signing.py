"""What has a nonce and no bytes after a crash is signed only if it is still wanted."""

from __future__ import annotations

import pytest

from coordinator import Usdc
from coordinator.domain.ports import KillPoint
from tests.chaos.evidence import check_lane, fundings, lane
from tests.integration.stores import on_both_payers, on_either
from tests.integration.world import World

pytestmark = [on_either, on_both_payers]


class Killed(BaseException):
    """The process ends here."""


def crash(world: World, point: KillPoint) -> None:
    def die() -> None:
        raise Killed

    world.at(point, die)
    with pytest.raises(Killed):
        world.round()


def test_what_got_a_nonce_before_a_crash_is_not_created_late(world: World) -> None:
    world.fund("1.00")
    asked = world.buy("25.00")
    world.pass_time(2400)
    waiting = world.buy("2.00")
    crash(world, KillPoint.STEPS_ALLOCATED)
    # Within the hour of the one, and beyond that of the other.
    world.pass_time(1800)
    world.restart()
    world.go()
    assert world.steps_of(asked) == []
    purchase = world.get(asked)
    assert purchase.status == "failed"
    assert purchase.reason is not None and purchase.reason.code == "expired"
    assert world.hold(asked) == ("voided", Usdc("0"))
    assert fundings(world, asked) == 0
    assert world.status(waiting) == "funded"
    assert fundings(world, waiting) == 1
    check_lane(world)
    world.check_books()


def test_what_got_a_nonce_before_a_crash_is_not_created_once_it_is_cancelled(
    world: World,
) -> None:
    world.fund("1.00")
    asked = world.buy("25.00")
    crash(world, KillPoint.STEPS_ALLOCATED)
    world.edit("UPDATE purchases SET cancel_wanted = 1 WHERE id = ?", asked.id)
    world.restart()
    world.go()
    kinds = [kind for kind, *_ in lane(world)]
    assert kinds[-2:] == (["batch", "fill"] if world.safe else ["fill", "fill"])
    assert world.status(asked) == "cancelled"
    assert fundings(world, asked) == 0
    check_lane(world)
    world.check_books()


def test_bytes_that_were_stored_before_a_crash_are_sent_however_late(world: World) -> None:
    """Somebody may have them already: only the chain can tell."""
    world.fund("1.00")
    asked = world.buy("25.00")
    crash(world, KillPoint.ATTEMPTS_STORED)
    world.pass_time(2 * 3600)
    world.restart()
    world.go()
    assert world.status(asked) == "funded"
    assert fundings(world, asked) == 1
    check_lane(world)
    world.check_books()
