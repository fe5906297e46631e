"""Bodies of requests and answers, as OpenAPI describes them.

Answers are the ``as_dict`` of the Python API's results; a test compares their names.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from coordinator.domain.access.keys import Role
from coordinator.domain.limits.increase import IncreaseStatus
from coordinator.domain.purchase.cost import CostStatus
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.reasons import ReasonCode

AMOUNT = r"^(0|[1-9][0-9]{0,9})(\.[0-9]{1,6})?$"
Usdc = Annotated[
    str, Field(pattern=AMOUNT, description="USDC as a decimal string.", examples=["25.00"])
]
SignedUsdc = Annotated[str, Field(description="USDC as a decimal string, which may be negative.")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@\-]{0,63}$")]
Text = Annotated[str, Field(min_length=1, max_length=2000)]
Label = Annotated[str, Field(min_length=1, max_length=200)]
Time = Annotated[str, Field(description="RFC 3339 in UTC.", examples=["2026-01-01T12:00:00Z"])]


class Body(BaseModel):
    """A request's body: unknown names are refused."""

    model_config = ConfigDict(extra="forbid")


class Terms(Body):
    """Terms shared by purchases and costs."""

    category: Name | None = None
    task: Label | None = None
    session: Label | None = None


class PurchaseTerms(Terms):
    """Terms of a purchase."""

    provider: Annotated[str, Field(min_length=1, max_length=64, description="Address or name.")]
    amount: Usdc
    purpose: Text
    service: Label | None = None


class CostTerms(Terms):
    """Terms of a cost without an escrow."""

    amount: Usdc
    provider: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    purpose: Text | None = None
    x402: bool = False


class HoldTerms(CostTerms):
    """Terms of a hold; after ``expires_after`` an abandoned one is posted in full."""

    expires_after: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}[smhd]$")] = "15m"


class Actual(Body):
    """The amount that a held cost came to; without one all of it."""

    amount: Usdc | None = None


class RunTerms(Body):
    """Limits of its own by their keys in the policy file; ``agent`` None: for all, by operators."""

    agent: Name | None = None
    limits: dict[str, Any] | None = None


class SessionTerms(RunTerms):
    """A session to open."""

    session: Label


class TaskTerms(RunTerms):
    """A task to open; its ``limits`` may hold ``categories``, each with its own limits."""

    task: Label


class SessionName(Body):
    """The session that is meant."""

    session: Label


class TaskName(Body):
    """The task that is meant."""

    task: Label


class Pause(Body):
    """One scope to stop or allow again; all spending when none is named."""

    reason: Text
    agent: Name | None = None
    pool: Name | None = None
    provider: Name | None = None
    x402: bool = False

    @property
    def scope(self) -> dict[str, Any]:
        names = ("agent", "pool", "provider", "x402")
        return {name: getattr(self, name) for name in names}


class IncreaseTerms(Body):
    """A limit to raise for a time; ``pool`` asks for what other agents of a pool have left."""

    amount: Usdc
    reason: Text
    scope: Label | None = None
    pool: Name | None = None
    window: Literal["hourly", "daily", "weekly", "monthly", "rolling", "total"] = "daily"
    lasts: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}[smhd]$")] = "24h"


class Why(Body):
    """A reason for people; it is kept in the audit log."""

    reason: Text


class Signed(Body):
    """An approver's signature of the statement; whom the policy gives credentials has to sign."""

    signature: Annotated[
        str | None,
        Field(max_length=8_000, pattern=r"^0x[0-9a-fA-F]*$", description="0x and hex digits."),
    ] = None
    credential: Annotated[
        str | None,
        Field(max_length=100, description="Which of the approver's; default: the one that fits."),
    ] = None
    statement: Annotated[
        dict[str, Any] | None,
        Field(description="What was signed; default: what is asked at this moment."),
    ] = None


class SignedWhy(Signed, Why):
    """A reason, and the approver's signature of the rejection."""


class Statement(BaseModel):
    """A statement to sign: in words, as values, as EIP-712 typed data, and its hash."""

    words: list[str]
    statement: dict[str, Any]
    typed_data: dict[str, Any]
    hash: str


class ReasonModel(BaseModel):
    """A stable code and one sentence."""

    code: ReasonCode
    message: str


