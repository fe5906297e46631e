"""Open an approver's key to sign decisions with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from coordinator.chain.signers.opening import load_signer
from coordinator.domain.errors import ConfigurationError
from coordinator.domain.typed_data import TypedData


class TypedSigner(Protocol):
    """An account that signs EIP-712 messages."""

    address: str

    def sign_typed(self, message: TypedData) -> str:
        """Return the signature as 0x and 130 hex digits."""


def open_approver_signer(
    text: str, secrets: Mapping[str, str], password: Callable[[], str], *, setting: str
) -> TypedSigner:
    """Return the signer that ``setting`` gives in ``text``; ``password`` opens a keystore.

    The treasury's own password is never taken. ConfigurationError when it can't sign.
    """
    kind = text.partition(":")[0]
    if kind == "address":
        raise ConfigurationError("an approver's signer needs a key: keystore:NAME or a device's")
    if kind == "keystore":
        secrets = {"COORDINATOR_KEYSTORE_PASSWORD": password()}
    signer = load_signer(text, secrets, setting=setting)
    signer.open()
    return signer
