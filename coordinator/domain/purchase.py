"""A purchase: what was asked, where it is, and the one table of moves that it may make."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

from coordinator.domain.address import checksummed, looks_like_address
from coordinator.domain.blocker import Blocker
from coordinator.domain.canonical import canonical_json
from coordinator.domain.errors import ImpossibleState, InvalidRequest
from coordinator.domain.limits import LimitState
from coordinator.domain.reasons import Reason
from coordinator.domain.shown import Shown
from coordinator.domain.usdc import ZERO, Usdc


class Status(StrEnum):
    """Where a purchase is; the moves between them are in ``MOVES``."""

    DENIED = "denied"
    AWAITING_APPROVAL = "awaiting_approval"
    REJECTED = "rejected"
    EXPIRED = "expired"
    APPROVED = "approved"
    CREATED = "created"
    FUNDED = "funded"
    STARTED = "started"
    DELIVERED = "delivered"
    DISPUTED = "disputed"
    SETTLED = "settled"
    CANCELLED = "cancelled"
    FAILED = "failed"


_S = Status
# The only moves there are. A reorg takes a purchase back by folding its events again.
MOVES: Final[Mapping[Status, frozenset[Status]]] = {
    _S.DENIED: frozenset(),
    _S.AWAITING_APPROVAL: frozenset({_S.APPROVED, _S.REJECTED, _S.EXPIRED, _S.CANCELLED}),
    _S.REJECTED: frozenset(),
    _S.EXPIRED: frozenset(),
    _S.APPROVED: frozenset({_S.CREATED, _S.FUNDED, _S.FAILED, _S.CANCELLED}),
    _S.CREATED: frozenset({_S.FUNDED, _S.FAILED, _S.CANCELLED}),
    _S.FUNDED: frozenset({_S.STARTED, _S.CANCELLED}),
    _S.STARTED: frozenset({_S.DELIVERED, _S.CANCELLED}),
    _S.DELIVERED: frozenset({_S.SETTLED, _S.DISPUTED}),
    _S.DISPUTED: frozenset({_S.SETTLED, _S.CANCELLED}),
    _S.SETTLED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.FAILED: frozenset(),
}
FINAL: Final = frozenset(status for status, moves in MOVES.items() if not moves)
ESCROWED: Final = frozenset({_S.FUNDED, _S.STARTED, _S.DELIVERED, _S.DISPUTED, _S.SETTLED})
OPEN: Final = frozenset(Status) - FINAL
UNFUNDED: Final = frozenset({_S.AWAITING_APPROVAL, _S.APPROVED, _S.CREATED})


def check_move(purchase_id: str, before: Status, after: Status) -> None:
    """Refuse, as an impossible state, a move that ``MOVES`` does not have."""
    if after not in MOVES[before]:
        raise ImpossibleState(f"purchase {purchase_id} can't go from {before} to {after}")


def moves_table() -> str:
    """The table of moves in Markdown, as the documentation shows it."""
    rows = ["| from | to |", "|---|---|"]
    for status, moves in MOVES.items():
        rows.append(f"| {status} | {', '.join(sorted(moves)) or 'nothing: final'} |")
    return "\n".join(rows) + "\n"


_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}", re.ASCII)
_PURPOSE_LENGTH: Final = 2000
_TEXT_LENGTH: Final = 200
# The kernel's own maximum; sums of holds stay far inside SQL's 64 bits.
_LARGEST: Final = Usdc("1000000000")
_UNSEEN: Final = ("Cc", "Cs", "Zl", "Zp")
_TURNING: Final = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))
_BLANK_BRAILLE: Final = "\u2800"


@dataclass(frozen=True, slots=True)
class Request:
    """One well-formed request of an agent; ``provider`` is an address or a policy's name."""

    agent: str
    provider: str
    amount: Usdc
    purpose: str
    service: str | None = None
    category: str | None = None
    task: str | None = None
    session: str | None = None

    @classmethod
    def of(
        cls,
        *,
        agent: object,
        provider: object,
        amount: object,
        purpose: object,
        service: object = None,
        category: object = None,
        task: object = None,
        session: object = None,
        treasury_address: str | None = None,
    ) -> Request:
        """The request, checked; ``InvalidRequest`` with one sentence when it is malformed."""
        return cls(
            agent=identifier("agent", agent),
            provider=_provider(provider, treasury_address),
            amount=positive_amount(amount),
            purpose=free_text("purpose", purpose, _PURPOSE_LENGTH, code="invalid_purpose"),
            service=None if service is None else free_text("service", service, _TEXT_LENGTH),
            category=None if category is None else identifier("category", category),
            task=None if task is None else free_text("task", task, _TEXT_LENGTH),
            session=None if session is None else free_text("session", session, _TEXT_LENGTH),
        )

    def terms_hash(self, provider_address: str) -> str:
        """The hash that binds an idempotency key: all terms but the purpose, as asked."""
        terms = [
            provider_address.lower(),
            self.amount.base_units,
            self.service,
            self.category,
            self.task,
            self.session,
        ]
        return sha256(canonical_json(terms)).hexdigest()


