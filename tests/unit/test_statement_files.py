"""What is signed elsewhere comes back: files of statements, and the owners of a Safe."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from coordinator.domain.signatures.faults import BadSignature
from coordinator.domain.signatures.safe_signatures import (
    join_owners,
    safe_message,
    safe_message_digest,
)
from coordinator.domain.statements.signed import SigningRequest
from coordinator.domain.statements.statement import Action, Statement
from coordinator.domain.typed_data import Trust

ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
TRUST = Trust(ADDRESS, 84532, "0x70997970C51812dc3A010C7d01b50e0d17dc79C8")
STATEMENT = Statement(
    id="apr_1",
    action=Action.PURCHASE,
    decision="approved",
    expires_at=1_800_000_000,
    rules="ab" * 32,
    agent="ada",
    account=ADDRESS,
    amount=75_000_000,
    service="papers",
    terms="escrow: deadline 86400 s after it is created",
)
DOCUMENT = STATEMENT.message(TRUST).document()


@pytest.mark.parametrize(
    "file",
    [DOCUMENT, SigningRequest(STATEMENT, TRUST).as_dict(), STATEMENT.as_dict()],
    ids=["typed data", "answer of the service", "statement"],
)
def test_a_statement_is_read_from_what_was_signed(file: Any) -> None:
    assert Statement.from_document(json.loads(json.dumps(file)), TRUST) == STATEMENT


@pytest.mark.parametrize(
    "trust",
    [
        replace(TRUST, chain_id=1),
        replace(TRUST, treasury=TRUST.kernel),
        replace(TRUST, kernel="0x"),
    ],
)
def test_a_statement_for_another_treasury_is_refused(trust: Trust) -> None:
    with pytest.raises(ValueError, match="another treasury, chain or contract"):
        Statement.from_document(DOCUMENT, trust)


@pytest.mark.parametrize(
    "file",
    [None, [], {}, "apr_1", {"message": 1}, {"message": {}}, {"typed_data": []}]
    + [{**DOCUMENT, "message": {**DOCUMENT["message"], "amount": wrong}} for wrong in ("75", -1)],
)
def test_a_file_of_something_else_is_refused(file: Any) -> None:
    with pytest.raises(ValueError, match="not one that this program makes"):
        Statement.from_document(file, TRUST)


def test_what_changed_is_told_in_words() -> None:
    other = replace(STATEMENT, rules="cd" * 32, expires_at=1_800_000_060)
    expiry, rules = STATEMENT.differences(other)
    assert "valid until 2027-01-15T08:00:00Z" in expiry
    assert "rules on it have changed" in rules and "abab" not in rules


def test_owners_sign_the_typed_data_that_has_the_safes_hash() -> None:
    digest = STATEMENT.message(TRUST).digest
    shown = safe_message(digest, chain_id=84532, safe=ADDRESS)
    signable: Any = encode_typed_data(full_message=shown)
    owner = Account.from_key(b"\x11" * 32)
    signed = owner.sign_message(signable)
    message = safe_message_digest(digest, chain_id=84532, safe=ADDRESS)
    assert bytes(signed.message_hash) == message


def test_owners_signatures_are_joined_in_the_order_of_addresses() -> None:
    digest = STATEMENT.message(TRUST).digest
    message = safe_message_digest(digest, chain_id=84532, safe=ADDRESS)
    owners = [Account.from_key(bytes([number]) * 32) for number in (1, 2, 3)]
    parts = {o.address: "0x" + bytes(o.unsafe_sign_hash(message).signature).hex() for o in owners}
    wanted = [parts[address] for address in sorted(parts, key=lambda a: int(a, 16))]
    for given in (wanted, wanted[::-1]):
        joined = join_owners(digest, given, chain_id=84532, safe=ADDRESS)
        assert joined == "0x" + "".join(part[2:] for part in wanted)


@pytest.mark.parametrize("part", ["0x", "0x" + "11" * 64, "0xzz", "0x" + "00" * 65])
def test_a_part_that_is_no_signature_is_named(part: str) -> None:
    with pytest.raises(BadSignature):
        join_owners(bytes(32), [part], chain_id=1, safe=ADDRESS)
