"""The worker believes no host: policies as people signed them, and limits of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.purchase import Purchase
from coordinator.ledger.spend.proposals import insert_proposal
from tests.integration.signers_of_approvers import People, credential, signing
from tests.integration.stores import on_either
from tests.integration.world import World

pytestmark = on_either


def stranded(world: World, purchase: Purchase) -> str:
    reason = world.get(purchase).stranded
    return reason.message if reason is not None else ""


def signed_policy(world: World, **terms: Any) -> Policy:
    asked = world.policy.approvals.model_copy(
        update={
            "required": 2,
            "signatures": "required",
            "approvers": signing("alice", "bob", "carol"),
        }
        | terms
    )
    return world.policy.model_copy(update={"approvals": asked})


@pytest.fixture
def pinned(make_world: Callable[..., World]) -> People:
    """A worker that pins alice and bob, and a policy in force that they have signed."""
    pins = ",".join(str(credential(name)) for name in ("alice", "bob"))
    world = make_world(worker_approvers=pins)
    world.apply(signed_policy(world))
    people = People(world)
    people.put_in_force(world.coordinator.wiring.policies.current(), "alice", "bob")
    world.round()
    return people


def test_what_the_signed_policy_lets_pass_is_paid(pinned: People) -> None:
    small = pinned.world.buy("10.00")
    pinned.world.go()
    assert pinned.world.status(small) == "funded"


def test_nothing_is_signed_before_a_policy_is(make_world: Callable[..., World]) -> None:
    world = make_world(worker_approvers=str(credential("alice")))
    small = world.buy("10.00")
    world.go()
    assert world.status(small) == "approved"
    assert "no policy is signed" in stranded(world, small)
    world.apply(signed_policy(world, required=1))
    People(world).put_in_force(world.coordinator.wiring.policies.current(), "alice")
    world.go()
    again = world.buy("10.00")
    world.go()
    assert world.status(again) == "funded"


def test_a_version_that_nobody_signed_lets_nobody_be_paid(pinned: People) -> None:
    world = pinned.world
    current = world.coordinator.wiring.policies.current()
    other = current.providers["paper-api"].model_copy(update={"address": world.chain.stranger})
    forged = current.model_copy(update={"providers": current.providers | {"new": other}})
    pinned.activate_unsigned(forged)
    paid = world.buy("10.00", provider="new")
    world.go()
    assert paid.status == "approved" and world.status(paid) == "approved"
    assert "no provider" in stranded(world, paid)
    told = [one.notice.kind for one in world.coordinator.alerts()]
    assert "worker_refused" in told
    # What the signed policy knows is paid all the same.
    small = world.buy("10.00")
    world.go()
    assert world.status(small) == "funded"


def test_approvers_of_the_version_before_sign_the_next(pinned: People) -> None:
    world = pinned.world
    current = world.coordinator.wiring.policies.current()
    changed = current.model_copy(
        update={
            "approvals": current.approvals.model_copy(
                update={"approvers": signing("carol", "dora"), "required": 1}
            )
        }
    )
    pinned.put_in_force(changed, "alice", "carol")
    world.round()
    waiting = world.buy("60.00")
    pinned.approve(waiting.approval_id or "", "dora")
    world.go()
    assert world.status(waiting) == "funded"


def test_the_workers_own_limit_of_a_day(make_world: Callable[..., World]) -> None:
    world = make_world(worker_daily_limit="25")
    bought = [world.buy("10.00") for _ in range(3)]
    world.go()
    assert [world.status(one) for one in bought] == ["funded", "funded", "approved"]
    assert "own limit leaves 5.00 USDC" in stranded(world, bought[2])
    world.pass_time(86_401)
    world.go()
    later = world.buy("10.00")
    world.go()
    assert world.status(later) == "funded"


def test_a_payee_is_late_by_the_workers_own_clock(pinned: People) -> None:
    world = pinned.world
    current = world.coordinator.wiring.policies.current()
    slow = current.approvals.model_copy(update={"change_delay": 86_400})
    pinned.put_in_force(current.model_copy(update={"approvals": slow}), "alice", "bob")
    world.round()
    current = world.coordinator.wiring.policies.current()
    other = current.providers["paper-api"].model_copy(update={"address": world.chain.stranger})
    changed = current.model_copy(update={"providers": current.providers | {"new": other}})
    draft = world.coordinator.draft_policy(changed, by="olga", reason="a test")
    for name in ("alice", "bob"):
        pinned.approve_proposal(draft.id, name)
    # A host that does not wait puts it in force at once.
    pinned.activate_unsigned(changed, proposal=draft.id)
    paid = world.buy("10.00", provider="new")
    world.go()
    assert "no provider" in stranded(world, paid)
    world.pass_time(86_401)
    world.round()
    later = world.buy("10.00", provider="new")
    world.go()
    assert world.status(later) == "funded"


def test_a_recovery_counts_by_the_workers_own_clock(pinned: People) -> None:
    world = pinned.world
    current = world.coordinator.wiring.policies.current()
    others = {"approvers": signing("dora"), "required": 1}
    approvals = current.approvals.model_copy(update=others)
    changed = current.model_copy(update={"approvals": approvals})
    begun = world.coordinator.recover_policy(changed, by="root", reason="keys were lost")
    pinned.activate_unsigned(changed, proposal=begun.id)
    waiting = world.buy("60.00")
    pinned.approve(waiting.approval_id or "", "dora")
    world.go()
    assert world.status(waiting) == "awaiting_approval"
    world.pass_time(72 * 3600 + 1)
    world.round()
    again = world.buy("70.00")
    pinned.approve(again.approval_id or "", "dora")
    world.go()
    assert world.status(again) == "funded"


def test_pins_count_for_what_was_signed_before_them(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.apply(signed_policy(world))
    people = People(world)
    people.put_in_force(world.coordinator.wiring.policies.current(), "alice", "bob")
    world.round()
    world.restart(worker_approvers=f"{credential('alice')},{credential('bob')}")
    small = world.buy("10.00")
    world.go()
    assert world.status(small) == "funded"


def test_what_other_pins_believed_is_judged_anew(pinned: People) -> None:
    world = pinned.world
    world.restart(worker_approvers=str(credential("mallory")))
    small = world.buy("10.00")
    world.go()
    assert world.status(small) == "approved"
    assert "no policy is signed" in stranded(world, small)


def test_an_unpause_counts_after_the_workers_state_was_lost(pinned: People) -> None:
    world = pinned.world
    world.coordinator.pause("a look", by="alice")
    world.coordinator.unpause("looked at it", by="alice")
    (waiting,) = (one for one in world.wiring.proposals.waiting(world.clock()))
    for name in ("alice", "bob"):
        pinned.approve_proposal(waiting.id, name)
    world.change_host()
    world.restart()
    small = world.buy("10.00")
    world.go()
    assert world.status(small) == "funded"


def test_a_recovery_that_was_rejected_is_not_begun_again_by_a_host(pinned: People) -> None:
    world = pinned.world
    current = world.coordinator.wiring.policies.current()
    approvals = current.approvals.model_copy(
        update={"approvers": signing("mallory"), "required": 1}
    )
    changed = current.model_copy(update={"approvals": approvals})
    begun = world.coordinator.recover_policy(changed, by="root", reason="keys were lost")
    why = "mine is here"
    world.coordinator.reject_proposal(
        begun.id,
        approver="alice",
        reason=why,
        signature=pinned.sign(begun.id, "alice", reason=why),
    )
    with world.wiring.transactions.write() as tx:
        insert_proposal(tx, replace(begun, id="pol_again"), begun.created_at)
    pinned.activate_unsigned(changed, proposal="pol_again")
    world.round()
    world.pass_time(72 * 3600 + 1)
    waiting = world.buy("60.00")
    pinned.approve(waiting.approval_id or "", "mallory")
    world.go()
    assert world.status(waiting) == "awaiting_approval"
