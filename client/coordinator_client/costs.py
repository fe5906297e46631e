"""Values of costs, of requests for more, and of tasks and sessions."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator_client.usdc import Usdc, told
from coordinator_client.values import (
    Json,
    LimitState,
    Reason,
    Scope,
    Told,
    instant,
    second,
    some,
    why,
)
from coordinator_client.words import CostStatus, IncreaseStatus


@dataclass(frozen=True)
class Cost(Told):
    """A cost without an escrow; times are unix seconds, UTC.

    ``amount`` is what was held (or spent, when it was recorded), ``posted`` what it came to.
    """

    id: str
    status: CostStatus
    agent: str
    amount: Usdc
    posted: Usdc
    category: str | None
    provider: str | None
    task: str | None
    session: str | None
    purpose: str | None
    created_at: int
    expires_at: int | None
    reason: Reason | None
    reasons: tuple[Reason, ...]
    limits: tuple[LimitState, ...]

    @property
    def ok(self) -> bool:
        """Whether its amount is held or spent."""
        return self.status in (CostStatus.HELD, CostStatus.POSTED)

    @property
    def denied(self) -> bool:
        return self.status is CostStatus.DENIED

    @classmethod
    def of(cls, json: Json) -> Cost:
        names = ("agent", "category", "provider", "task", "session", "purpose")
        return cls(
            id=json["cost_id"],
            status=CostStatus(json["status"]),
            amount=told(json["amount"]),
            posted=told(json["posted"]),
            created_at=instant(json["created_at"]),
            expires_at=second(json.get("expires_at")),
            **some(json, *names),
            **why(json),
            _json=json,
        )


@dataclass(frozen=True)
class CostDecision(Told):
    """The decision on a cost: reasons against it (none: allowed), and the limits it touches."""

    reasons: tuple[Reason, ...]
    limits: tuple[LimitState, ...]

    @classmethod
    def of(cls, json: Json) -> CostDecision:
        found = why(json)
        return cls(found["reasons"], found["limits"], _json=json)


@dataclass(frozen=True)
class Increase(Told):
    """A request to raise a limit, and its decision; times are unix seconds, UTC.

    ``ends_at`` is when a granted one is over.
    """

    id: str
    kind: str
    agent: str
    scope: Scope
    window: str
    amount: Usdc
    lasts_seconds: int
    why: str
    status: IncreaseStatus
    required: int
    created_at: int
    expires_at: int
    approved_by: tuple[str, ...]
    ends_at: int | None
    reason: Reason | None

    @property
    def granted(self) -> bool:
        return self.status is IncreaseStatus.GRANTED

    @property
    def waits(self) -> bool:
        return self.status is IncreaseStatus.WAITING

    @classmethod
    def of(cls, json: Json) -> Increase:
        return cls(
            id=json["increase_id"],
            scope=Scope.of(json["scope"]),
            amount=told(json["amount"]),
            status=IncreaseStatus(json["status"]),
            created_at=instant(json["created_at"]),
            expires_at=instant(json["expires_at"]),
            ends_at=second(json.get("ends_at")),
            approved_by=tuple(json["approved_by"]),
            reason=why(json)["reason"],
            **{n: json[n] for n in ("kind", "agent", "window", "lasts_seconds", "why", "required")},
            _json=json,
        )


@dataclass(frozen=True)
class Run(Told):
    """A task or session; times are unix seconds, ``closed_at`` None while it is open."""

    kind: str
    id: str
    agent: str | None
    status: str
    opened_by: str | None
    opened_at: int | None
    closed_by: str | None
    closed_at: int | None

    @classmethod
    def of(cls, kind: str, json: Json) -> Run:
        return cls(
            kind,
            json[kind],
            json.get("agent"),
            json["status"],
            json.get("opened_by"),
            second(json.get("opened_at")),
            json.get("closed_by"),
            second(json.get("closed_at")),
            _json=json,
        )
