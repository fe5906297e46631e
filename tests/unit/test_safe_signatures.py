"""Signatures of accounts and of a Safe's owners, proved without a chain."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
from coincurve import PrivateKey
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data

from coordinator.domain.signatures.ecdsa import LOW_S_MAX, recover_address
from coordinator.domain.signatures.faults import BadSignature, SignatureFault
from coordinator.domain.signatures.safe_signatures import (
    SafeState,
    safe_message_digest,
    signers_of,
)

CHAIN: Final = 84532
SAFE: Final = "0x4e59b44847b379578588920cA78FbF26c0B4956C"
OTHER_SAFE: Final = "0x914d7Fec6aaC8cd542e72Bca78B30650d45643d7"
DIGEST: Final = bytes(range(32))
_ORDER: Final = 2 * LOW_S_MAX + 1


def address(key: bytes) -> str:
    return str(Account.from_key(key).address)


KEYS: Final = sorted((bytes([n]) * 32 for n in range(1, 6)), key=lambda k: int(address(k), 16))
A, B, C, D, E = KEYS


def part(key: bytes, message: bytes) -> bytes:
    raw = PrivateKey(key).sign_recoverable(message, hasher=None)
    return raw[:64] + bytes([raw[64] + 27])


def personal(key: bytes, message: bytes) -> bytes:
    signed = Account.sign_message(encode_defunct(message), key).signature
    return bytes(signed[:64]) + bytes([signed[64] + 4])


def with_high_s(made: bytes) -> bytes:
    """The same account's signature of the same message, made by anybody from the low one."""
    s = _ORDER - int.from_bytes(made[32:64], "big")
    return made[:32] + s.to_bytes(32, "big") + bytes([made[64] ^ 7])


def state(keys: Sequence[bytes] = (C, A, B), threshold: int = 2, **changed: Any) -> SafeState:
    fields: dict[str, Any] = {
        "address": SAFE,
        "owners": tuple(address(key) for key in keys),
        "threshold": threshold,
        "block_number": 17,
        "block_hash": "0x" + "ab" * 32,
        "version": "1.4.1",
    }
    return SafeState(**{**fields, **changed})


def message(safe: str = SAFE, chain_id: int = CHAIN, digest: bytes = DIGEST) -> bytes:
    return safe_message_digest(digest, chain_id=chain_id, safe=safe)


def signed(*keys: bytes, of: bytes | None = None) -> bytes:
    return b"".join(part(key, message() if of is None else of) for key in keys)


def proved(signature: bytes, of: SafeState | None = None) -> tuple[str, ...]:
    return signers_of(DIGEST, signature, chain_id=CHAIN, state=of or state())


