"""Recovery of a policy whose approvers have lost their credentials, by the treasury's own key.

It takes 72 hours, in which people are told and any approver who is left can reject it.
"""

from __future__ import annotations

from typing import Final

from coordinator.domain.signatures.ecdsa import recover_address
from coordinator.domain.signatures.faults import BadSignature
from coordinator.domain.typed_data import Trust, TypedData

RECOVERY_SECONDS: Final = 72 * 3600
_FIELDS: Final = (
    ("treasury", "address"),
    ("id", "string"),
    ("policy", "bytes32"),
    ("replaces", "bytes32"),
    ("begunAt", "uint256"),
)


def recovery_message(
    trust: Trust, *, id_: str, policy: str, replaces: str, begun_at: int
) -> TypedData:
    """Return what the treasury's key signs; the policies by their hashes in hex.

    ``id_`` is the proposal's: a recovery that was rejected can't be begun again by others.
    """
    values = (trust.treasury, id_, bytes.fromhex(policy), bytes.fromhex(replaces), begun_at)
    return TypedData(trust, "PolicyRecovery", _FIELDS, values)


def recovery_refused(
    trust: Trust, *, id_: str, policy: str, replaces: str, begun_at: int, signature: str
) -> str | None:
    """Say why it is no recovery; None when the treasury's key has signed it."""
    message = recovery_message(trust, id_=id_, policy=policy, replaces=replaces, begun_at=begun_at)
    try:
        signer = recover_address(message.digest, signature)
    except BadSignature as fault:
        return str(fault)
    return None if signer == trust.signer else "the treasury's key has not signed it"
