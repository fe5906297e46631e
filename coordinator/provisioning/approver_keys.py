"""Open an approver's key to sign decisions with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from coordinator.chain.signers.opening import load_signer
from coordinator.chain.signers.signers import Signer
from coordinator.domain.errors import ConfigurationError


def open_approver_signer(
    text: str, secrets: Mapping[str, str], password: Callable[[], str], *, setting: str
) -> Signer:
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
