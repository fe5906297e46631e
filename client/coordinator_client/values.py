"""Answers of the service as frozen values; ``as_dict`` gives their JSON as it came."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from coordinator_client.usdc import Usdc, told
from coordinator_client.words import (
    ESCROWED,
    FINAL,
    ReasonCode,
    Status,
)

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Told:
    """A value that the service told."""

    _json: Json = field(repr=False, compare=False, kw_only=True)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON as it came, names included that this version does not know."""
        return deepcopy(dict(self._json))


@dataclass(frozen=True)
class Reason(Told):
    """A reason: a stable code for programs and one sentence for people, which ``str`` gives."""

    code: ReasonCode
    message: str

    def __str__(self) -> str:
        return self.message

    @classmethod
    def of(cls, json: Json) -> Reason:
        return cls(ReasonCode(json["code"]), json["message"], _json=json)


@dataclass(frozen=True)
class Blocker(Told):
    """The first obstacle of a purchase; ``message`` says how to remove it."""

    code: str
    message: str

    @classmethod
    def of(cls, json: Json) -> Blocker:
        return cls(json["code"], json["message"], _json=json)


class Scope(NamedTuple):
    """A scope: the organisation, a pool, an agent and so on; the organisation's id is empty."""

    kind: str
    id: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}" if self.id else self.kind

    @classmethod
    def of(cls, text: str) -> Scope:
        """Parse the text that ``str`` gives."""
        kind, _, name = text.partition(":")
        return cls(kind, name)


class Limit(NamedTuple):
    """At most ``amount`` within ``window`` for ``scope``; equal is allowed."""

    scope: Scope
    window: str
    amount: Usdc


class Usage(NamedTuple):
    """The sums of a limit: held and posted amounts."""

    held: Usdc
    spent: Usdc


@dataclass(frozen=True)
class LimitState(Told):
    """A limit with its usage; ``resets_at`` is a unix second, None where that is never."""

    limit: Limit
    usage: Usage
    resets_at: int | None
    broken: bool

    @property
    def remaining(self) -> Usdc:
        """The amount that is left; negative after it was lowered below what is spent."""
        return self.limit.amount - self.usage.held - self.usage.spent

    @classmethod
    def of(cls, json: Json) -> LimitState:
        return cls(
            Limit(Scope.of(json["scope"]), json["window"], told(json["limit"])),
            Usage(told(json["held"]), told(json["spent"])),
            second(json.get("resets_at")),
            json["broken"],
            _json=json,
        )


@dataclass(frozen=True)
class ApprovalDecision(Told):
    """One person's word on one purchase; ``decision`` is ``approved`` or ``rejected``."""

    approver: str
    decision: str
    reason: str | None
    at: int

    @classmethod
    def of(cls, json: Json) -> ApprovalDecision:
        at = instant(json["at"])
        return cls(json["approver"], json["decision"], json.get("reason"), at, _json=json)


@dataclass(frozen=True)
class PurchaseTransaction(Told):
    """One signed transaction of a purchase; ``status`` is the step's word for its evidence."""

    step: str
    hash: str
    block: int | None
    gas_used: int | None
    status: str
    url: str

    @classmethod
    def of(cls, json: Json) -> PurchaseTransaction:
        return cls(
            json["step"],
            json["hash"],
            json.get("block"),
            json.get("gas_used"),
            json["status"],
            json["url"],
            _json=json,
        )


