"""A request for more of a limit as people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from coordinator.cli.approval_card import show_next, show_past, show_words
from coordinator.cli.output import card, heading, limit_table, local_time, usdc

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator
    from coordinator.domain.limits.increase import Increase
    from coordinator.domain.limits.limits import LimitState
    from coordinator.domain.purchase.background import Background
    from coordinator.domain.statements.signed import SigningRequest

PREFIX: Final = "inc_"


def show_increase(
    coordinator: Coordinator,
    asked: Increase,
    background: Background | None = None,
    request: SigningRequest | None = None,
) -> None:
    """Print what the approver has to know: who, how much of what, how long, why, what is left."""
    by = ", ".join(asked.approved_by) or "nobody yet"
    rows: list[tuple[str, Any]] = [
        ("agent", asked.agent),
        ("asks", f"{usdc(asked.amount)} more {asked.window.words} of {asked.scope}"),
        ("takes it from", "the pool's other agents" if asked.kind == "emergency" else None),
        ("for", f"{asked.lasts_seconds / 3600:g} h once granted"),
        ("why", asked.why),
        ("reason", asked.reason.message if asked.reason else None),
        ("asked", local_time(asked.created_at)),
        ("expires", local_time(asked.expires_at) if asked.waits else None),
        ("approved by", f"{by} ({asked.required} needed)" if asked.waits else by),
        ("ends", local_time(asked.ends_at)),
    ]
    card(f"Increase {asked.id}", asked.status.value, rows)
    states = limits_of(coordinator, asked)
    if states:
        heading("The limit now, in USDC")
        limit_table(states)
    if background is not None:
        show_past(background.agent, coordinator.wiring.policies.current())
    show_words(request)
    if asked.waits:
        show_next(
            f"With the last approval {asked.agent} may spend {usdc(asked.amount)} more, for"
            f" {asked.lasts_seconds / 3600:g} h.",
            "`coordinator limits withdraw` ends it before; what was spent of it stays spent.",
        )


def pending_increase(coordinator: Coordinator, asked: Increase) -> dict[str, Any]:
    """The request among approvals, by the keys that those of purchases have."""

    told = asked.as_dict()
    kept = ("kind", "agent", "amount", "created_at", "expires_at", "required", "approved_by")
    return {
        "approval_id": asked.id,
        "purchase_id": None,
        "status": "awaiting_approval" if asked.waits else asked.status.value,
        "provider": None,
        "provider_name": None,
        "purpose": asked.why,
        **dict.fromkeys(("service", "category", "task", "session", "reason")),
        "refusals": [],
        **{key: told[key] for key in (*kept, "scope", "window", "lasts_seconds")},
        "limits": [state.as_dict() for state in limits_of(coordinator, asked)],
    }


def limits_of(coordinator: Coordinator, asked: Increase) -> list[LimitState]:
    """The limit that it is about; empty when there is none any more."""
    wiring = coordinator.wiring
    states = wiring.limits.states(asked.terms, now=wiring.clock())
    wanted = (asked.scope, asked.window)
    return [state for state in states if (state.limit.scope, state.limit.window) == wanted]


def question(what: str, asked: Increase, approver: str) -> str:
    """Return the question to confirm before it is decided."""
    return f"{what} {asked.agent} {usdc(asked.amount)} more of {asked.scope} as {approver}?"
