"""Notices to people: each is made once, by its key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from coordinator.domain.chain.events import ChainEvent
from coordinator.domain.limits.limits import LimitState
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.shown import Shown
from coordinator.domain.times import rfc3339
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window

_HOUR_SECONDS = 3600
# A standing condition that has passed is told under its kind with this behind it.
OVER = "_over"
TREASURY = "treasury"


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Notice:
    """A message to people about an event at a unix second; each key is told once.

    ``fields`` are its ids and amounts for programs; amounts are decimal strings of USDC.
    """

    key: str
    at: int
    kind: str
    severity: Severity
    subject: str
    message: str
    fields: Mapping[str, str] = field(default_factory=dict)


def crossings(
    limits: Iterable[LimitState], amount: Usdc, thresholds: Sequence[int], now: int
) -> Iterator[Notice]:
    """Yield a notice for each threshold (percent) of a limit that ``amount`` more reaches.

    The key names the limit with its amount, the threshold and the window, so that each is told
    once a window, and again where the limit was changed; a rolling window once a bucket.
    """
    lowest, more = min(thresholds, default=101), amount.base_units * 100
    for state in limits:
        limit = state.limit.amount.base_units
        before = (state.usage.held_units + state.usage.spent_units) * 100
        after = before + more
        if after < limit * lowest or state.limit.window is Window.PER_PURCHASE:
            continue
        for threshold in thresholds:
            mark = limit * threshold
            if before < mark <= after:
                yield _crossed(state, threshold, amount, now)


def _crossed(state: LimitState, threshold: int, amount: Usdc, now: int) -> Notice:
    scope, window = state.limit.scope, state.limit.window
    used = state.usage.held + state.usage.spent + amount
    return Notice(
        key=f"limit:{scope}:{window}:{state.limit.amount}:{state.resets_at}:{threshold}",
        at=now,
        kind="limit_threshold",
        severity=Severity.CRITICAL if threshold >= 100 else Severity.WARNING,
        subject=str(scope),
        message=(
            f"{scope} has used {threshold} % of its {window} limit: {used} of"
            f" {state.limit.amount} USDC"
        ),
        fields={
            "scope": str(scope),
            "window": window.value,
            "limit": str(state.limit.amount),
            "used": str(used),
            "percent": str(threshold),
        },
    )


def denied(agent: str, provider: str | None, amount: Usdc, reason: Reason, now: int) -> Notice:
    """Make the notice of a denial, once an hour for each agent and code.

    Of agents that nobody registered one an hour is told, however many names they take.
    """
    known = reason.code is not ReasonCode.AGENT_NOT_REGISTERED
    return Notice(
        key=f"denied:{agent if known else ''}:{reason.code}:{now // _HOUR_SECONDS}",
        at=now,
        kind="purchase_denied",
        severity=Severity.WARNING,
        subject=f"agent:{agent}",
        message=(
            f"{agent} asked to pay {f'{provider} ' if provider else ''}{amount} USDC and was denied"
            f" ({reason.code}): {reason.message}"
        ),
        fields={
            "agent": agent,
            "provider": provider or "",
            "amount": str(amount),
            "reason_code": reason.code.value,
        },
    )


def contested(
    purchase_id: str, agent: str, provider: str, amount: Usdc, window_ends: int | None, now: int
) -> Notice:
    """Make the notice of a delivery that its agent contests; only approvers can dispute it.

    The agent's reason is left out: chat programs act on what they are sent.
    """
    until = rfc3339(window_ends) or "its window ends"
    return Notice(
        key=f"contested:{purchase_id}",
        at=now,
        kind="contested",
        severity=Severity.WARNING,
        subject=purchase_id,
        message=(
            f"{agent} contests what {provider} delivered for {amount} USDC; it is paid after"
            f" {until} unless an approver disputes it (coordinator purchase dispute {purchase_id})"
        ),
        fields={
            "purchase_id": purchase_id,
            "agent": agent,
            "provider": provider,
            "amount": str(amount),
            "window_ends": until,
        },
    )


def limits_changed(key: str, subject: str, message: str, now: int) -> Notice:
    """Make the notice of a changed policy or overlay."""
    return Notice(
        f"limits_changed:{key}", now, "limits_changed", Severity.WARNING, subject, message
    )


def paused(scope: str, by: str, reason: str, now: int, *, by_itself: bool) -> Notice:
    """Make the notice of a pause; critical when no person did it."""
    return Notice(
        key=f"paused:{scope}:{by}:{now}",
        at=now,
        kind="paused",
        severity=Severity.CRITICAL if by_itself else Severity.WARNING,
        subject=scope,
        message=f"{by} paused spending ({scope}): {reason}",
        fields={"scope": scope, "by": by, "reason": reason},
    )


def unpaused(scope: str, by: str, reason: str, now: int) -> Notice:
    """Make the notice of an unpause."""
    return Notice(
        key=f"unpaused:{scope}:{now}",
        at=now,
        kind="unpaused",
        severity=Severity.INFO,
        subject=scope,
        message=f"{by} allowed spending again ({scope}): {reason}",
        fields={"scope": scope, "by": by, "reason": reason},
    )


def stranded(purchase_id: str, message: str | None, now: int) -> Notice:
    """Make the notice of a stranded purchase and who can free it; None: no longer stranded."""
    return Notice(
        key=f"stranded:{purchase_id}:{now}",
        at=now,
        kind="purchase_stranded" if message else f"purchase_stranded{OVER}",
        severity=Severity.CRITICAL if message else Severity.INFO,
        subject=purchase_id,
        message=message or "no longer stranded",
        fields={"purchase_id": purchase_id},
    )


def foreign_transaction(nonce: int, now: int) -> Notice:
    """Make the notice of a foreign transaction: somebody else has the treasury's key."""
    return Notice(
        key=f"foreign_transaction:{nonce}",
        at=now,
        kind="foreign_transaction",
        severity=Severity.CRITICAL,
        subject=f"nonce:{nonce}",
        message=f"another program used the treasury's key: it mined a transaction at nonce {nonce}",
        fields={"nonce": str(nonce)},
    )