@dataclass(frozen=True)
class Purchase(Told):
    """A purchase as the service knew it at one moment; times are unix seconds, UTC.

    ``spent`` is what left the treasury for it and did not come back. ``limits`` are those that
    its last decision touched, before its own hold.
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
    escrow_id: str | None
    approval_id: str | None
    created_at: int
    updated_at: int
    deadline: int | None
    window_ends: int | None
    settle: str | None
    policy_hash: str | None
    reason: Reason | None
    reasons: tuple[Reason, ...]
    limits: tuple[LimitState, ...]
    approvals: tuple[ApprovalDecision, ...]
    transactions: tuple[PurchaseTransaction, ...]
    spent: Usdc
    provider_received: Usdc
    platform_fee: Usdc
    penalty: Usdc
    refunded: Usdc
    gas_wei: int
    stranded: Reason | None
    #: What kept it from going on when a wait for it ended; None where nothing did.
    blocker: Blocker | None

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

    @classmethod
    def of(cls, json: Json) -> Purchase:
        texts = ("provider", "provider_name", "purpose", "service", "category", "task", "session")
        ids = ("agent", "idempotency_key", "escrow_id", "approval_id", "settle", "policy_hash")
        sums = ("amount", "spent", "provider_received", "platform_fee", "penalty", "refunded")
        amounts: dict[str, Any] = {name: told(json[name]) for name in sums}
        stranded, blocker = json.get("stranded"), json.get("blocker")
        return cls(
            id=json["purchase_id"],
            status=Status(json["status"]),
            created_at=instant(json["created_at"]),
            updated_at=instant(json["updated_at"]),
            deadline=second(json.get("deadline")),
            window_ends=second(json.get("dispute_window_ends")),
            approvals=tuple(map(ApprovalDecision.of, json.get("approvals", ()))),
            transactions=tuple(map(PurchaseTransaction.of, json.get("transactions", ()))),
            gas_wei=json.get("gas_wei", 0),
            stranded=Reason.of(stranded) if stranded else None,
            blocker=Blocker.of(blocker) if blocker else None,
            **some(json, *texts, *ids),
            **amounts,
            **why(json),
            _json=json,
        )


@dataclass(frozen=True)
class PaymentAnswer(Told):
    """The outcome of a request to pay an x402 server: its purchase, and the signed payment.

    ``payment`` is None while a person must approve it or it is not signed yet, and for ever once
    it is denied or failed.
    """

    purchase: Purchase
    payment: Json | None

    @classmethod
    def of(cls, json: Json) -> PaymentAnswer:
        return cls(Purchase.of(json["purchase"]), json["payment"], _json=json)


@dataclass(frozen=True)
class Answer(Told):
    """The answer to an order about a purchase.

    ``done`` tells whether it was carried out (or now will be, for what the chain must do);
    if not, ``reason`` says why and nothing changed.
    """

    done: bool
    purchase: Purchase
    reason: Reason | None

    @classmethod
    def of(cls, json: Json) -> Answer:
        reason = json.get("reason")
        purchase = Purchase.of(json["purchase"])
        return cls(json["done"], purchase, Reason.of(reason) if reason else None, _json=json)


@dataclass(frozen=True)
class Decision(Told):
    """A dry run: ``outcome`` is DENIED, AWAITING_APPROVAL or APPROVED, for every reason listed.

    ``required`` tells how many have to approve it.
    """

    outcome: Status
    reason: Reason | None
    reasons: tuple[Reason, ...]
    limits: tuple[LimitState, ...]
    provider: str | None
    provider_name: str | None
    service: str | None
    category: str | None
    required: int

    @classmethod
    def of(cls, json: Json) -> Decision:
        names = ("provider", "provider_name", "service", "category")
        return cls(
            outcome=Status(json["outcome"]),
            required=json.get("required", 0),
            **some(json, *names),
            **why(json),
            _json=json,
        )


def second(text: str | None) -> int | None:
    """Return the unix second of a time that may be missing."""
    return None if text is None else instant(text)


def instant(text: str) -> int:
    """Return the unix second of an RFC 3339 time."""
    return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp())


def some(json: Json, *names: str) -> dict[str, Any]:
    """Return these members as they came; None for one that is missing."""
    return {name: json.get(name) for name in names}


def why(json: Json) -> dict[str, Any]:
    """Return the reasons of a decision, and the limits that it touched."""
    reason = json.get("reason")
    return {
        "reason": Reason.of(reason) if reason else None,
        "reasons": tuple(map(Reason.of, json.get("reasons", ()))),
        "limits": tuple(map(LimitState.of, json.get("limits", ()))),
    }
