"""The report and the gas report as people read them."""

from __future__ import annotations

from typing import Any

from coordinator.cli.output import card, heading, next_commands, remaining_text, say, table, usdc


def show_report(found: dict[str, Any]) -> None:
    """Print the money's way, the budget, who spent it, and what needs somebody."""
    block = found["as_of_block"]
    as_of = f"as of block {block:,}" if block is not None else "the chain was not read yet"
    span = " ".join(
        f"{word} {found[word]}" for word in ("since", "until") if found[word] is not None
    )
    names = ["opening", "deposits", "paid", "fees", "penalties", "refunds", "withdrawals"]
    names += ["bonds_lost"] if found["bonds_lost"] != "0.00" else []
    names += ["in_escrow", "closing"]
    width = max(len(found[name]) for name in names)
    rows = [(name.replace("_", " "), usdc(found[name].rjust(width))) for name in names]
    card(f"Treasury, {as_of} {span}".rstrip(), None, rows)
    _budget(found)
    costs = found["off_chain"]
    if costs != {"spent": "0.00", "held": "0.00"}:
        heading(f"Costs without an escrow {span}".rstrip())
        say(f"  spent {costs['spent']}, held {costs['held']}; the budget above counts them")
    for name in ("agent", "category", "provider"):
        _by(name, found[f"by_{name}"])
    _wallet(found["wallet"])
    _open(found)
    heading("Gas")
    gas = found["gas"]
    more = gas["purchases_left"]
    reach = f", enough for {more:,} more purchases" if more is not None else ""
    say(f"  {eth(gas['balance_wei'])} ETH{reach}")
    if gas["warning"]:
        say(f"  {gas['warning']}", style="yellow")
    say()
    say(f"audit head {found['audit_head']}", style="dim")


def _budget(found: dict[str, Any]) -> None:
    heading("Budget of the organisation, in total, USDC")
    left = remaining_text(found["remaining"] or "unlimited")
    if not left.startswith("exceeded"):
        left = f"remaining {left}"
    say(
        f"  limit {found['total_limit'] or 'unlimited'}, spent {found['spent']},"
        f" held {found['held']}, {left}"
    )
    for scope in found["paused"]:
        say(f"  spending is paused: {scope}", style="yellow")


def _by(name: str, sums: dict[str, Any]) -> None:
    """Purchases, and beside them costs that no escrow holds, where there are any."""
    if not sums:
        return
    rows = [
        (who, used["spent"], used["held"], used["off_chain"]["spent"], used["off_chain"]["held"])
        for who, used in sums.items()
    ]
    costs = any(row[3:] != ("0.00", "0.00") for row in rows)
    columns = (name, "spent", "held", *(("costs", "costs held") if costs else ()))
    say()
    shown = [row[: len(columns)] for row in rows]
    table(*columns, rows=shown, right=columns[1:], wrap=(name,))


def _wallet(found: dict[str, Any] | None) -> None:
    """Print the wallet that pays for HTTP requests, whose USDC the treasury's has in it."""
    if found is None:
        return
    heading("Wallet for HTTP requests, USDC")
    say(f"  balance {found['booked']}, held {found['held']}, top-ups {found['top_ups']}")


def _open(found: dict[str, Any]) -> None:
    if found["pending_approvals"]:
        heading("Waiting for approval")
        for item in found["pending_approvals"]:
            say(f"  {item['approval_id']}  {item['amount']} USDC, expires {item['expires_at']}")
    if found["stranded"]:
        heading("Stranded (the reason says who can free it)")
        for item in found["stranded"]:
            say(f"  {item['purchase_id']}  {item['why']}", style="red")
    if found["discrepancies"]:
        heading("Discrepancies")
        for item in found["discrepancies"]:
            say(f"  {item['id']}  {item['kind']}: {item['detail']}", style="red")
        next_commands("coordinator reconcile")


def show_gas(found: dict[str, Any]) -> None:
    """Print the gas balance, how far it reaches, and what it went for."""
    left = found["purchases_left"]
    rows = [
        ("treasury", found["address"]),
        ("balance", f"{eth(found['balance_wei'])} ETH"),
        ("as of block", found["as_of_block"]),
        ("purchases left", f"{left:,} at the current fee" if left is not None else None),
        ("warning", found["warning"]),
    ]
    card("Gas", "warn" if found["warning"] else "ok", rows)
    if found["by_step"]:
        say()
        table(
            "step",
            "count",
            "gas each",
            "ETH",
            rows=(
                (step, used["count"], f"{used['gas_used'] // used['count']:,}", eth(used["wei"]))
                for step, used in found["by_step"].items()
            ),
            right=("count", "gas each", "ETH"),
        )
    if found["by_agent_wei"]:
        say()
        table(
            "agent",
            "ETH",
            rows=((who or "treasury", eth(wei)) for who, wei in found["by_agent_wei"].items()),
            right=("ETH",),
            wrap=("agent",),
        )


def eth(wei: int) -> str:
    """Wei as ETH with nine decimals, rounded down to a gwei."""
    gwei = wei // 10**9
    return f"{gwei // 10**9}.{gwei % 10**9:09d}"