def identifier(name: str, value: object) -> str:
    """A name of letters, digits and ``._:@-``, at most 64 long."""
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
        raise InvalidRequest(
            f"{name} must be 1 to 64 letters, digits or ._:@- and start with a letter or digit"
        )
    return value


def free_text(name: str, value: object, length_max: int, *, code: str = "invalid_request") -> str:
    """Text for people: something to see, at most ``length_max`` characters.

    No control characters, no line separators, and nothing that turns the direction of what an
    approver reads.
    """
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be text", code=code)
    if len(value) > length_max:
        raise InvalidRequest(
            f"{name} has {len(value)} characters; at most {length_max} are kept", code=code
        )
    if value.isascii() and value.isprintable() and not value.isspace() and value:
        return value
    if not any(unicodedata.category(c)[0] not in "ZC" and c != _BLANK_BRAILLE for c in value):
        raise InvalidRequest(f"{name} must not be empty", code=code)
    if any(unicodedata.category(c) in _UNSEEN or c in _TURNING for c in value):
        raise InvalidRequest(f"{name} must not hold control characters", code=code)
    return value


def positive_amount(amount: object) -> Usdc:
    """An amount above zero from a decimal string or ``Usdc``; InvalidRequest otherwise."""
    try:
        parsed = Usdc(amount)  # type: ignore[arg-type]
    except ValueError as fault:
        raise InvalidRequest(str(fault), code="invalid_amount") from None
    if parsed > _LARGEST:
        raise InvalidRequest(
            f"{parsed} USDC is above the largest purchase, {_LARGEST}", code="invalid_amount"
        )
    if parsed <= ZERO:
        raise InvalidRequest("an amount must be above zero", code="invalid_amount")
    return parsed


def id_text(name: str, value: object) -> str:
    """An id as it was given; InvalidRequest when it is not text that an id could be."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be text, not {type(value).__name__}")
    if not value.isprintable():
        raise InvalidRequest(f"{name} must be printable text")
    return value


def idempotency_key(value: object) -> str:
    """A key of at most 200 characters, kept as given."""
    return free_text("idempotency key", value, _TEXT_LENGTH)


def _provider(value: object, treasury_address: str | None) -> str:
    if isinstance(value, str) and looks_like_address(value):
        try:
            address = checksummed(value)
        except ValueError as fault:
            raise InvalidRequest(str(fault), code="invalid_provider") from None
        if treasury_address and address.lower() == treasury_address.lower():
            raise InvalidRequest("the treasury can't pay itself", code="invalid_provider")
        return address
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
        raise InvalidRequest(
            "a provider is an address or a name of the policy", code="invalid_provider"
        )
    return value


@dataclass(frozen=True, slots=True)
class ApprovalDecision(Shown):
    """One person's word on one purchase; ``decision`` is ``approved`` or ``rejected``."""

    approver: str
    decision: str
    reason: str | None
    at: int
    host: str
    user: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "approver": self.approver,
            "decision": self.decision,
            "reason": self.reason,
            "at": rfc3339(self.at),
        }


@dataclass(frozen=True, slots=True)
class PurchaseTransaction(Shown):
    """One signed transaction of a purchase; ``status`` is the step's word for its evidence."""

    step: str
    hash: str
    block: int | None
    gas_used: int | None
    gas_wei: int
    status: str
    url: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "hash": self.hash,
            "block": self.block,
            "gas_used": self.gas_used,
            "status": self.status,
            "url": self.url,
        }


