"""Signatures of digests, each verified once in a process."""

from __future__ import annotations

from typing import Final

from coordinator.ledger.audit.host_key import HostKey, is_signed

# A decision proves the same few rows again and again, and a worker those that it wrote itself.
_KNOWN_MAX: Final = 8_192


class Signatures:
    """Makes and checks signatures of digests for one ``purpose``, which is signed with them.

    Verifying one takes three times as long as making it: the last thousands are remembered, with
    those that were made here.
    """

    def __init__(self, purpose: bytes) -> None:
        self._purpose = purpose
        self._known: dict[str, tuple[str, str]] = {}

    def make(self, key: HostKey, digest: str) -> str:
        """Return the signature in hex."""
        signature = key.sign(self._purpose + digest.encode())
        self._remember(signature, (key.public_key, digest))
        return signature

    def proves(self, public_key: str, signature: str, digest: str) -> bool:
        """Return whether the key's owner signed the digest."""
        if self._known.get(signature) == (public_key, digest):
            return True
        if not is_signed(public_key, signature, self._purpose + digest.encode()):
            return False
        self._remember(signature, (public_key, digest))
        return True

    def _remember(self, signature: str, of: tuple[str, str]) -> None:
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known[signature] = of
