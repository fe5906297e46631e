"""Credentials of approvers: by kind, so that kinds can be added."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from coordinator.domain.address import checksummed


class CredentialKind(StrEnum):
    """The kinds of a credential.

    address: an account's key, in a keystore or hardware · safe: a Safe, whose owners sign.
    """

    ADDRESS = "address"
    SAFE = "safe"


@dataclass(frozen=True, slots=True)
class Credential:
    """A means to sign statements; ``address`` has its EIP-55 checksum."""

    kind: CredentialKind
    address: str

    @classmethod
    def parse(cls, text: str) -> Credential:
        """Return the credential of ``address:0x…``; ValueError with one sentence."""
        kind, separator, value = text.partition(":")
        if not separator or kind not in list(CredentialKind):
            kinds = " or ".join(f"{kind}:0x…" for kind in CredentialKind)
            raise ValueError(f"{text[:60]!r} is not a credential: write {kinds}")
        return cls(CredentialKind(kind), checksummed(value))

    def __str__(self) -> str:
        return f"{self.kind}:{self.address}"
