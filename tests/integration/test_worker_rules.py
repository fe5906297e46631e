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
from tests.integration.world import AGENT, World

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
    # The first version is applied without signatures: it is nobody's attack.
    assert "worker_refused" not in [one.notice.kind for one in world.coordinator.alerts()]
    world.apply(signed_policy(world, required=1))
    People(world).put_in_force(world.coordinator.wiring.policies.current(), "alice")
    world.go()
    again = world.buy("10.00")
    world.go()
    assert world.status(again) == "funded"
    # What waited for it goes on by itself.
    assert world.status(small) == "funded"
    assert stranded(world, small) == ""


def test_what_waits_for_the_workers_limit_goes_on_once_there_is_room(
    make_world: Callable[..., World],
) -> None:
    world = make_world(worker_total_limit="25")
    large, small = world.buy("30.00"), world.buy("10.00")
    world.go()
    assert (world.status(large), world.status(small)) == ("approved", "funded")
    world.restart(worker_total_limit="30")
    world.go()
    assert world.status(large) == "approved"
    world.restart(worker_total_limit="40")
    world.go()
    assert world.status(large) == "funded"


def with_dora(world: World) -> Policy:
    """The version in force with another approver."""
    current = world.coordinator.wiring.policies.current()
    approvers = current.approvals.approvers | signing("dora")
    approvals = current.approvals.model_copy(update={"approvers": approvers})
    return current.model_copy(update={"approvals": approvals})


def approved_with_dora(pinned: People) -> Purchase:
    waiting = pinned.world.buy("60.00")
    for name in ("alice", "dora"):
        pinned.approve(waiting.approval_id or "", name)
    pinned.world.go()
    return waiting


def asked_again(world: World) -> int:
    told = [one.notice.message for one in world.coordinator.alerts(kind="approval_waits")]
    return sum("has to be approved again" in text for text in told)


def test_what_a_later_version_decides_waits_until_the_worker_believes_it(pinned: People) -> None:
    world = pinned.world
    current = world.coordinator.wiring.policies.current()
    slow = current.approvals.model_copy(update={"change_delay": 600})
    pinned.put_in_force(current.model_copy(update={"approvals": slow}), "alice", "bob")
    world.round()
    changed, old = with_dora(world), world.coordinator.wiring.policies.current()
    draft = world.coordinator.draft_policy(changed, by="olga", reason="a test")
    for name in ("alice", "bob"):
        pinned.approve_proposal(draft.id, name)
    # A host that does not wait puts it in force at once.
    pinned.activate_unsigned(changed, proposal=draft.id)
    waiting = approved_with_dora(pinned)
    assert world.status(waiting) == "approved"
    told = stranded(world, waiting)
    assert f"decided by policy {changed.hash[:12]}…" in told
    assert f"believes {old.hash[:12]}… until 20" in told
    assert asked_again(world) == 0
    world.pass_time(601)
    world.go()
    assert world.status(waiting) == "funded"


def test_a_draft_that_was_rejected_is_not_believed_whoever_signed_it(pinned: People) -> None:
    world = pinned.world
    current = world.coordinator.wiring.policies.current()
    slow = current.approvals.model_copy(update={"change_delay": 600})
    pinned.put_in_force(current.model_copy(update={"approvals": slow}), "alice", "bob")
    world.round()
    changed = with_dora(world)
    draft = world.coordinator.draft_policy(changed, by="olga", reason="a test")
    for name in ("alice", "bob"):
        pinned.approve_proposal(draft.id, name)
    why = "I was not asked"
    signature = pinned.sign(draft.id, "carol", reason=why)
    world.coordinator.reject_proposal(draft.id, approver="carol", reason=why, signature=signature)
    pinned.activate_unsigned(changed, proposal=draft.id)
    world.round()
    world.pass_time(601)
    waiting = approved_with_dora(pinned)
    assert world.status(waiting) == "approved"
    assert "an approver rejected it" in stranded(world, waiting)


def test_nobody_is_asked_again_by_a_version_that_the_worker_refused(pinned: People) -> None:
    world = pinned.world
    pinned.activate_unsigned(with_dora(world))
    waiting = approved_with_dora(pinned)
    world.go()
    assert world.status(waiting) == "approved"
    assert "because it refused" in stranded(world, waiting)
    assert "no approver has signed it" in stranded(world, waiting)
    assert asked_again(world) == 0


def raised(policy: Policy, **terms: Any) -> Policy:
    """The policy with other terms of the agent that tests buy for."""
    document = policy.document()
    document["agents"][AGENT] |= terms
    return Policy.from_dict(document)


def test_what_passes_without_people_in_a_day_is_the_signed_policys(pinned: People) -> None:
    world = pinned.world
    current = world.coordinator.wiring.policies.current()
    pinned.put_in_force(raised(current, auto_approve_daily_limit="25"), "alice", "bob")
    world.round()
    signed = world.coordinator.wiring.policies.current()
    pinned.activate_unsigned(raised(signed, auto_approve_daily_limit="1000"))
    world.round()
    bought = [world.buy("10.00") for _ in range(3)]
    world.go()
    assert [world.status(one) for one in bought] == ["funded", "funded", "awaiting_approval"]
    reason = world.get(bought[2]).reason
    assert reason is not None
    assert f"{AGENT} may spend 25.00 USDC a day without approval; 5.00 remains" in reason.message
    # What people say counts as before, and takes nothing of what passes without them.
    for name in ("alice", "bob"):
        pinned.approve(world.get(bought[2]).approval_id or "", name)
    small = world.buy("5.00")
    world.go()
    assert (world.status(bought[2]), world.status(small)) == ("funded", "funded")
    world.restart()
    later = world.buy("1.00")
    world.go()
    assert world.status(later) == "awaiting_approval"
    world.pass_time(86_400)
    tomorrow = world.buy("25.00")
    world.go()
    assert world.status(tomorrow) == "funded"


def test_a_category_that_the_signed_policy_does_not_have(pinned: People) -> None:
    world = pinned.world
    document = world.coordinator.wiring.policies.current().document()
    document["categories"] = {"data": {"per_purchase_limit": "5"}}
    pinned.put_in_force(Policy.from_dict(document), "alice", "bob")
    world.round()
    document["categories"] = {"data": {}, "toys": {}}
    pinned.activate_unsigned(Policy.from_dict(document))
    toys, large = world.buy("3.00", category="toys"), world.buy("6.00", category="data")
    small = world.buy("4.00", category="data")
    world.go()
    assert world.status(small) == "funded"
    assert "no category toys" in stranded(world, toys)
    assert "at most 5.00 USDC a purchase" in stranded(world, large)


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
    assert world.status(waiting) == "approved"
    assert "believes" in stranded(world, waiting) and "… until 20" in stranded(world, waiting)
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
    assert world.status(waiting) == "approved"
    assert "because it refused" in stranded(world, waiting)
