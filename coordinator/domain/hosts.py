"""Hosts that may write: their certificates by the treasury's key, and what each role may write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from coordinator.domain.chain.events import WATCHED
from coordinator.domain.chain.steps import StepKind, StepStatus
from coordinator.domain.purchase.lifecycle import ESCROWED, Status
from coordinator.domain.shown import Shown
from coordinator.domain.times import rfc3339
from coordinator.domain.typed_data import Trust, TypedData

NAME_MAX: Final = 60
_KEY: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,59}", re.ASCII)
_CERTIFICATE: Final = (
    ("treasury", "address"),
    ("host", "string"),
    ("publicKey", "bytes32"),
    ("role", "string"),
    ("afterRow", "uint256"),
    ("certifiedAt", "uint256"),
)
_REVOCATION: Final = (
    ("treasury", "address"),
    ("host", "string"),
    ("publicKey", "bytes32"),
    ("lastRow", "uint256"),
    ("revokedAt", "uint256"),
)


class HostRole(StrEnum):
    """The role in a certificate: a worker acts on chain, a decider only decides."""

    WORKER = "worker"
    DECIDER = "decider"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The treasury's word that a key writes for a host; ``after_row`` is the log's count then.

    Rows count, and no clock, because clocks jump.
    """

    name: str
    public_key: str
    role: HostRole
    after_row: int
    certified_at: int

    @property
    def id(self) -> str:
        """The name with the beginning of the key: a name may have another key later."""
        return host_id(self.name, self.public_key)

    def message(self, trust: Trust) -> TypedData:
        """Return what the treasury's key signs."""
        values = (
            trust.treasury,
            self.name,
            bytes.fromhex(self.public_key),
            self.role.value,
            self.after_row,
            self.certified_at,
        )
        return TypedData(trust, "HostCertificate", _CERTIFICATE, values)

    def revocation(self, trust: Trust, *, last_row: int, revoked_at: int) -> TypedData:
        """Return what the treasury's key signs so that no row after ``last_row`` counts."""
        key = bytes.fromhex(self.public_key)
        values = (trust.treasury, self.name, key, last_row, revoked_at)
        return TypedData(trust, "HostRevocation", _REVOCATION, values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedHost(Shown):
    """A host as people are shown it; ``status`` is valid, revoked or invalid.

    Invalid: the treasury's key has not signed what the database says of it.
    """

    id: str
    name: str
    public_key: str
    role: str
    status: str
    certified_at: int
    revoked_at: int | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "host": self.id,
            "name": self.name,
            "public_key": self.public_key,
            "role": self.role,
            "status": self.status,
            "certified_at": rfc3339(self.certified_at),
            "revoked_at": rfc3339(self.revoked_at),
        }


def host_id(name: str, public_key: str) -> str:
    """Return the id under which rows name a host's key."""
    return f"{name}:{public_key[:8]}"


def parse_host_name(text: str) -> str:
    """Return a host's name; ValueError with one sentence when it can't be one."""
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{text[:60]!r} is no host name: at most 60 of a-z, 0-9, dot, dash and underscore,"
            " the first a letter or digit"
        )
    return text


def parse_public_key(text: str) -> str:
    """Return an Ed25519 public key in hex; ValueError with one sentence when it can't be one."""
    key = text.strip().lower().removeprefix("0x")
    if not _KEY.fullmatch(key):
        raise ValueError("a host's public key is 64 hex digits, as `coordinator hosts key` prints")
    return key


def host_name_of(machine: str, role: HostRole) -> str:
    """Make a host name of a machine's name: worker and decider of one machine are two hosts."""
    made = re.sub(r"[^a-z0-9._-]+", "-", machine.lower()).strip("._-")[: NAME_MAX - 10]
    return f"{made or 'host'}-{role}"


# What only the chain, or whoever acts on it, can know. Every other event is a decision.
WORKER_EVENTS: Final = frozenset(
    {
        *("host_added", "host_revoked", "audit_imported", "audit_log_refused", "worker_refused"),
        *("journal_written", "journal_rolled_back", "contradiction"),
        *("account_added", "account_ended", "treasury_rotated", "rotation_finished"),
        "key_changed",
        *("nonces_adopted", "lane_opened", "lane_repaired", "steps_dropped", "foreign_transaction"),
        *(f"{kind}_{status}" for kind in StepKind for status in StepStatus),
        *(f"{kind}_taken_back" for kind in StepKind),
        *("hold_posted", "hold_voided", "order_done", "order_failed", "cancel_decided"),
        *("purchase_stranded", "purchase_unstranded", "x402_signed", "x402_unasked"),
        *("safe_watched", "safe_checked", *WATCHED, "treasury_change_lost"),
        *(f"purchase_{status}" for status in (Status.CREATED, Status.FAILED, *ESCROWED)),
    }
)


def may_write(role: HostRole, event: str) -> bool:
    """Return whether a host of this role may write such a row of the audit log."""
    return role is HostRole.WORKER or event not in WORKER_EVENTS
