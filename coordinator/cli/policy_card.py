"""Print an agent's effective limits, an overlay, and a replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordinator.cli.command import mode
from coordinator.cli.output import card, emit, say, short_time, table

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator
    from coordinator.domain.limits.effective import Effective
    from coordinator.domain.purchase.replay import Replay


def show_effective(
    coordinator: Coordinator,
    agent_id: str,
    task: str | None,
    session: str | None,
) -> None:
    """Print the limits in force for an agent and where each comes from."""
    w = coordinator.claimed
    limits = w.limits.effective(agent_id, now=w.clock(), task=task, session=session)
    rules = w.policies.current_rules()
    agent, threshold = rules.policy.agent(agent_id), rules.policy.threshold(agent_id)
    assert agent is not None
    asked_above = "unlimited" if threshold is None else str(threshold)
    if mode.json:
        emit(
            {
                "agent": agent_id,
                "role": agent.role,
                "enabled": rules.enabled(agent_id),
                "approval_threshold": asked_above,
                "limits": [_effective_dict(one) for one in limits],
            }
        )
        return
    rows = [("role", agent.role), ("a human is asked above", asked_above)]
    card(agent_id, None if rules.enabled(agent_id) else "disabled", rows)
    table(
        "scope",
        "window",
        "limit",
        "from",
        rows=(
            (one.limit.scope, one.limit.window.replace("_", " "), one.limit.amount, _origin(one))
            for one in limits
        ),
        right=("limit",),
        wrap=("scope", "from"),
    )


def _effective_dict(one: Effective) -> dict[str, Any]:
    from coordinator.domain.times import rfc3339

    return {
        "scope": str(one.limit.scope),
        "window": one.limit.window.value,
        "limit": str(one.limit.amount),
        "source": one.source,
        "grants": [
            {"id": grant.id, "amount": str(grant.amount), "ends_at": rfc3339(grant.ends_at)}
            for grant in one.grants
        ],
    }


def _origin(one: Effective) -> str:
    grants = (
        f" + {grant.amount} granted ({grant.id})"
        + (f" until {short_time(grant.ends_at)}" if grant.ends_at is not None else "")
        for grant in one.grants
    )
    return one.source + "".join(grants)


def sentence(overlay: dict[str, Any]) -> str:
    """Describe an overlay in a line: what, by whom and why."""
    what = f"{overlay['kind']} {overlay['id']}: {overlay['scope']}"
    if overlay["amount"] is not None:
        more = "+" if overlay["kind"] == "grant" else ""
        what += f" {overlay['window']} {more}{overlay['amount']} USDC"
    until = f" until {overlay['ends_at']}" if overlay["ends_at"] else ""
    return f"{what} from {overlay['starts_at']}{until}, by {overlay['author']}: {overlay['reason']}"


def show_replay(found: Replay) -> None:
    """Print what another policy would have said otherwise."""
    if mode.json:
        emit(found.as_dict())
        return
    counts = [(name.replace("_", " "), str(count)) for name, count in found.counts.items()]
    left_out = (
        f"{found.left_out} denied for pauses, closed tasks or balances" if found.left_out else None
    )
    card("Replay", None, [("judged", str(found.judged)), *counts, ("left out", left_out)])
    if not found.differences:
        return
    say()
    table(
        "at",
        "purchase",
        "agent",
        "amount",
        "was",
        "would be",
        "why",
        rows=(
            (
                short_time(one.at),
                one.id,
                one.request.agent,
                one.request.amount,
                one.before,
                one.after,
                one.reason.message if one.reason else "",
            )
            for one in found.differences
        ),
        right=("amount",),
        wrap=("why",),
    )
