"""A Safe's transaction: the hash that owners sign, every kind of signature, and its creation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from eth_account.messages import encode_defunct, encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_typing import Hash32

from coordinator.chain.rpc.client import RpcRefusal
from coordinator.chain.safe.deploying import execute
from coordinator.chain.safe.multisend import InnerCall
from coordinator.chain.safe.safe_transactions import (
    APPROVE_HASH,
    OwnerSignature,
    SafeTransaction,
    joined,
    together,
)
from coordinator.chain.safe.sending import Sender
from coordinator.chain.safe.signatures import Signature
from coordinator.domain.address import ZERO_ADDRESS, keccak256
from coordinator.domain.signatures.faults import BadSignature
from coordinator.domain.signatures.safe_signatures import safe_message_digest
from coordinator.domain.usdc import Usdc
from tests.integration.treasuries import SafeTreasury, owners

HASH: Final = Signature(
    "getTransactionHash(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,uint256)"
)


def prepared(treasury: SafeTreasury) -> tuple[SafeTransaction, bytes]:
    """An approval of one unit, so that its success can be seen, and its hash."""
    transaction = together([treasury.approve("0.000001")], nonce=treasury.nonce)
    return transaction, transaction.digest(chain_id=treasury.chain_id, safe=treasury.address)


def test_the_hash_is_the_contracts_own_and_that_of_the_typed_data(treasury: SafeTreasury) -> None:
    made, digest = prepared(treasury)
    fields = (made.to, 0, made.data, made.operation, 0, 0, 0, ZERO_ADDRESS, ZERO_ADDRESS)
    asked = {"to": treasury.address, "data": "0x" + HASH.call(*fields, made.nonce).hex()}

    assert treasury.chain.rpc.call("eth_call", asked, "latest") == "0x" + digest.hex()
    typed = made.typed_data(chain_id=treasury.chain_id, safe=treasury.address)
    signable = encode_typed_data(full_message=typed)
    assert keccak256(b"\x19\x01" + signable.header + signable.body) == digest


def by_key(t: SafeTreasury, owner: LocalAccount, digest: bytes) -> OwnerSignature:
    return OwnerSignature.by_key(digest, bytes(owner.unsafe_sign_hash(Hash32(digest)).signature))


def by_personal_message(t: SafeTreasury, owner: LocalAccount, digest: bytes) -> OwnerSignature:
    made = bytes(owner.sign_message(encode_defunct(digest)).signature)
    return OwnerSignature.by_key(digest, made[:64] + bytes([made[64] + 4]))


def by_approval_on_chain(t: SafeTreasury, owner: LocalAccount, digest: bytes) -> OwnerSignature:
    t.chain.fund(owner.address, usdc="0", wei=10**18)
    with t.chain.as_account(owner.address):
        t.chain.act(owner.address, t.address, "0x" + APPROVE_HASH.call(digest).hex())
    return OwnerSignature.approved(owner.address)


Signing = Callable[[SafeTreasury, LocalAccount, bytes], OwnerSignature]
KINDS: Final[dict[str, Signing]] = {
    "EIP-712": by_key,
    "eth_sign": by_personal_message,
    "approveHash": by_approval_on_chain,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["in order", "the other way"])
def test_owners_sign_in_every_way_a_safe_takes(
    treasury: SafeTreasury, kind: str, order: tuple[int, int]
) -> None:
    made, digest = prepared(treasury)
    first, second = (owners()[number] for number in order)

    signed = [by_key(treasury, first, digest), KINDS[kind](treasury, second, digest)]
    executed(treasury, made, joined(signed))

    assert treasury.chain.allowance(treasury.address) == Usdc("0.000001")


def executed(treasury: SafeTreasury, made: SafeTransaction, signatures: bytes) -> None:
    sender = Sender(treasury.chain.rpc, treasury.chain.admin)
    execute(sender, treasury.address, made, signatures, "an approval")


def test_an_owner_may_be_a_safe_itself(
    treasury: SafeTreasury, make_treasury: Callable[..., SafeTreasury]
) -> None:
    alone = owners()[0]
    parent = make_treasury(owners=(treasury.address, alone.address), threshold=1)
    both = Signature("changeThreshold(uint256)").call(2)
    parent.owners_do(InnerCall(parent.address, both))
    made = together([parent.approve("0.000001")], nonce=parent.nonce)
    message = made.signed_bytes(chain_id=parent.chain_id, safe=parent.address)
    digest = keccak256(message)
    inner = safe_message_digest(message, chain_id=parent.chain_id, safe=treasury.address)
    parts = [by_key(treasury, owner, inner) for owner in owners()[1:]]

    signed = [OwnerSignature.by_contract(treasury.address, joined(parts))]
    executed(parent, made, joined([*signed, by_key(parent, alone, digest)]))

    assert parent.chain.allowance(parent.address) == Usdc("0.000001")


def test_an_owner_twice_and_a_signature_of_nobody_are_refused(treasury: SafeTreasury) -> None:
    _, digest = prepared(treasury)
    once = by_key(treasury, owners()[0], digest)
    with pytest.raises(ValueError, match="twice"):
        joined([once, once])
    with pytest.raises(BadSignature):
        OwnerSignature.by_key(digest, bytes(65))
    with pytest.raises(BadSignature):
        OwnerSignature.by_key(digest, once.part[:-1])


@pytest.mark.parametrize("nonce", [-1, 1], ids=["used", "ahead"])
def test_what_was_signed_for_another_nonce_is_refused(treasury: SafeTreasury, nonce: int) -> None:
    made = together([treasury.approve("1")], nonce=treasury.nonce + nonce)
    digest = made.digest(chain_id=treasury.chain_id, safe=treasury.address)
    signed = joined([by_key(treasury, owner, digest) for owner in owners()[:2]])
    asked = {"to": treasury.address, "data": "0x" + made.call(signed).hex()}

    (answer,) = treasury.chain.rpc.batch([("eth_call", [asked, "latest"])])

    assert isinstance(answer, RpcRefusal) and "GS026" in answer.message


def test_owners_buy_above_the_roles_maximum_in_one_transaction(treasury: SafeTreasury) -> None:
    escrow_id, calls = treasury.create_and_link("700")
    refusal = treasury.refusal_together([treasury.approve("240"), *calls])
    assert refusal is not None and refusal.name == "ParameterGreaterThanAllowed"

    treasury.owners_do(treasury.approve("700"), *calls)

    assert treasury.chain.state(escrow_id).value == "funded"
    assert treasury.chain.allowance(treasury.address) == Usdc("0")
