"""Deploying contracts, and USDC into and out of the treasury."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from coordinator.cli.command import (
    DryRun,
    Timeout,
    Yes,
    ask,
    confirm,
    fail,
    mode,
    opened,
    operator_name,
    refuse,
)
from coordinator.cli.exits import ExitCode, of_refusal
from coordinator.cli.output import card, emit, heading, next_commands, say, tell, usdc
from coordinator.domain.errors import ConfigurationError, InvalidRequest

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator
    from coordinator.domain.purchase.order import Order

_ETH: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,18})?", re.ASCII)


def deploy(
    usdc: Annotated[
        str | None,
        typer.Option(help="The token to use; default on a local chain: deploy Circle's USDC."),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Deploy kernel and vault on a test chain; running it again changes nothing."""
    from coordinator.config import environment, load_settings
    from coordinator.domain.address import checksummed
    from coordinator.provisioning.contracts import plan_deployment
    from coordinator.wiring import wire

    env = environment()
    w = wire(env, load_settings(env))
    token = None
    if usdc is not None:
        try:
            token = checksummed(usdc)
        except ValueError as fault:
            raise InvalidRequest(str(fault)) from None
    plan = plan_deployment(w, token)
    if not (w.network.local or dry_run):
        confirm(f"Deploy on {w.network.name} at the cost of {plan.deployer.address}?", yes=yes)
    made = plan.carry_out(dry_run=dry_run)
    d = made.deployment
    if mode.json:
        emit(
            {
                "network": w.network.name,
                "chain_id": d.chain_id,
                "kernel": d.kernel,
                "vault": d.vault,
                "usdc": d.usdc,
                "block": d.block,
                "path": str(made.path),
                "deployed": made.done and not dry_run,
                "dry_run": dry_run,
                "steps": list(made.steps),
            }
        )
        return
    status = "dry run" if dry_run else "deployed" if made.done else "there already"
    rows = [("kernel", d.kernel), ("vault", d.vault), ("USDC", d.usdc), ("file", made.path)]
    card(f"Contracts on chain {d.chain_id}", status, rows)
    for step in made.steps if dry_run else ():
        say(f"  would {step}")
    if not w.network.local and made.done:
        heading("To use them instead of ACTP's own, in .env")
        say(f"COORDINATOR_KERNEL_ADDRESS={d.kernel}")
        say(f"COORDINATOR_VAULT_ADDRESS={d.vault}")
        say(f"COORDINATOR_USDC_ADDRESS={d.usdc}")
    if w.network.local and not dry_run:
        next_commands("coordinator fund", "coordinator doctor")


