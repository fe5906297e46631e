"""Purchases, orders and pauses folded from the rows of an audit log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from coordinator.domain.audit import AuditRow
from coordinator.domain.errors import LedgerTampered
from coordinator.domain.purchase.lifecycle import ESCROWED, FINAL, X402, Status
from coordinator.domain.reasons import ReasonCode
from coordinator.ledger.limits.logged_budgets import LoggedBudgets

ORDERS: Final = ("withdraw", "mint", "top_up")
MOVED: Final = {f"purchase_{status}": status for status in Status}
_PAYMENT: Final = ("wallet", "host", "url")
_WORDS: Final = ("purpose", "service", "category", "task", "session", "provider_name")


@dataclass(slots=True)
class LoggedPurchase:
    """A purchase as the log tells it; times are unix seconds, the amount is in base units."""

    id: str
    asked_at: int
    provider: str
    amount: int
    settle: str
    policy: str
    status: Status
    updated_at: int
    placed_at: int
    agent: str | None = None
    idempotency_key: str | None = None
    terms: str | None = None
    escrow_key: str | None = None
    words: dict[str, str | None] = field(default_factory=dict)
    decision: dict[str, Any] = field(default_factory=dict)
    reason_code: str | None = None
    reason_message: str | None = None
    approved_at: int | None = None
    approval: dict[str, Any] | None = None
    decisions: dict[str, dict[str, Any]] = field(default_factory=dict)
    escrowed: bool = False
    bond: tuple[int, int] | None = None
    settle_wanted: bool = False
    #: The proposal that approvers agreed to settle it early by, where it takes several or signs.
    settle_proposal: str | None = None
    settle_by: str | None = None
    dispute: dict[str, Any] | None = None
    cancel_wanted: bool = False
    #: What an HTTP request is paid by: wallet, host, URL and for how many seconds.
    x402: Mapping[str, Any] | None = None
    #: Whether its authorisation was ever signed.
    authorised: bool = False
    #: The unix second from which the token refuses what was signed; 0 until then.
    authorised_until: int = 0
    #: Signer and nonce of each create that was signed for it.
    creates: set[tuple[str | None, int]] = field(default_factory=set)
    #: By event, the host that wrote it and was revoked since.
    doubts: Mapping[str, str] = field(default_factory=dict)

    @property
    def create_signed(self) -> bool:
        """Whether a create was ever signed for it."""
        return bool(self.creates)

    @property
    def unsigned(self) -> bool:
        """Whether nothing that pays for it was ever signed, nor seen on the chain."""
        return not (self.create_signed or self.authorised or self.escrowed)

    @property
    def over(self) -> bool:
        """Whether it ended without ever having been funded: nothing on chain can be of it."""
        return self.status in FINAL and not self.escrowed


@dataclass(slots=True)
class LoggedOrder:
    """An order, its kind one of ``ORDERS``; ``status`` is approved, done or failed.

    ``signed`` once it ever was.
    """

    id: str
    kind: str
    body: dict[str, Any]
    created_at: int
    status: str = "approved"
    message: str | None = None
    signed: bool = False
    #: By event, the host that wrote it and was revoked since.
    doubts: Mapping[str, str] = field(default_factory=dict)

    @property
    def agreed(self) -> bool:
        """Whether as many have approved it as were required; a mint is nobody's money."""
        by: list[str] = self.body.get("approved_by", [self.body["by"]])
        required: int = self.body.get("required", 1)
        return len(set(by)) >= required


@dataclass(slots=True)
class LoggedState:
    """Everything that the chain can't tell."""

    purchases: dict[str, LoggedPurchase] = field(default_factory=dict)
    orders: dict[str, LoggedOrder] = field(default_factory=dict)
    pauses: dict[tuple[str, str], tuple[dict[str, Any], int]] = field(default_factory=dict)
    explanations: dict[str, tuple[dict[str, Any], int]] = field(default_factory=dict)
    budgets: LoggedBudgets = field(default_factory=LoggedBudgets)
    opened_at: int | None = None
    """The block at whose end the first journal was opened."""

    def take(self, row: AuditRow) -> None:
        """Fold one row; rows come in their order.

        LedgerTampered when it does not say what such a row says: any deciding host can write it.
        """
        try:
            self._take(row)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise LedgerTampered(
                f"audit row {row.seq} ({row.event} {row.subject}) can't be read"
            ) from None

    def _take(self, row: AuditRow) -> None:
        fold = _FOLDS.get(row.event)
        if row.event in MOVED:
            _purchase(self, row, row.body)
        elif fold is not None:
            fold(self, row, row.body)
        else:
            self.budgets.take(row)


