"""Say what happened in words that a model can act on: denials, faults, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Final

from mcp.server.mcpserver.exceptions import ToolError

from coordinator_client.errors import (
    CoordinatorError,
    Forbidden,
    IdempotencyConflict,
    OutcomeUnknown,
    TooManyRequests,
    Unauthenticated,
)
from coordinator_client.values import LimitState, Purchase, Reason
from coordinator_client.words import ReasonCode, Status

_ADVICE: Final = {
    ReasonCode.PROVIDER_NOT_ALLOWED: "list_providers names whom you may pay.",
    ReasonCode.CATEGORY_REQUIRED: "list_providers names the categories.",
    ReasonCode.CATEGORY_NOT_ALLOWED: "list_providers names the categories.",
    ReasonCode.TASK_REQUIRED: "Name the task.",
    ReasonCode.SESSION_REQUIRED: "Name the session.",
    ReasonCode.TOO_MANY_WAITING: "Wait until people decided on what waits already.",
}
_BY_OPERATORS: Final = "If it was spent, tell an operator, who can record it all the same."
_OF_LIMITS: Final = "Ask for less, wait for the reset, or call request_limit_increase."
_NEXT: Final = {
    Status.APPROVED: "It is being paid: call purchase_status to follow it.",
    Status.CREATED: "It is being paid: call purchase_status to follow it.",
    Status.FUNDED: "The USDC is in escrow: the provider delivers.",
    Status.STARTED: "The provider works on it.",
    Status.DELIVERED: "The provider says it delivered: if it did not, call contest_delivery.",
    Status.DISPUTED: "Its delivery is disputed: a mediator decides.",
    Status.SETTLED: "It is paid.",
}
_ENDED: Final = "It ended without a payment; another purchase needs another reference."
_WAITS: Final = "People have to approve it; nothing is paid until then."


def denial(reasons: Iterable[Reason], limits: Sequence[LimitState]) -> ToolError:
    """Return the tool's error for a purchase that policy refuses."""
    given = list(reasons)
    said = [f"Denied: {_told(given)}. Nothing is bought, held or spent.", *_standing(limits)]
    if any(state.broken for state in limits):
        said.append(_OF_LIMITS)
    said += dict.fromkeys(_ADVICE[reason.code] for reason in given if reason.code in _ADVICE)
    return ToolError(" ".join(said))


def not_recorded(reasons: Iterable[Reason], limits: Sequence[LimitState]) -> ToolError:
    """Return the tool's error for a cost that an agent's key may not record."""
    said = [f"Not recorded: {_told(reasons)}.", *_standing(limits), _BY_OPERATORS]
    return ToolError(" ".join(said))


def _told(reasons: Iterable[Reason]) -> str:
    return "; ".join(f"{reason.message} ({reason.code})" for reason in reasons)


def _standing(limits: Sequence[LimitState]) -> Iterator[str]:
    """Say how each broken limit stands, and what would pass all of them."""
    broken = [state for state in limits if state.broken]
    yield from map(limit_sentence, broken)
    if broken:
        yield _headroom(limits)


def limit_sentence(state: LimitState) -> str:
    """Say how a limit stands."""
    used = state.usage.held + state.usage.spent
    resets = "it never resets"
    if state.resets_at is not None:
        resets = f"it resets at {utc(state.resets_at)} (unix {state.resets_at})"
    elif state.limit.window == "per_purchase":
        return f"Limit of one purchase by {state.limit.scope}: {state.limit.amount} USDC."
    return (
        f"Limit {state.limit.scope} {state.limit.window}: {used} of {state.limit.amount} USDC used"
        f" or held, {state.remaining} left; {resets}."
    )


def _headroom(limits: Sequence[LimitState]) -> str:
    least = min(limits, key=lambda state: state.remaining)
    if least.remaining.base_units > 0:
        return f"At most {least.remaining} USDC would pass these limits at this moment."
    return "No amount passes these limits at this moment."


def fault(tool: str, error: CoordinatorError, reference: str | None = None) -> ToolError:
    """Return the tool's error for a request that was refused, or whose answer was lost."""
    if isinstance(error, OutcomeUnknown) or error.money_moved is None:
        again = (
            f"call {tool} again with the same arguments and the same reference {reference!r}, which"
            " never counts twice, and with no other reference"
            if reference is not None
            else f"call {tool} again: it may be repeated"
        )
        return ToolError(f"The answer was lost, so it is not known whether this was done: {again}.")
    if isinstance(error, (Unauthenticated, Forbidden)):
        return ToolError(
            f"Not done ({error.code}): {error}; this needs an agent's API key that counts, which"
            " whoever operates the treasury gives."
        )
    if isinstance(error, IdempotencyConflict):
        return ToolError(
            f"Not done ({error.code}): the reference {reference!r} was used with other terms;"
            " repeat those terms to see what became of it, or use another reference for something"
            " else."
        )
    if isinstance(error, TooManyRequests):
        wait = error.retry_after_seconds or 1
        return ToolError(
            f"Not done ({error.code}): too many requests; call {tool} again in {wait:g} s."
        )
    said = str(error).rstrip(".")
    return ToolError(f"Not done ({error.code}): {said}; nothing is bought, held or spent.")


def next_step(purchase: Purchase) -> str:
    """Say what whoever asked for it should do."""
    if purchase.needs_approval:
        return _WAITS
    if purchase.blocker is not None:
        return f"It waits: {purchase.blocker.message}"
    return _NEXT.get(purchase.status, _ENDED if purchase.final else "Call purchase_status.")


def utc(second: int) -> str:
    """Return a unix second as RFC 3339."""
    return datetime.fromtimestamp(second, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
