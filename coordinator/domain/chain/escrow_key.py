"""Compute a purchase's escrow key: deterministic, and impossible to guess without the secret."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256

from coordinator.domain.address import keccak256
from coordinator.domain.canonical import canonical_json


@dataclass(frozen=True, slots=True)
class EscrowKeys:
    """Makes escrow keys for one chain and kernel.

    HMAC-SHA256(id secret; chain, kernel, agent, idempotency key): others can't guess it, so a
    stranger can't take it first, and after a lost database the same purchase gets the same id,
    which the kernel accepts only once, for ever.
    """

    secret: bytes = field(repr=False)
    chain_id: int
    kernel_address: str

    def key(self, agent: str, idempotency_key: str) -> str:
        """Return the key as 0x and 64 hex digits."""
        message = canonical_json(
            ["escrow", self.chain_id, self.kernel_address.lower(), agent, idempotency_key]
        )
        return "0x" + hmac.digest(self.secret, message, "sha256").hex()


def audit_key(secret: bytes) -> bytes:
    """Return the key of the audit log's hash chain, derived from the id secret."""
    return hmac.new(secret, b"coordinator audit log", sha256).digest()


def secret_mark(secret: bytes) -> str:
    """Return a fingerprint that tells two id secrets apart without revealing either."""
    return hmac.new(secret, b"coordinator id secret", sha256).hexdigest()


@lru_cache(maxsize=1_000)
def service_hash(service: str | None) -> str:
    """Keccak-256 of the provider's service name, by which its client finds the purchase.

    32 zero bytes for no service; what any other hash means, a provider does not know.
    """
    return "0x" + (keccak256(service.encode()).hex() if service else "00" * 32)
