"""Approvals are signatures over just what is bought, checked again when the create is signed."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from coordinator.domain.errors import LedgerTampered
from coordinator.domain.limits.increase import Increase
from coordinator.domain.policy.approvals import Approver
from coordinator.domain.policy.policy import Policy
from coordinator.domain.reasons import ReasonCode
from coordinator.domain.statements.signed import GivenSignature
from coordinator.ledger.proofs.verification import verify
from coordinator.ledger.store import schema
from tests.integration.signers_of_approvers import People, credential, key_of, signing
from tests.integration.stores import on_either
from tests.integration.test_used_nonces import stranger_at
from tests.integration.world import AGENT, World

pytestmark = on_either


def with_approvals(world: World, **terms: Any) -> None:
    asked = world.policy.approvals.model_copy(update=terms)
    world.apply(world.policy.model_copy(update={"approvals": asked}))


@pytest.fixture
def people(world: World) -> People:
    with_approvals(
        world, required=2, signatures="required", approvers=signing("alice", "bob", "carol")
    )
    world.round()
    return People(world)


def test_two_signatures_pay_what_waits(people: People) -> None:
    world = people.world
    waiting = world.buy("60.00")
    approval = waiting.approval_id or ""
    first = people.approve(approval, "alice")
    assert first.done and first.purchase.needs_approval
    assert people.approve(approval, "bob").purchase.status == "approved"
    world.go()
    assert world.status(waiting) == "funded"


def test_an_unsigned_yes_counts_for_nothing(people: People) -> None:
    world = people.world
    waiting = world.buy("60.00")
    answer = world.coordinator.approve(waiting.approval_id or "", approver="alice")
    assert not answer.done and answer.reason.code is ReasonCode.SIGNATURE_REQUIRED
    rejected = world.coordinator.reject(waiting.approval_id or "", approver="alice", reason="no")
    assert not rejected.done and rejected.reason.code is ReasonCode.SIGNATURE_REQUIRED
    assert world.status(waiting) == "awaiting_approval"


@pytest.mark.parametrize(
    ("signature", "told"),
    [
        ("0x", "malformed"),
        ("0x" + "zz" * 65, "malformed"),
        ("0x" + "11" * 64, "malformed"),
        ("0x" + "00" * 65, "malformed"),
    ],
)
def test_a_malformed_signature_is_named(people: People, signature: str, told: str) -> None:
    waiting = people.world.buy("60.00")
    answer = people.world.coordinator.approve(
        waiting.approval_id or "", approver="alice", signature=GivenSignature(signature=signature)
    )
    assert not answer.done and answer.reason.code is ReasonCode.SIGNATURE_INVALID
    assert answer.reason.message.startswith(told)


def test_a_signature_of_another_purchase_is_named(people: People) -> None:
    world = people.world
    small, large = world.buy("60.00"), world.buy("90.00")
    asked = world.coordinator.statement(small.approval_id or "")
    signature = key_of("alice").sign_typed(asked.message)
    bare = world.coordinator.approve(
        large.approval_id or "", approver="alice", signature=GivenSignature(signature=signature)
    )
    assert "other_signer" in bare.reason.message
    whole = GivenSignature(signature=signature, statement=asked.statement.as_dict())
    answer = world.coordinator.approve(large.approval_id or "", approver="alice", signature=whole)
    assert "other_statement" in answer.reason.message


def test_who_decides_it_changed_before_it_was_signed(people: People) -> None:
    world = people.world
    waiting = world.buy("60.00")
    for name in ("alice", "bob"):
        people.approve(waiting.approval_id or "", name)
    current = world.coordinator.wiring.policies.current()
    approvals = current.approvals.model_copy(update={"approvers": signing("alice", "carol")})
    people.put_in_force(current.model_copy(update={"approvals": approvals}), "alice", "bob")
    world.go()
    again = world.get(waiting)
    assert again.needs_approval and "approved again" in again.reason.message
    assert again.approvals == ()
    for name in ("alice", "carol"):
        people.approve(waiting.approval_id or "", name)
    world.go()
    assert world.status(waiting) == "funded"


def test_who_decides_it_changed_before_another_create_is_signed(people: People) -> None:
    # Somebody who has the treasury's key takes the nonce of its create, so it needs another one.
    world, coordinator = people.world, people.world.coordinator
    waiting = world.buy("60.00")
    for name in ("alice", "bob"):
        people.approve(waiting.approval_id or "", name)
    world.round()
    create, _ = world.hold_back(lambda step: step.call.purchase_id == waiting.id)
    world.chain.mine()
    stranger_at(world, create.nonce)
    for _ in range(4):
        world.round()
        world.chain.mine()
    current = coordinator.wiring.policies.current()
    approvals = current.approvals.model_copy(update={"approvers": signing("alice", "carol")})
    people.put_in_force(current.model_copy(update={"approvals": approvals}), "alice", "bob")
    coordinator.unpause("the key was looked after", by="alice")
    (unpause,) = coordinator.proposals()
    for name in ("alice", "carol"):
        people.approve_proposal(unpause.id, name)
    world.go()
    stranded = world.get(waiting)
    assert stranded.status == "approved"
    assert stranded.stranded is not None and "bob" in stranded.stranded.message
    assert "its create was not mined, and no other is signed" in stranded.stranded.message
    coordinator.cancel(waiting.id, by="alice")
    world.go()
    assert world.status(waiting) == "cancelled"
    assert verify(world.wiring.audit).ok


def test_another_change_of_the_policy_leaves_it_valid(people: People) -> None:
    world = people.world
    waiting = world.buy("60.00")
    for name in ("alice", "bob"):
        people.approve(waiting.approval_id or "", name)
    alerts = world.policy.alerts.model_copy(update={"thresholds": [50]})
    current = world.coordinator.wiring.policies.current()
    people.put_in_force(current.model_copy(update={"alerts": alerts}), "bob", "carol")
    world.go()
    assert world.status(waiting) == "funded"


def test_more_is_granted_by_credentials_in_force_alone(people: People) -> None:
    world, coordinator = people.world, people.world.coordinator
    current = coordinator.wiring.policies.current()
    document = current.document() | {"increases": {"maximum": "100"}}
    document["agents"][AGENT] |= {"daily_limit": "1000"}
    people.put_in_force(Policy.from_dict(document), "alice", "bob")
    asked = coordinator.agent(AGENT).request_increase("20", reason="the month's end")
    coordinator.approve_increase(asked.id, approver="bob", signature=people.sign(asked.id, "bob"))
    approvers = signing("alice", "carol") | {"bob": Approver(credentials=[credential("dora")])}
    approvals = current.approvals.model_copy(update={"approvers": approvers}).model_dump()
    people.put_in_force(Policy.from_dict(document | {"approvals": approvals}), "alice", "carol")

    def says_yes(name: str) -> Increase:
        signature = people.sign(asked.id, name)
        return coordinator.approve_increase(asked.id, approver=name, signature=signature)

    first = says_yes("alice")
    assert first.waits and first.approved_by == ("alice",)
    assert says_yes("carol").granted
    assert verify(world.wiring.audit).ok


def test_nobody_signs_a_no_to_terms_that_were_edited(people: People) -> None:
    world = people.world
    waiting = world.buy("60.00")
    approval, purchases = waiting.approval_id or "", schema.purchases
    with world.wiring.transactions.write() as tx:
        tx.connection.execute(
            update(purchases)
            .where(purchases.c.id == waiting.id)
            .values(provider=world.chain.stranger)
        )
    signature = people.sign(approval, "alice", reason="no")
    with pytest.raises(LedgerTampered, match="provider"):
        world.coordinator.reject(approval, approver="alice", reason="no", signature=signature)
    assert world.status(waiting) == "awaiting_approval"
