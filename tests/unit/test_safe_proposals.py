"""The file that goes from owner to owner of a Safe: what was changed in it is refused."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account

from coordinator.chain.safe.multisend import InnerCall
from coordinator.chain.safe.proposals import Proposal
from coordinator.domain.errors import InvalidRequest

OWNER = Account.from_key(bytes([0xA1]) * 32)
PROPOSAL = Proposal(
    chain_id=84532,
    safe="0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    nonce=1,
    calls=(InnerCall("0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359", b"\x01\x02", "a call"),),
)


def signature(digest: bytes) -> str:
    return "0x" + bytes(OWNER.unsafe_sign_hash(digest).signature).hex()


def test_a_file_reads_back_with_its_signatures() -> None:
    signed = PROPOSAL.signed_with(signature(PROPOSAL.digest))
    again = Proposal.of_document(signed.document())
    assert [*again.signatures] == [OWNER.address]
    assert again.digest == PROPOSAL.digest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nonce": 7}, "it was changed"),
        ({"chain_id": 1}, "it was changed"),
        ({"safe": "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"}, "it was changed"),
        ({"calls": []}, "the file must have 1 to 200 calls"),
        ({"signatures": [{"signature": "0x00"}]}, "a signature is not one of this transaction"),
        ({"signatures": ["0x00"]}, "the file is no transaction of a treasury's owners"),
        ({"nonce": "1"}, "the file is no transaction of a treasury's owners"),
        ({"calls": [{"to": "x", "data": "0x"}]}, "the file is no transaction"),
    ],
)
def test_a_file_that_was_changed_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        Proposal.of_document(PROPOSAL.document() | change)


@pytest.mark.parametrize("document", [None, [], "text", {}, {"calls": 1}])
def test_another_file_is_told_to_be_none(document: Any) -> None:
    with pytest.raises(InvalidRequest, match="the file is no transaction"):
        Proposal.of_document(document)


def test_a_signature_of_another_transaction_is_somebody_else_s() -> None:
    signed = PROPOSAL.signed_with(signature(b"\x01" * 32))
    assert OWNER.address not in signed.signatures


@pytest.mark.parametrize("given", ["", "0x", "0x00", "zz", "0x" + "11" * 130, "0x" + "00" * 65])
def test_what_is_no_signature_is_told(given: str) -> None:
    with pytest.raises(
        InvalidRequest, match=r"a signature is not one of this transaction: .+"
    ) as told:
        PROPOSAL.signed_with(given)
    assert "index" not in str(told.value)