def _purchase(past: LoggedState, row: AuditRow, body: dict[str, Any]) -> None:
    known = past.purchases.get(row.subject)
    if known is not None:
        _moved(known, row, body)
    elif "agent" in body:
        past.purchases[row.subject] = _first_row(row, body)


def _first_row(row: AuditRow, body: dict[str, Any]) -> LoggedPurchase:
    status = MOVED[row.event]
    reason: dict[str, str] = next(iter(body["reasons"]), {})
    return LoggedPurchase(
        id=row.subject,
        asked_at=row.at,
        provider=body["provider"],
        amount=body["amount"],
        settle=body["settle"],
        policy=body["policy"],
        status=status,
        updated_at=row.at,
        placed_at=row.at,
        agent=body["agent"],
        idempotency_key=body["idempotency_key"],
        terms=body["terms"],
        words={word: body[word] for word in _WORDS},
        decision={"reasons": body["reasons"], "limits": body["limits"]},
        reason_code=reason.get("code"),
        reason_message=reason.get("message"),
        approved_at=row.at if status is Status.APPROVED else None,
        approval=body["approval"],
        x402=_payment(body),
    )


def _payment(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what an HTTP request is paid by; a purchase has an escrow or this, never both."""
    told: Mapping[str, Any] | None = body.get("x402")
    if (told is not None) != (body["settle"] == X402):
        raise ValueError
    if told is None:
        return None
    texts, seconds = [told[name] for name in _PAYMENT], told["seconds"]
    if not all(isinstance(text, str) for text in texts) or type(seconds) is not int or seconds < 1:
        raise ValueError
    return told


def _moved(known: LoggedPurchase, row: AuditRow, body: dict[str, Any]) -> None:
    known.status, known.updated_at = MOVED[row.event], row.at
    known.escrowed |= known.status in ESCROWED
    known.reason_message = body.get("why")
    known.reason_code = body.get("code") or _code_of(known.status, body.get("why"))
    if "approval" in body:
        # It waits again: what was said before was said of something else.
        known.approval, known.approved_at = body["approval"], None
        known.decisions.clear()
    if "limits" in body:
        # An approval: it judged anew and moved the hold to its own instant.
        known.approved_at = known.placed_at = row.at
        known.policy = body["policy"]
        known.decision = {"reasons": body["reasons"], "limits": body["limits"]}


def _code_of(status: Status, why: str | None) -> str | None:
    if status not in FINAL or status is Status.SETTLED or why is None:
        return None
    same = {Status.REJECTED: ReasonCode.REJECTED, Status.EXPIRED: ReasonCode.EXPIRED}
    return same.get(status, ReasonCode.CANCELLED).value


def _attributed(past: LoggedState, row: AuditRow, body: dict[str, Any]) -> None:
    past.purchases[row.subject] = LoggedPurchase(
        id=row.subject,
        asked_at=body["asked_at"],
        provider=body["provider"],
        amount=body["amount"],
        settle=body["settle"],
        policy=body["policy"],
        status=Status(body["status"]),
        updated_at=row.at,
        placed_at=body["asked_at"],
        escrow_key=body["escrow_key"],
        words={"provider_name": body["provider_name"]},
        approved_at=body["asked_at"],
        escrowed=True,
    )


def _adopted(past: LoggedState, row: AuditRow, body: dict[str, Any]) -> None:
    known = past.purchases.get(row.subject)
    if known is None:
        return
    known.agent, known.idempotency_key = body["agent"], body["idempotency_key"]
    known.terms, known.words = body["terms"], {word: body[word] for word in _WORDS}


def _decided(past: LoggedState, row: AuditRow, body: dict[str, Any]) -> None:
    known = past.purchases.get(row.subject)
    if known is not None:
        decision = row.event.removeprefix("purchase_").removesuffix("_by")
        known.decisions[body["approver"]] = {**body, "decision": decision, "at": row.at}


def _bond_held(past: LoggedState, row: AuditRow, body: dict[str, Any]) -> None:
    known = past.purchases.get(row.subject)
    if known is not None and known.bond is None:
        known.bond, known.dispute = (body["bond"], row.at), body


def _settle_wanted(past: LoggedState, row: AuditRow, body: dict[str, Any]) -> None:
    known = past.purchases.get(row.subject)
    if known is not None:
        known.settle_wanted = True
        known.settle_proposal, known.settle_by = body.get("proposal"), body.get("by")


def _contested(past: LoggedState, row: AuditRow, body: dict[str, Any]) -> None:
    known = past.purchases.get(row.subject)
    if known is not None:
        known.settle_wanted = False
        if known.settle == "on_delivery":
            known.settle = "after_window"


def _create_signed(past: LoggedState, row: AuditRow, body: dict[str, Any]) -> None:
    known = past.purchases.get(row.subject)
    if known is not None:
        known.creates.add(create_of(body))


def create_of(body: Mapping[str, Any]) -> tuple[str | None, int]:
    """Return the signer and nonce that the row of a signed create tells."""
    return body.get("signer"), body["nonce"]


def _authorised(past: LoggedState, row: AuditRow, body: dict[str, Any]) -> None:
    known = past.purchases.get(row.subject)
    if known is not None:
        known.authorised = True
        known.authorised_until = max(known.authorised_until, body["valid_before"])


def _cancel_wanted(past: LoggedState, row: AuditRow, body: dict[str, Any]) -> None:
    known = past.purchases.get(row.subject)
    if known is not None:
        known.cancel_wanted = True


def _ordered(past: LoggedState, row: AuditRow, body: dict[str, Any]) -> None:
    kind = row.event.removesuffix("_ordered")
    past.orders[row.subject] = LoggedOrder(row.subject, kind, body, row.at)


def _order_signed(past: LoggedState, row: AuditRow, body: dict[str, Any]) -> None:
    if (known := past.orders.get(row.subject)) is not None:
        known.signed = True


def _order_ended(past: LoggedState, row: AuditRow, body: dict[str, Any]) -> None:
    if (known := past.orders.get(row.subject)) is not None:
        known.status, known.message = row.event.removeprefix("order_"), body.get("why")


def _order_taken_back(past: LoggedState, row: AuditRow, body: dict[str, Any]) -> None:
    if (known := past.orders.get(row.subject)) is not None:
        known.status, known.message = "approved", None


def _paused(past: LoggedState, row: AuditRow, body: dict[str, Any]) -> None:
    past.pauses[_scope(row)] = (body, row.at)


def _unpaused(past: LoggedState, row: AuditRow, body: dict[str, Any]) -> None:
    past.pauses.pop(_scope(row), None)


def _scope(row: AuditRow) -> tuple[str, str]:
    kind, _, of = row.subject.partition(":")
    return kind, of


def _explained(past: LoggedState, row: AuditRow, body: dict[str, Any]) -> None:
    past.explanations[row.subject] = (body, row.at)


def _written(past: LoggedState, row: AuditRow, body: dict[str, Any]) -> None:
    if past.opened_at is None:
        past.opened_at = body["to"]


_FOLDS: Final[dict[str, Callable[[LoggedState, AuditRow, dict[str, Any]], None]]] = {
    "escrow_attributed": _attributed,
    "purchase_adopted": _adopted,
    "purchase_approved_by": _decided,
    "purchase_rejected_by": _decided,
    "dispute_wanted": _bond_held,
    "settle_wanted": _settle_wanted,
    "purchase_contested": _contested,
    "cancel_wanted": _cancel_wanted,
    "create_signed": _create_signed,
    "x402_signed": _authorised,
    **dict.fromkeys((f"{kind}_ordered" for kind in ORDERS), _ordered),
    **dict.fromkeys((f"{kind}_signed" for kind in ORDERS), _order_signed),
    "order_done": _order_ended,
    "order_failed": _order_ended,
    **dict.fromkeys((f"{kind}_taken_back" for kind in ORDERS), _order_taken_back),
    "paused": _paused,
    "unpaused": _unpaused,
    "discrepancy_explained": _explained,
    "journal_written": _written,
}