def unasked_payment(what: str, tx_hash: str, now: int) -> Notice:
    """Make the notice that the wallet for HTTP requests paid what nobody here had signed."""
    return Notice(
        key=f"x402_unasked:{tx_hash}:{what}",
        at=now,
        kind="x402_unasked",
        severity=Severity.CRITICAL,
        subject="x402",
        message=f"{what}: somebody else may have the wallet's key; payments are paused",
        fields={"tx_hash": tx_hash},
    )


def treasury_watched(event: ChainEvent, said: str, now: int, *, foreign: bool) -> Notice:
    """Make the notice of what was done to a Safe; critical where it may be a foreign hand."""
    return Notice(
        key=f"{event.kind}:{event.block_hash}:{event.log_index}",
        at=now,
        kind=event.kind.value,
        severity=Severity.CRITICAL if foreign else Severity.WARNING,
        subject="safe",
        message=f"{said}; spending is paused" if foreign else said,
        fields={"event": str(event.name), "tx_hash": event.tx_hash},
    )


def treasury_change_lost(place: str, said: str, tx_hash: str, now: int) -> Notice:
    """Make the notice that what was told of a Safe is not on the chain any more."""
    return Notice(
        key=f"treasury_change_lost:{place}",
        at=now,
        kind="treasury_change_lost",
        severity=Severity.WARNING,
        subject="safe",
        message=f"a reorganisation took back: {said}; it may come again, and no pause ends by it",
        fields={"tx_hash": tx_hash},
    )