def test_what_owners_sign_is_the_safes_own_typed_message() -> None:
    document = {
        "types": {
            "EIP712Domain": [
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            "SafeMessage": [{"name": "message", "type": "bytes"}],
        },
        "primaryType": "SafeMessage",
        "domain": {"chainId": CHAIN, "verifyingContract": SAFE},
        "message": {"message": DIGEST},
    }
    signature = Account.sign_message(encode_typed_data(full_message=document), A).signature
    assert part(A, message()) == bytes(signature)


def test_owners_who_signed_are_named() -> None:
    assert proved(signed(A, B)) == (address(A), address(B))
    assert proved(signed(A, B, C)) == (address(A), address(B), address(C))
    assert proved(personal(A, message()) + signed(C)) == (address(A), address(C))


def contract_signature(owner: bytes) -> bytes:
    """An owner's part that points at bytes which a contract would judge."""
    static = bytes.fromhex(address(owner)[2:]).rjust(32, b"\0") + (130).to_bytes(32, "big") + b"\0"
    return signed(A) + static + (65).to_bytes(32, "big") + signed(owner)


def approved_hash(owner: bytes) -> bytes:
    return bytes.fromhex(address(owner)[2:]).rjust(32, b"\0") + bytes(32) + b"\1"


F = SignatureFault
REFUSED: Final[dict[str, tuple[Callable[[], bytes], SignatureFault]]] = {
    "one owner short": (lambda: signed(A), F.TOO_FEW_OWNERS),
    "no owner": (lambda: signed(A, D), F.NOT_AN_OWNER),
    "an owner twice": (lambda: signed(A, A), F.NOT_IN_ORDER),
    "owners in another order": (lambda: signed(B, A), F.NOT_IN_ORDER),
    "for another Safe that shares the owners": (
        lambda: signed(A, B, of=message(safe=OTHER_SAFE)),
        F.NOT_AN_OWNER,
    ),
    "for another chain": (lambda: signed(A, B, of=message(chain_id=8453)), F.NOT_AN_OWNER),
    "of another statement": (lambda: signed(A, B, of=message(digest=bytes(32))), F.NOT_AN_OWNER),
    "the statement's own digest": (lambda: signed(A, B, of=DIGEST), F.NOT_AN_OWNER),
    "high s": (lambda: signed(A) + with_high_s(signed(B)), F.HIGH_S),
    "high s in a personal message": (
        lambda: with_high_s(personal(A, message())[:64] + b"\x1b")[:64] + b"\x1f" + signed(B),
        F.HIGH_S,
    ),
    "a contract's signature": (lambda: contract_signature(B), F.CONTRACT_SIGNATURE),
    "an approved hash": (lambda: approved_hash(A) + signed(B), F.APPROVED_HASH),
    "nothing": (lambda: b"", F.MALFORMED),
    "less than a part": (lambda: signed(A)[:-1], F.MALFORMED),
    "bytes behind the last part": (lambda: signed(A, B) + b"\0", F.MALFORMED),
    "another v": (lambda: signed(A) + signed(B)[:64] + b"\x1d", F.MALFORMED),
    "r of nothing": (lambda: signed(A) + bytes(32) + signed(B)[32:], F.MALFORMED),
    "s of nothing": (lambda: signed(A) + signed(B)[:32] + bytes(32) + b"\x1b", F.MALFORMED),
    "s beyond the curve": (lambda: signed(A)[:32] + b"\xff" * 32 + b"\x1b", F.MALFORMED),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_safe_did_not_sign_is_refused_by_name(name: str) -> None:
    make, code = REFUSED[name]
    with pytest.raises(BadSignature) as refused:
        proved(make())
    assert refused.value.code is code
    assert "\n" not in str(refused.value)


def test_owners_count_as_recorded_whoever_they_are_by_now() -> None:
    before, after = state(keys=(A, B, C)), state(keys=(A, C, D), block_number=18)
    assert proved(signed(A, B), before) == (address(A), address(B))
    with pytest.raises(BadSignature) as refused:
        proved(signed(A, B), after)
    assert refused.value.code is F.NOT_AN_OWNER


def test_a_record_survives_json() -> None:
    there = json.loads(json.dumps(state().as_dict()))
    assert SafeState.from_dict(there) == state()


BROKEN: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "no object": lambda r: [],
    "a field less": lambda r: {k: v for k, v in r.items() if k != "version"},
    "a field more": lambda r: {**r, "guard": None},
    "owners as text": lambda r: {**r, "owners": r["owners"][0]},
    "an owner that is no text": lambda r: {**r, "owners": [7]},
    "an owner that is no address": lambda r: {**r, "owners": ["0x1"]},
    "an owner without checksum": lambda r: {**r, "owners": [o.lower() for o in r["owners"]]},
    "an owner twice": lambda r: {**r, "owners": [r["owners"][0]] * 3},
    "its own owner": lambda r: {**r, "owners": [SAFE, *r["owners"]]},
    "no owners": lambda r: {**r, "owners": []},
    "a threshold of nobody": lambda r: {**r, "threshold": 0},
    "a threshold above the owners": lambda r: {**r, "threshold": 4},
    "a threshold that is no number": lambda r: {**r, "threshold": True},
    "a block before the first": lambda r: {**r, "block_number": -1},
    "no hash": lambda r: {**r, "block_hash": "0x12"},
    "a hash that is no text": lambda r: {**r, "block_hash": None},
    "a version that signs for all chains": lambda r: {**r, "version": "1.2.0"},
    "a version that is none": lambda r: {**r, "version": "latest"},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_record_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        SafeState.from_dict(BROKEN[name](state().as_dict()))
    assert not isinstance(refused.value, BadSignature)


def test_an_account_is_recovered_from_its_signature() -> None:
    assert recover_address(DIGEST, "0x" + part(A, DIGEST).hex()) == address(A)
    assert recover_address(DIGEST, "0x" + part(A, DIGEST).hex().upper()) == address(A)
    assert recover_address(bytes(32), "0x" + part(A, DIGEST).hex()) != address(A)


GOOD: Final = part(A, DIGEST).hex()
NO_SIGNATURE: Final[dict[str, tuple[Any, SignatureFault]]] = {
    "high s": ("0x" + with_high_s(bytes.fromhex(GOOD)).hex(), F.HIGH_S),
    "no 0x": (GOOD, F.MALFORMED),
    "short": ("0x" + GOOD[:-2], F.MALFORMED),
    "long": ("0x" + GOOD + "00", F.MALFORMED),
    "compact": ("0x" + GOOD[:128], F.MALFORMED),
    "a line behind it": ("0x" + GOOD + "\n", F.MALFORMED),
    "other digits": ("0x" + "٣" * 130, F.MALFORMED),
    "v of 0": ("0x" + GOOD[:128] + "00", F.MALFORMED),
    "v of eth_sign in a Safe": ("0x" + GOOD[:128] + "1f", F.MALFORMED),
    "no point": ("0x" + "00" * 64 + "1b", F.MALFORMED),
    "beyond the curve": ("0x" + "ff" * 64 + "1b", F.MALFORMED),
    "nothing": ("", F.MALFORMED),
    "no text": (None, F.MALFORMED),
}


@pytest.mark.parametrize("name", NO_SIGNATURE)
def test_what_is_no_signature_is_refused_by_name(name: str) -> None:
    signature, code = NO_SIGNATURE[name]
    with pytest.raises(BadSignature) as refused:
        recover_address(DIGEST, signature)
    assert refused.value.code is code