def fund(
    amount: Annotated[str, typer.Option("--usdc", help="Test USDC to mint.")] = "1000",
    eth: Annotated[str, typer.Option(help="ETH to add, on a local chain only.")] = "0.05",
    timeout_seconds: Timeout = 60,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Give the treasury test USDC, and on a local chain ETH for gas; refused on base."""
    from coordinator.domain.inputs import positive_amount

    asked = positive_amount(amount)
    wei = _wei(eth)
    with opened(act=not dry_run) as coordinator:
        w = coordinator.wiring
        if w.network.name == "base":
            raise ConfigurationError(
                "base has real USDC, which nobody can mint:"
                f" send USDC to {w.treasury_address}, and ETH for gas to {w.signer.address}"
            )
        w.chain  # noqa: B018  # what the endpoint is, before anything is made of it
        if dry_run:
            return _tell_fund_plan(coordinator, str(asked), eth)
        if w.network.local:
            from coordinator.provisioning.contracts import fund_local

            fund_local(w, usdc=asked, wei=wei)
            return _tell_balances(coordinator)
        seen = w.chain.observe()
        if not seen.gas_balance_wei:
            return fail(
                "insufficient_gas",
                f"minting needs ETH for gas: send some to {w.signer.address} (a faucet gives it)",
                ExitCode.CHAIN,
            )
        confirm(f"Mint {asked} test USDC for {w.treasury_address}?", yes=yes)
        minted = coordinator.mint(asked, by=operator_name(None), timeout_seconds=timeout_seconds)
        return tell_order(coordinator, minted)


def withdraw(
    to: Annotated[str, typer.Option(help="The address to send it to.")],
    amount: Annotated[str, typer.Option(help='USDC as digits, such as "25.00".')],
    approver: Annotated[str | None, typer.Option(help="The approver's name (required).")] = None,
    reason: Annotated[
        str | None, typer.Option(help="The reason, for the audit log (required).")
    ] = None,
    timeout_seconds: Timeout = 60,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Send USDC out of the treasury; it needs as many approvers as a purchase of that amount."""
    approver = ask("Your name in the policy", approver, "--approver NAME")
    reason = ask("Reason", reason, "--reason TEXT")
    with opened(act=not dry_run) as coordinator:
        terms = {"to": to, "amount": amount, "approver": approver, "reason": reason}
        refusal = coordinator.wiring.treasury.check_withdrawal(**terms)
        if refusal is not None:
            return refuse(refusal, of_refusal(refusal))
        if dry_run:
            return _tell_withdrawal_plan(coordinator, terms)
        confirm(f"Send {usdc(amount)} to {to}?", yes=yes)
        found = coordinator.withdraw(**terms, timeout_seconds=timeout_seconds)
        return tell_order(coordinator, found)


def _tell_fund_plan(coordinator: Coordinator, amount: str, eth: str) -> int:
    w = coordinator.wiring
    plan = {
        "dry_run": True,
        "treasury": w.treasury_address,
        "usdc": amount,
        "eth": eth if w.network.local else None,
    }
    and_eth = f" and {eth} ETH" if w.network.local else ""
    tell(plan, f"dry run: would give {w.treasury_address} {amount} test USDC{and_eth}")
    return ExitCode.OK


def _tell_withdrawal_plan(coordinator: Coordinator, terms: dict[str, str]) -> int:
    from coordinator.domain.inputs import positive_amount

    seen = coordinator.wiring.chain.observe()
    if positive_amount(terms["amount"]) > seen.usdc_balance:
        return fail(
            "insufficient_usdc",
            f"the treasury holds {usdc(seen.usdc_balance)}: not enough for {usdc(terms['amount'])}",
            ExitCode.CHAIN,
            dry_run=True,
        )
    tell(
        {"dry_run": True, **terms, "usdc_balance": str(seen.usdc_balance)},
        f"dry run: would send {usdc(terms['amount'])} to {terms['to']};"
        f" the treasury holds {usdc(seen.usdc_balance)}",
    )
    return ExitCode.OK


def _tell_balances(coordinator: Coordinator) -> int:
    from coordinator.domain.chain.gas import eth

    w = coordinator.wiring
    seen = w.chain.observe()
    balances = {
        "treasury": w.treasury_address,
        "usdc_balance": str(seen.usdc_balance),
        "eth_balance": eth(seen.gas_balance_wei),
        "block": seen.head.number,
    }
    if mode.json:
        emit(balances)
    else:
        rows = [
            ("USDC", usdc(seen.usdc_balance)),
            ("gas", f"{balances['eth_balance']} ETH"),
            ("as of block", seen.head.number),
        ]
        card(f"Treasury {w.treasury_address}", None, rows)
        next_commands(
            "coordinator doctor",
            "coordinator purchase request --agent research-agent --provider paper-api"
            ' --amount 25.00 --category api --purpose "Academic paper API access"',
        )
    return ExitCode.OK


def tell_order(coordinator: Coordinator, order: Order) -> int:
    """Print the order with its transactions, which the audit log names."""
    from coordinator.domain.times import rfc3339

    rows = list(coordinator.wiring.audit.rows(subject=order.id))
    sent = {row["body"]["tx_hash"]: row["body"] for row in rows if "tx_hash" in row["body"]}
    transactions = [
        {
            "step": order.kind,
            "hash": tx_hash,
            "block": body.get("block"),
            "url": coordinator.wiring.network.tx_url(tx_hash),
        }
        for tx_hash, body in sent.items()
    ]
    if mode.json:
        emit(
            {
                "order_id": order.id,
                "kind": order.kind,
                "status": order.status,
                "recipient": order.recipient,
                "amount": str(order.amount),
                "by": order.by,
                "reason": order.reason,
                "message": order.message,
                "created_at": rfc3339(order.created_at),
                "transactions": transactions,
            }
        )
    else:
        shown: list[tuple[str, Any]] = [
            ("amount", usdc(order.amount)),
            ("to", order.recipient),
            ("by", order.by),
            ("reason", order.reason),
            ("why", order.message),
            *(("transaction", found["url"]) for found in transactions),
        ]
        card(f"{order.kind.capitalize()} {order.id}", order.status, shown)
        if order.status == "approved":
            next_commands("coordinator recover")
        elif order.status == "awaiting_approval":
            next_commands(f"coordinator approvals approve {order.id} --approver NAME")
    if order.status == "awaiting_approval":
        return ExitCode.AWAITING_APPROVAL
    return ExitCode.OK if order.status == "done" else ExitCode.CHAIN


def _wei(text: str) -> int:
    if not _ETH.fullmatch(text):
        raise InvalidRequest(f'{text[:40]!r} is not an amount of ETH: write it like "0.05"')
    whole, _, part = text.partition(".")
    return int(whole) * 10**18 + int(part.ljust(18, "0"))