class Blocker(BaseModel):
    """The reason why a purchase does not go on, and who would have to act."""

    code: str
    message: str


class LimitState(BaseModel):
    """One limit, and what remains of it."""

    scope: str
    window: str
    limit: str
    spent: SignedUsdc
    held: SignedUsdc
    remaining: SignedUsdc
    resets_at: Time | None
    broken: bool


class ApprovalDecision(BaseModel):
    """One approver's word."""

    approver: str
    decision: str
    reason: str | None
    at: Time


class Transaction(BaseModel):
    """One signed transaction of a purchase."""

    step: str
    hash: str
    block: int | None
    gas_used: int | None
    status: str
    url: str


class Purchase(BaseModel):
    """One request to buy, to its end."""

    purchase_id: str
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
    created_at: Time
    updated_at: Time
    deadline: Time | None
    dispute_window_ends: Time | None
    settle: str | None
    policy_hash: str
    approvals: list[ApprovalDecision]
    reason: ReasonModel | None
    reasons: list[ReasonModel]
    limits: list[LimitState]
    spent: SignedUsdc
    provider_received: SignedUsdc
    platform_fee: SignedUsdc
    penalty: SignedUsdc
    refunded: SignedUsdc
    gas_wei: int
    transactions: list[Transaction]
    stranded: dict[str, Any] | None
    x402: dict[str, Any] | None
    blocker: Blocker | None


class Answer(BaseModel):
    """The answer to an order about a purchase: done, or why not."""

    done: bool
    reason: ReasonModel | None
    purchase: Purchase


class Decision(BaseModel):
    """A dry run of a purchase."""

    outcome: Status
    reason: ReasonModel | None
    reasons: list[ReasonModel]
    limits: list[LimitState]
    provider: str
    provider_name: str | None
    service: str | None
    category: str | None
    required: int


class Cost(BaseModel):
    """A cost without an escrow: held, posted, voided or refused."""

    cost_id: str
    status: CostStatus
    agent: str
    amount: Usdc
    posted: SignedUsdc
    category: str | None
    provider: str | None
    task: str | None
    session: str | None
    purpose: str | None
    created_at: Time
    expires_at: Time | None
    reason: ReasonModel | None
    reasons: list[ReasonModel]
    limits: list[LimitState]


class CostDecision(BaseModel):
    """A dry run of a hold."""

    ok: bool
    reasons: list[ReasonModel]
    limits: list[LimitState]


class Increase(BaseModel):
    """A request to raise a limit: granted, refused, or waiting for approvers."""

    increase_id: str
    kind: str
    agent: str
    scope: str
    window: str
    amount: Usdc
    lasts_seconds: int
    why: str
    status: IncreaseStatus
    required: int
    approved_by: list[str]
    created_at: Time
    expires_at: Time
    ends_at: Time | None
    reason: ReasonModel | None


class Used(BaseModel):
    """Amounts that a scope used in one span of time, [start, end)."""

    start: Time
    end: Time
    spent: SignedUsdc
    held: SignedUsdc


class Run(BaseModel):
    """A session or task."""

    model_config = ConfigDict(extra="allow")

    agent: str | None
    status: Literal["open", "closed"]
    limits: Any


class Anything(BaseModel):
    """An object with the names of the Python API's result."""

    model_config = ConfigDict(extra="allow")


class Page(BaseModel):
    """A page of a list; ask for the next one with ``after``, none where it is null."""

    items: list[Anything]
    next: str | None


class PurchasePage(BaseModel):
    """Purchases, newest first."""

    items: list[Purchase]
    next: str | None


class Items(BaseModel):
    """A whole list."""

    items: list[Anything]


class Usage(BaseModel):
    """Amounts that a scope used, span by span."""

    items: list[Used]


class Me(BaseModel):
    """The role and name that a key speaks for."""

    role: Role
    name: str


class Judged(BaseModel):
    """The answer to an approver's word on a proposal."""

    done: bool
    reason: ReasonModel | None
    proposal: Anything


class Limits(BaseModel):
    """Limits that spending would touch."""

    items: list[LimitState]


class Changed(BaseModel):
    """Whether something changed."""

    changed: bool