def treasury_differs(what: str, now: int, *, foreign: bool) -> Notice:
    """Make the notice of a word of a Safe's storage; critical where it was another before."""
    return Notice(
        key=f"treasury_differs:{now}:{what}",
        at=now,
        kind="treasury_differs",
        severity=Severity.CRITICAL if foreign else Severity.WARNING,
        subject="safe",
        message=f"{what}{', and no event told it; spending is paused' if foreign else ''}",
    )


def treasury_differs_no_more(what: str, now: int) -> Notice:
    """Make the notice that a word of a Safe's storage is as it must be again."""
    return Notice(
        key=f"treasury_differs{OVER}:{now}:{what}",
        at=now,
        kind=f"treasury_differs{OVER}",
        severity=Severity.INFO,
        subject="safe",
        message=f"no longer: {what}",
    )


def webhook_disabled(webhook_id: str, why: str, now: int) -> Notice:
    """Make the notice that a webhook is told of nothing more."""
    return Notice(
        key=f"webhook_disabled:{webhook_id}:{now}",
        at=now,
        kind="webhook_disabled",
        severity=Severity.WARNING,
        subject=webhook_id,
        message=(
            f"webhook {webhook_id} is disabled: {why}; when it is well again:"
            f" coordinator webhooks replay {webhook_id}"
        ),
        fields={"webhook_id": webhook_id},
    )


def webhook_event_given_up(webhook_id: str, seq: int, why: str, now: int) -> Notice:
    """Make the notice of one event that a webhook refused for three days."""
    return Notice(
        key=f"webhook_event:{webhook_id}:{seq}",
        at=now,
        kind="webhook_event_given_up",
        severity=Severity.WARNING,
        subject=webhook_id,
        message=f"webhook {webhook_id} did not take event {seq} on any try: {why}",
        fields={"webhook_id": webhook_id, "event_id": str(seq)},
    )


def began(kind: str, severity: Severity, message: str, now: int, subject: str = TREASURY) -> Notice:
    """Make the notice that a condition of the treasury, or of an account, began at ``now``."""
    return Notice(f"{kind}:{now}", now, kind, severity, subject, message)


def passed(kind: str, message: str, now: int, subject: str = TREASURY) -> Notice:
    """Make the notice that the condition is over; if it returns it is told again."""
    return Notice(f"{kind}{OVER}:{now}", now, f"{kind}{OVER}", Severity.INFO, subject, message)


@dataclass(frozen=True, slots=True)
class KeptNotice(Shown):
    """A stored notice; ``due_at`` is None when no delivery is left to try.

    ``delivered_at`` is when the last of the targets had taken it; ``fault`` is why the latest try
    failed. Times are unix seconds.
    """

    seq: int
    notice: Notice
    tries: int
    due_at: int | None
    delivered_at: int | None
    fault: str | None

    @property
    def delivery(self) -> str:
        """The state of its delivery, in a word or two."""
        if self.delivered_at is not None:
            return "delivered"
        if self.due_at is None:
            return f"failed: {self.fault}" if self.fault else "kept"
        return f"tried again: {self.fault}" if self.fault else "waits"

    def as_dict(self) -> dict[str, Any]:
        notice = self.notice
        return {
            "seq": self.seq,
            "at": notice.at,
            "kind": notice.kind,
            "severity": notice.severity.value,
            "subject": notice.subject,
            "message": notice.message,
            "fields": dict(notice.fields),
            "delivery": self.delivery.partition(":")[0],
            "tries": self.tries,
            "delivered_at": self.delivered_at,
            "fault": self.fault,
        }


def worker_refused(event: str, subject: str, seq: int, why: str, now: int) -> Notice:
    """Make the notice that the worker does not believe a decision of a host, once for each row."""
    return Notice(
        key=f"worker_refused:{seq}",
        at=now,
        kind="worker_refused",
        severity=Severity.CRITICAL,
        subject=subject,
        message=f"the worker does not act on {event} of {subject}: {why}",
        fields={"event": event, "subject": subject, "why": why},
    )
