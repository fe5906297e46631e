"""coordinator x402: the wallet that pays for HTTP requests, and filling it by hand."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from coordinator.cli.command import (
    Timeout,
    Yes,
    ask,
    command,
    confirm,
    mode,
    new_app,
    opened,
)
from coordinator.cli.money import tell_order
from coordinator.cli.output import card, emit, next_commands, usdc
from coordinator.domain.errors import InvalidRequest

app = new_app("x402", "The wallet that pays for HTTP requests: its float, and filling it.")


@command(app, "wallet")
def wallet() -> None:
    """Show the wallet's USDC, what is held of it, and what the policy fills it with."""
    with opened(act=False) as coordinator:
        found = coordinator.x402_wallet()
    if found is None:
        raise InvalidRequest(
            "this treasury has no wallet that pays for HTTP requests: set COORDINATOR_X402_SIGNER",
            code="x402_unavailable",
        )
    if mode.json:
        emit(found)
        return
    rows = [
        ("USDC", usdc(found["usdc"]) if found["usdc"] is not None else "never read"),
        ("held for payments", usdc(found["held"])),
        ("free", usdc(found["free"]) if found["free"] is not None else None),
        ("as of block", found["as_of_block"]),
        *wallet_rows(found),
        ("gas", "ETH is not needed: others submit its payments"),
    ]
    card(f"Wallet {found['address']}", None, rows)
    next_commands("coordinator x402 top-up --amount 5.00 --by NAME")


@command(app, "top-up")
def top_up(
    amount: Annotated[str, typer.Option(help='USDC as digits, such as "25.00".')],
    by: Annotated[str | None, typer.Option(help="Your name, for the audit log (required).")] = None,
    reason: Annotated[str, typer.Option(help="The reason, for the audit log.")] = "ordered by hand",
    timeout_seconds: Timeout = 60,
    yes: Yes = False,
) -> int:
    """Send USDC from the treasury to the wallet, within the policy's daily limit."""
    by = ask("Your name", by, "--by NAME")
    with opened() as coordinator:
        confirm(f"Send {usdc(amount)} to the wallet that pays for HTTP requests?", yes=yes)
        order = coordinator.top_up(amount, by=by, reason=reason, timeout_seconds=timeout_seconds)
        return tell_order(coordinator, order)


def wallet_rows(found: dict[str, Any]) -> list[tuple[str, Any]]:
    """Rows of what fills it, by policy and of late."""
    below, to, daily = (found[f"top_up_{name}"] for name in ("below", "to", "daily_limit"))
    filled = f"below {below}, up to {usdc(to)}" if below is not None else "by people alone"
    limit = f"at most {usdc(daily)} in 24 hours, {found['top_up_left']} left"
    return [
        ("top-ups so far", usdc(found["top_ups"])),
        ("is filled", filled if daily is not None else None),
        ("daily limit", limit if daily is not None else "the policy allows no top-ups"),
    ]