@dataclass(frozen=True, slots=True)
class Purchase(Shown):
    """A purchase as the ledger knows it at one moment; times are unix seconds, UTC.

    ``spent`` is what left the treasury for it and did not come back. ``escrow_id`` is the rail's
    id of the escrow that holds its USDC. ``limits`` are those that its last decision touched,
    before its own hold.
    """

    id: str
    status: Status
    agent: str | None
    provider: str
    provider_name: str | None
    amount: Usdc
    purpose: str
    service: str | None
    category: str | None
    task: str | None
    session: str | None
    idempotency_key: str | None
    escrow_key: str
    escrow_id: str | None
    approval_id: str | None
    created_at: int
    updated_at: int
    deadline: int | None
    window_ends: int | None
    settle: str
    policy_hash: str
    reason: Reason | None
    reasons: tuple[Reason, ...] = ()
    limits: tuple[LimitState, ...] = ()
    approvals: tuple[ApprovalDecision, ...] = ()
    transactions: tuple[PurchaseTransaction, ...] = ()
    paid_in: Usdc = ZERO
    provider_received: Usdc = ZERO
    platform_fee: Usdc = ZERO
    penalty: Usdc = ZERO
    refunded: Usdc = ZERO
    stranded: Reason | None = None
    rail_state: str | None = field(default=None)
    #: What kept it from going on when a wait for it ended; None where nothing did.
    blocker: Blocker | None = field(default=None)

    @property
    def ok(self) -> bool:
        """Whether the USDC is in escrow or has been paid to the provider."""
        return self.status in ESCROWED

    @property
    def denied(self) -> bool:
        return self.status is Status.DENIED

    @property
    def needs_approval(self) -> bool:
        return self.status is Status.AWAITING_APPROVAL

    @property
    def final(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.status in FINAL

    @property
    def spent(self) -> Usdc:
        return self.paid_in - self.refunded if self.final else ZERO

    @property
    def gas_wei(self) -> int:
        return sum(transaction.gas_wei for transaction in self.transactions)

    def as_dict(self) -> dict[str, Any]:
        """The command line's JSON, key for key; amounts are strings, times RFC 3339 in UTC."""
        return {
            "purchase_id": self.id,
            "status": self.status.value,
            "agent": self.agent,
            "provider": self.provider,
            "provider_name": self.provider_name,
            "amount": str(self.amount),
            "purpose": self.purpose,
            "service": self.service,
            "category": self.category,
            "task": self.task,
            "session": self.session,
            "idempotency_key": self.idempotency_key,
            "escrow_id": self.escrow_id,
            "approval_id": self.approval_id,
            "created_at": rfc3339(self.created_at),
            "updated_at": rfc3339(self.updated_at),
            "deadline": rfc3339(self.deadline),
            "dispute_window_ends": rfc3339(self.window_ends),
            "settle": self.settle,
            "policy_hash": self.policy_hash,
            "approvals": [decision.as_dict() for decision in self.approvals],
            "reason": self.reason.as_dict() if self.reason else None,
            "reasons": [reason.as_dict() for reason in self.reasons],
            "limits": [limit_dict(state) for state in self.limits],
            "spent": str(self.spent),
            "provider_received": str(self.provider_received),
            "platform_fee": str(self.platform_fee),
            "penalty": str(self.penalty),
            "refunded": str(self.refunded),
            "gas_wei": self.gas_wei,
            "transactions": [transaction.as_dict() for transaction in self.transactions],
            "stranded": self.stranded.as_dict() if self.stranded else None,
            "blocker": self.blocker.as_dict() if self.blocker else None,
        }


@dataclass(frozen=True, slots=True)
class Answer(Shown):
    """What became of a person's or agent's order about a purchase.

    ``done`` tells whether it was carried out (or now will be, for what the chain must do);
    if not, ``reason`` says why and nothing changed.
    """

    done: bool
    purchase: Purchase
    reason: Reason | None = None

    def as_dict(self) -> dict[str, Any]:
        reason = self.reason.as_dict() if self.reason else None
        return {"done": self.done, "reason": reason, "purchase": self.purchase.as_dict()}


def limit_dict(state: LimitState) -> dict[str, Any]:
    return {
        "scope": str(state.limit.scope),
        "window": state.limit.window.value,
        "limit": str(state.limit.amount),
        "spent": str(state.usage.spent),
        "held": str(state.usage.held),
        "remaining": str(state.remaining),
        "resets_at": rfc3339(state.resets_at),
        "broken": state.broken,
    }


def rfc3339(at: int | None) -> str | None:
    """The unix second as text such as ``2026-05-01T12:00:00Z``."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
