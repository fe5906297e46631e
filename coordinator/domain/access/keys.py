"""API keys: what is shown once, what is stored, and in whose name they speak."""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

from coordinator.domain.shown import Shown
from coordinator.domain.times import rfc3339

# Secret scanners find keys by this: `uec_`, 20 and 64 lower-case hex digits.
TOKEN: Final = re.compile(r"uec_([0-9a-f]{20})_([0-9a-f]{64})", re.ASCII)


class Role(StrEnum):
    """The role of a key: an agent's and an approver's speak for the one that they name."""

    AGENT = "agent"
    APPROVER = "approver"
    OPERATOR = "operator"
    AUDITOR = "auditor"


@dataclass(frozen=True, slots=True)
class ApiKey(Shown):
    """One API key without its secret; times are unix seconds.

    It counts from ``created_at`` until ``expires_at`` (exclusive; None: for ever) unless it was
    revoked. ``last_used_at`` is exact to half a minute.
    """

    id: str
    role: Role
    name: str
    created_by: str
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    revoked_by: str | None = None
    replaced_by: str | None = None
    last_used_at: int | None = None

    def status(self, now: int) -> str:
        """Return ``valid``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "valid"

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON; times RFC 3339 in UTC."""
        return {
            "key_id": self.id,
            "role": self.role.value,
            "name": self.name,
            "created_by": self.created_by,
            "created_at": rfc3339(self.created_at),
            "expires_at": rfc3339(self.expires_at),
            "revoked_at": rfc3339(self.revoked_at),
            "revoked_by": self.revoked_by,
            "replaced_by": self.replaced_by,
            "last_used_at": rfc3339(self.last_used_at),
        }


@dataclass(frozen=True, slots=True)
class NewKey(Shown):
    """A key that was just made, with the token that is shown this once and stored nowhere."""

    key: ApiKey
    token: str

    def __repr__(self) -> str:
        return f"NewKey({self.key!r}, token=…)"

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON, the token in it."""
        return {**self.key.as_dict(), "token": self.token}


def new_token() -> tuple[str, str, str]:
    """Make a key: its id, the token, and the digest to store (SHA-256 of 256 random bits)."""
    number, secret = secrets.token_hex(10), secrets.token_hex(32)
    return f"key_{number}", f"uec_{number}_{secret}", _digest(secret)


def read_token(token: str) -> tuple[str, str] | None:
    """Return the id and digest of a token; None when it is none."""
    found = TOKEN.fullmatch(token)
    return (f"key_{found[1]}", _digest(found[2])) if found else None


def same_digest(one: str, other: str) -> bool:
    """Compare digests in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
