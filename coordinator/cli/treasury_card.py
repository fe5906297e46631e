"""Print a treasury that is a Safe: its plan, its chain, and the calls that owners sign."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from coordinator.cli.output import card, heading, readable_time, say, table, usdc

if TYPE_CHECKING:
    from coordinator.provisioning.safe_treasury import (
        AllowanceLeft,
        Plan,
        Proposal,
        SafeTreasury,
        Shown,
    )


def plan_dict(treasury: SafeTreasury, plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON; ``transaction`` is what owners would sign."""
    proposal = plan.proposal
    return {
        **_places(treasury),
        "missing_contracts": [*plan.missing],
        "safe_created": plan.on_chain.created,
        "set_up": plan.on_chain.set_up,
        "transaction": None if proposal is None else proposal.document(treasury.says(proposal)),
    }


def show_plan(treasury: SafeTreasury, plan: Plan) -> None:
    """Print what a deployment would do."""
    status = "set up" if plan.on_chain.set_up else "created" if plan.on_chain.created else "planned"
    card(f"Treasury on chain {treasury.chain_id}", status, _rows(treasury))
    if plan.missing:
        heading("Audited contracts that this chain lacks, and that would be deployed")
        for one in plan.missing:
            say(f"  {one}")
    if not plan.on_chain.created:
        say(f"  then the Safe {treasury.places.safe} would be created")
    if plan.proposal is not None:
        show_proposal(treasury, plan.proposal)


def show_proposal(treasury: SafeTreasury, proposal: Proposal) -> None:
    """Print in words what owners are about to sign, and its hash."""
    many = "one call" if len(proposal.calls) == 1 else f"{len(proposal.calls)} calls, all or none"
    heading(f"The owners' transaction number {proposal.nonce}: {many}")
    for number, text in enumerate(treasury.says(proposal), start=1):
        say(f"  {number}. {text}")
    say(f"  hash 0x{proposal.digest.hex()}")


def proposal_dict(
    treasury: SafeTreasury, proposal: Proposal, found: Sequence[Any], needed: int
) -> dict[str, Any]:
    """Return a transaction as JSON, with its signatures ``found`` so far."""
    return {
        "transaction": proposal.document(treasury.says(proposal)),
        "gives_roles_to": treasury.given_roles(proposal),
        "signed": len(found),
        "needed": needed,
    }


def shown_dict(treasury: SafeTreasury, shown: Shown) -> dict[str, Any]:
    """Return a treasury on its chain as JSON."""
    from coordinator.domain.times import rfc3339

    at = shown.on_chain
    return {
        **_places(treasury),
        "block": at.block,
        "at": rfc3339(at.time),
        "owners_on_chain": [*at.owners],
        "threshold_on_chain": at.threshold,
        "nonce": at.nonce,
        "usdc": None if at.usdc is None else str(at.usdc),
        "members": [*at.members],
        "allowances": [
            {
                "name": one.name,
                "left": one.left,
                "at_once": one.at_once,
                "refill": one.refill,
                "refill_seconds": one.period,
                "refills_at": None if one.refills_at is None else rfc3339(one.refills_at),
            }
            for one in shown.allowances
        ],
        "differences": [*shown.differences],
        "warnings": [*shown.warnings],
    }


def show_on_chain(treasury: SafeTreasury, shown: Shown) -> None:
    """Print a treasury as its chain has it, and every difference to the policy."""
    at = shown.on_chain
    status = "as the policy says" if not shown.differences else "DIFFERS"
    rows = [
        *_rows(treasury, owners=at.owners, threshold=at.threshold),
        ("USDC", usdc(at.usdc) if at.usdc is not None else None),
        ("keys with a role", ", ".join(at.members) or "none"),
        ("next number", at.nonce if at.created else None),
        ("as of block", at.block),
    ]
    card(f"Treasury on chain {treasury.chain_id}", status, rows)
    if shown.allowances:
        heading("What the chain leaves")
        table(
            "allowance",
            "left",
            "at once",
            "comes back",
            "next",
            rows=(_allowance_row(one) for one in shown.allowances),
            right=("left", "at once"),
            wrap=("comes back", "next"),
        )
    if shown.differences:
        heading("Differences to the policy")
        for text in shown.differences:
            say(f"  {text}", style="red")
    for text in shown.warnings:
        say(f"  {text}", style="yellow")
    if not (shown.differences or treasury.pays):
        heading("To pay from it, in .env")
        say("COORDINATOR_PAYER=safe")
        say(f"COORDINATOR_SAFE_ADDRESS={treasury.places.safe}")
        say(f"COORDINATOR_ROLES_ADDRESS={treasury.places.roles}")


def _allowance_row(one: AllowanceLeft) -> tuple[Any, ...]:
    back = f"{one.refill} every {one.period // 60} min" if one.period else "never"
    return (one.name, one.left, one.at_once, back, readable_time(one.refills_at) or "")


def _places(treasury: SafeTreasury) -> dict[str, Any]:
    return {
        "chain_id": treasury.chain_id,
        "safe": treasury.places.safe,
        "roles": treasury.places.roles,
        "owners": [*treasury.limits.owners],
        "threshold": treasury.limits.threshold,
        "key": treasury.limits.member,
        "limits": _limits(treasury),
    }


def _limits(treasury: SafeTreasury) -> dict[str, Any]:
    table = treasury.policy.treasury
    assert table is not None
    plain = table.model_dump(mode="json")
    for key in ("owners", "threshold"):
        del plain[key]
    names = {one.address: name for name, one in treasury.policy.providers.items()}
    return plain | {"providers": [names[address] for address in treasury.limits.providers]}


def _rows(
    treasury: SafeTreasury, *, owners: Sequence[str] = (), threshold: int | None = None
) -> Iterator[tuple[str, Any]]:
    said = _limits(treasury)
    owned = owners or treasury.limits.owners
    needed = threshold or treasury.limits.threshold
    yield "Safe", treasury.places.safe
    yield "roles", treasury.places.roles
    yield "owners", ", ".join(owned)
    yield "sign together", f"{needed} of {len(owned)}"
    yield "worker's key", treasury.limits.member
    yield "in any 24 hours", usdc(said["daily_limit"])
    yield "in all", usdc(said["total_limit"]) if said["total_limit"] else "no total"
    yield "a purchase", f"at most {usdc(said['per_purchase_limit'])}"
    yield "providers", ", ".join(said["providers"])
    yield "deadlines before", said["deadline_before"]
    if said["disputes_daily"]:
        bonds = usdc(said["bonds_daily_limit"])
        yield "disputes a day", f"{said['disputes_daily']}, with bonds of {bonds}"
    if said["x402_daily_limit"]:
        yield "to the x402 wallet", f"{usdc(said['x402_daily_limit'])} in any 24 hours"
