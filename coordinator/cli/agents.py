"""coordinator agents: list and show agents, disable and enable them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from coordinator.cli.command import ask, command, mode, new_app, opened
from coordinator.cli.output import card, emit, heading, limit_table, listing, tell
from coordinator.cli.purchase_card import show_purchases
from coordinator.domain.errors import UnknownId

app = new_app("agents", "List, show, disable and enable the policy's agents.")

AgentId = Annotated[str, typer.Argument(metavar="ID")]
By = Annotated[str | None, typer.Option(help="Your name, for the audit log (required).")]
Reason = Annotated[str | None, typer.Option(help="The reason, for the audit log (required).")]


@command(app, "list")
def list_() -> None:
    """List every registered agent."""
    with opened(act=False) as coordinator:
        found = coordinator.agents()
    listing(
        [as_dict(agent) for agent in found],
        "agent",
        "name",
        "role",
        "enabled",
        "asks a human above",
        "left today",
        rows=(
            (
                agent["agent"],
                agent["name"],
                agent["role"],
                "yes" if agent["enabled"] else "no",
                agent["approval_threshold"],
                _left_today(agent),
            )
            for agent in found
        ),
        right=("asks a human above", "left today"),
        empty="the policy registers no agents",
        wrap=("agent", "name", "role", "asks a human above"),
    )


@command(app, "show")
def show(agent_id: AgentId) -> None:
    """Show one agent: its service level, limits and latest purchases."""
    with opened(act=False) as coordinator:
        agent = next((a for a in coordinator.agents() if a["agent"] == agent_id), None)
        if agent is None:
            raise UnknownId(f"{agent_id[:60]!r} is not an agent of the policy")
        latest = coordinator.purchases(agent=agent_id, limit=10)
        level = coordinator.service_level(agent_id)
    if mode.json:
        told = {
            "service_level": level.name,
            "features": list(level.features),
            "remaining_percent": level.remaining_percent,
            "purchases": [purchase.as_dict() for purchase in latest],
        }
        emit(as_dict(agent) | told)
        return
    left = f", {level.remaining_percent} % of {level.scope} is left" if level.scope else ""
    rows = [
        ("name", agent["name"]),
        ("role", agent["role"]),
        ("asks above", f"{agent['approval_threshold']} USDC"),
        ("service level", f"{level.name}{left}"),
        ("features", ", ".join(level.features)),
    ]
    card(f"Agent {agent_id}", "ok" if agent["enabled"] else "disabled", rows)
    heading("Limits, in USDC")
    limit_table(agent["limits"])
    heading("Latest purchases")
    show_purchases(latest)


@command(app, "disable")
def disable(agent_id: AgentId, by: By = None, reason: Reason = None) -> None:
    """Deny every new request of an agent; its open purchases continue."""
    _set_enabled(agent_id, False, by, reason)


@command(app, "enable")
def enable(agent_id: AgentId, by: By = None, reason: Reason = None) -> None:
    """Enable a disabled agent."""
    _set_enabled(agent_id, True, by, reason)


def _set_enabled(agent_id: str, enabled: bool, by: str | None, reason: str | None) -> None:
    by = ask("Your name", by, "--by NAME")
    reason = ask("Reason", reason, "--reason TEXT")
    with opened(act=False) as coordinator:
        change = coordinator.enable_agent if enabled else coordinator.disable_agent
        changed = change(agent_id, by=by, reason=reason)
        is_enabled = coordinator.wiring.policies.current_rules().enabled(agent_id)
    state = "enabled" if is_enabled else "disabled"
    text = f"{agent_id} is {state}" + ("" if changed else " already")
    if enabled and not is_enabled:
        text = f"{agent_id} is disabled by the policy file: change it there"
    tell({"agent": agent_id, "enabled": is_enabled, "changed": changed}, text)


def as_dict(agent: dict[str, Any]) -> dict[str, Any]:
    """The agent with its limits as JSON shows them."""

    return agent | {"limits": [state.as_dict() for state in agent["limits"]]}


def _left_today(agent: dict[str, Any]) -> str:
    left = [
        state.remaining
        for state in agent["limits"]
        if state.limit.window.value == "daily" and str(state.limit.scope).startswith("agent:")
    ]
    return str(left[0]) if left else "unlimited"
