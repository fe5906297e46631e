"""A Safe approves: its owners sign, and the worker asks the chain again before it signs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from coordinator.domain.policy.approvals import Approver
from coordinator.domain.policy.credentials import Credential, CredentialKind
from coordinator.domain.reasons import ReasonCode
from coordinator.domain.statements.signed import GivenSignature
from tests.integration.safes import SafeWallet, deploy_safe, in_order, owner_accounts
from tests.integration.signers_of_approvers import People, signing
from tests.integration.stores import on_either
from tests.integration.world import World

pytestmark = on_either


@dataclass(frozen=True)
class Board:
    """A treasury whose only approver is a Safe of two of three owners."""

    world: World
    safe: SafeWallet

    def approve(self, approval_id: str, safe: SafeWallet | None = None) -> Any:
        signing_safe = safe or self.safe
        digest = self.world.coordinator.statement(approval_id).message.digest
        made = signing_safe.sign(digest, in_order(signing_safe.owners)[:2])
        return self.world.coordinator.approve(
            approval_id, approver="board", signature=GivenSignature(signature="0x" + made.hex())
        )


@pytest.fixture
def board(world: World) -> Board:
    safe = deploy_safe(world.chain, owner_accounts(3), 2)
    approver = Approver(credentials=[Credential(CredentialKind.SAFE, safe.address)])
    asked = world.policy.approvals.model_copy(
        update={"signatures": "required", "approvers": {"board": approver}}
    )
    world.apply(world.policy.model_copy(update={"approvals": asked}))
    world.round()
    return Board(world, safe)


def test_what_a_safe_signed_is_paid(board: Board) -> None:
    waiting = board.world.buy("60.00")
    answer = board.approve(waiting.approval_id or "")
    assert answer.done, answer.reason
    board.world.go()
    assert board.world.status(waiting) == "funded"


def test_a_safe_whose_owners_changed_before_it_was_signed(board: Board) -> None:
    world = board.world
    waiting = world.buy("60.00")
    assert board.approve(waiting.approval_id or "").done
    board.safe.swap_owner(board.safe.owners[0], owner_accounts(5)[4])
    world.go()
    again = world.get(waiting)
    assert again.needs_approval
    assert "does not say at the newest block that it signed it" in (again.reason.message)
    assert board.approve(waiting.approval_id or "").done
    world.go()
    assert world.status(waiting) == "funded"


def test_another_safe_of_the_same_owners_signs_for_nobody(board: Board) -> None:
    waiting = board.world.buy("60.00")
    twin = deploy_safe(board.world.chain, board.safe.owners, 2, salt=7)
    answer = board.approve(waiting.approval_id or "", twin)
    assert not answer.done and answer.reason.code is ReasonCode.SIGNATURE_INVALID
    assert "not_valid_on_chain" in answer.reason.message


def test_a_safe_beside_a_key_of_the_same_person(world: World) -> None:
    safe = deploy_safe(world.chain, owner_accounts(3), 1)
    alice = signing("alice")["alice"]
    both = alice.model_copy(
        update={"credentials": [*alice.credentials, Credential(CredentialKind.SAFE, safe.address)]}
    )
    asked = world.policy.approvals.model_copy(
        update={"signatures": "required", "approvers": {"alice": both}}
    )
    world.apply(world.policy.model_copy(update={"approvals": asked}))
    world.round()
    first, second = world.buy("60.00"), world.buy("70.00")
    assert People(world).approve(first.approval_id or "", "alice").done
    digest = world.coordinator.statement(second.approval_id or "").message.digest
    made = "0x" + safe.sign(digest, safe.owners[:1]).hex()
    given = GivenSignature(signature=made)
    assert world.coordinator.approve(
        second.approval_id or "", approver="alice", signature=given
    ).done
    world.go()
    assert [world.status(one) for one in (first, second)] == ["funded", "funded"]
