"""coordinator agents: who may ask, and how much they may spend."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from coordinator.domain.errors import UnknownId
from coordinator.interfaces.cli.command import command, mode, new_app, opened
from coordinator.interfaces.cli.output import card, emit, heading, limit_table, say, table
from coordinator.interfaces.cli.purchase_card import show_purchases

app = new_app("agents", "See the agents of the policy.")


@command(app, "list")
def list_() -> None:
    """Every registered agent."""
    with opened(act=False) as coordinator:
        found = coordinator.agents()
    if mode.json:
        emit([as_dict(agent) for agent in found])
        return
    if not found:
        say("the policy registers no agents")
        return
    table(
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
        wrap=("agent", "name", "role", "asks a human above"),
    )


@command(app, "show")
def show(agent_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """One agent: its limits and its latest purchases."""
    with opened(act=False) as coordinator:
        agent = next((a for a in coordinator.agents() if a["agent"] == agent_id), None)
        if agent is None:
            raise UnknownId(f"{agent_id[:60]!r} is not an agent of the policy")
        latest = coordinator.purchases(agent=agent_id, limit=10)
    if mode.json:
        emit(as_dict(agent) | {"purchases": [purchase.as_dict() for purchase in latest]})
        return
    rows = [
        ("name", agent["name"]),
        ("role", agent["role"]),
        ("asks above", f"{agent['approval_threshold']} USDC"),
    ]
    card(f"Agent {agent_id}", "ok" if agent["enabled"] else "disabled", rows)
    heading("Limits, in USDC")
    limit_table(agent["limits"])
    heading("Latest purchases")
    show_purchases(latest)


def as_dict(agent: dict[str, Any]) -> dict[str, Any]:
    """The agent with its limits as JSON shows them."""
    from coordinator.domain.purchase import limit_dict

    return agent | {"limits": [limit_dict(state) for state in agent["limits"]]}


def _left_today(agent: dict[str, Any]) -> str:
    left = [
        state.remaining
        for state in agent["limits"]
        if state.limit.window.value == "daily" and str(state.limit.scope).startswith("agent:")
    ]
    return str(left[0]) if left else "unlimited"
