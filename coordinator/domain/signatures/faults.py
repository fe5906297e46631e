"""Why a signature does not count."""

from __future__ import annotations

from enum import StrEnum


class SignatureFault(StrEnum):
    """The kinds of signatures that do not count; the reason beside it is for people."""

    MALFORMED = "malformed"
    NOT_A_CREDENTIAL = "not_a_credential"
    OTHER_SIGNER = "other_signer"
    OTHER_STATEMENT = "other_statement"
    HIGH_S = "high_s"
    NOT_AN_OWNER = "not_an_owner"
    NOT_IN_ORDER = "not_in_order"
    TOO_FEW_OWNERS = "too_few_owners"
    CONTRACT_SIGNATURE = "contract_signature"
    APPROVED_HASH = "approved_hash"
    NOT_VALID_ON_CHAIN = "not_valid_on_chain"
    SHARED_KEY = "shared_key"


class BadSignature(ValueError):
    """A signature that does not count, with its reason in one sentence."""

    def __init__(self, reason: str, *, code: SignatureFault) -> None:
        super().__init__(reason)
        self.code = code
