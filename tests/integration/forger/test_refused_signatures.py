"""Each signature that does not count is refused when it is given, by its name and the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from eth_account import Account

from coordinator.domain.policy.approvals import Approver
from coordinator.domain.policy.credentials import Credential, CredentialKind
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.purchase import Answer
from coordinator.domain.reasons import ReasonCode
from coordinator.domain.statements.signed import GivenSignature
from tests.integration.safes import (
    SafeWallet,
    deploy_safe,
    in_order,
    owner_accounts,
    with_high_s,
)
from tests.integration.signers_of_approvers import KEYS, People, credential, key_of, signing
from tests.integration.stores import on_either
from tests.integration.world import World

pytestmark = on_either


@dataclass(frozen=True)
class Asked:
    """A purchase that waits for two of alice, bob and carol."""

    people: People
    id: str

    def give(self, signature: str, *, approver: str = "alice", **given: Any) -> Answer:
        return self.people.world.coordinator.approve(
            self.id, approver=approver, signature=GivenSignature(signature=signature, **given)
        )

    def sign(self, name: str = "alice", **changed: Any) -> tuple[str, dict[str, Any]]:
        """The signature of the statement with what is changed, and the statement."""
        asked = self.people.world.coordinator.statement(self.id)
        trust = {k: changed.pop(k) for k in ("chain_id", "treasury") if k in changed}
        statement = replace(asked.statement, **changed)
        message = statement.message(replace(asked.trust, **trust))
        return key_of(name).sign_typed(message), statement.as_dict()

    def give_changed(self, **changed: Any) -> Answer:
        signature, statement = self.sign(**changed)
        return self.give(signature, statement=statement)


def rules(world: World, **approvers: Approver) -> Policy:
    asked = world.policy.approvals.model_copy(
        update={"required": 2, "signatures": "required", "approvers": approvers}
    )
    return Policy.from_dict(world.policy.model_copy(update={"approvals": asked}).document())


@pytest.fixture
def asked(world: World) -> Asked:
    world.apply(rules(world, **signing("alice", "bob", "carol")))
    world.round()
    return Asked(People(world), world.buy("60.00").approval_id or "")


def of_another_purchase(asked: Asked) -> Answer:
    other = asked.people.world.buy("60.00")
    return asked.give(Asked(asked.people, other.approval_id or "").sign()[0])


def expired(asked: Asked) -> Answer:
    signature, _ = asked.sign()
    asked.people.world.pass_time(86_401)
    return asked.give(signature)


def of_a_removed_approver(asked: Asked) -> Answer:
    world, signature = asked.people.world, asked.sign()[0]
    asked.people.put_in_force(rules(world, **signing("bob", "carol")), "bob", "carol")
    return asked.give(signature)


def after_who_decides_changed(asked: Asked) -> Answer:
    world, signature = asked.people.world, asked.sign()[0]
    four = rules(world, **signing("alice", "bob", "carol", "dora"))
    asked.people.put_in_force(four, "bob", "carol")
    return asked.give(signature)


def high_s(asked: Asked) -> Answer:
    made = with_high_s(bytes.fromhex(asked.sign()[0][2:]))
    return asked.give("0x" + made.hex())


REFUSED: dict[str, tuple[Callable[[Asked], Answer], ReasonCode, str]] = {
    "of another purchase": (of_another_purchase, ReasonCode.SIGNATURE_INVALID, "other_signer"),
    "of another chain": (
        lambda a: a.give_changed(chain_id=8453),
        ReasonCode.SIGNATURE_INVALID,
        "other_signer",
    ),
    "of another treasury": (
        lambda a: a.give_changed(treasury=credential("dora").address),
        ReasonCode.SIGNATURE_INVALID,
        "other_signer",
    ),
    "of another amount": (
        lambda a: a.give_changed(amount=61_000_000),
        ReasonCode.SIGNATURE_INVALID,
        "other_statement: another statement was signed: its amount is 61000000, not 60000000",
    ),
    "of another time": (
        lambda a: a.give_changed(expires_at=2_000_000_000),
        ReasonCode.SIGNATURE_INVALID,
        "other_statement: another statement was signed: it was valid until",
    ),
    "of a refusal": (
        lambda a: a.give_changed(decision="rejected"),
        ReasonCode.SIGNATURE_INVALID,
        "other_statement: another statement was signed: its decision is 'rejected'",
    ),
    "after who decides changed": (
        after_who_decides_changed,
        ReasonCode.SIGNATURE_INVALID,
        "other_signer",
    ),
    "of a removed approver": (
        of_a_removed_approver,
        ReasonCode.NOT_AN_APPROVER,
        "alice may not decide this",
    ),
    "of somebody else": (
        lambda a: a.give(a.sign("bob")[0]),
        ReasonCode.SIGNATURE_INVALID,
        "other_signer",
    ),
    "with a credential of nobody": (
        lambda a: a.give(a.sign("dora")[0], credential=str(credential("dora"))),
        ReasonCode.SIGNATURE_INVALID,
        "not_a_credential",
    ),
    "expired": (expired, ReasonCode.APPROVAL_EXPIRED, "this request expired at"),
    "high s": (high_s, ReasonCode.SIGNATURE_INVALID, "high_s"),
    "malformed": (lambda a: a.give("0x1234"), ReasonCode.SIGNATURE_INVALID, "malformed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_signature_that_does_not_count_is_named(asked: Asked, name: str) -> None:
    give, code, told = REFUSED[name]
    answer = give(asked)
    assert not answer.done and answer.reason is not None
    assert (answer.reason.code, answer.reason.message[: len(told)]) == (code, told)


def safe_approver(safe: SafeWallet) -> Approver:
    return Approver(credentials=[Credential(CredentialKind.SAFE, safe.address)])


def by_safe(asked: Asked, name: str, safe: SafeWallet) -> Answer:
    digest = asked.people.world.coordinator.statement(asked.id).message.digest
    made = safe.sign(digest, in_order(safe.owners)[: safe.threshold])
    return asked.give("0x" + made.hex(), approver=name)


def test_safes_that_share_an_owner_are_one_approver(world: World) -> None:
    first, second, third, fourth, fifth = owner_accounts(5)
    board = deploy_safe(world.chain, [first, second], 1)
    sharing = deploy_safe(world.chain, [first, third], 1, salt=1)
    apart = deploy_safe(world.chain, [fourth, fifth], 2, salt=2)
    safes = {"board": board, "sharing": sharing, "apart": apart}
    world.apply(rules(world, **{name: safe_approver(safe) for name, safe in safes.items()}))
    world.round()
    waiting = world.buy("60.00")
    asked = Asked(People(world), waiting.approval_id or "")
    assert by_safe(asked, "board", board).done
    answer = by_safe(asked, "sharing", sharing)
    assert not answer.done and answer.reason is not None
    assert answer.reason.code is ReasonCode.SIGNATURE_INVALID
    assert f"shared_key: {first.address} signs for board, too" in answer.reason.message
    assert by_safe(asked, "apart", apart).done
    world.go()
    assert world.status(waiting) == "funded"


def test_an_owner_of_a_safe_is_no_second_approver(world: World) -> None:
    """The key of alice owns the Safe alone: no one person is two."""
    safe = deploy_safe(world.chain, [Account.from_key(KEYS["alice"])], 1)
    world.apply(rules(world, **signing("alice"), board=safe_approver(safe)))
    world.round()
    asked = Asked(People(world), world.buy("60.00").approval_id or "")
    assert asked.give(asked.sign()[0]).done
    answer = by_safe(asked, "board", safe)
    assert not answer.done and answer.reason is not None
    assert answer.reason.message.startswith("shared_key: ")
