"""coordinator approvals statement: print what another device or a Safe's owners sign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.approval_card import show_words
from coordinator.cli.command import ask, mode, opened
from coordinator.cli.output import emit, heading, lines_of, next_commands
from coordinator.cli.signing import safes_of
from coordinator.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from coordinator.domain.statements.signed import SigningRequest


def statement(
    approval_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="apr_…, an increase, inc_…, a proposal, or a purchase to dispute"
        ),
    ],
    reject: Annotated[bool, typer.Option("--reject", help="To reject it instead.")] = False,
    reason: Annotated[
        str | None, typer.Option(help="The reason of a rejection, which is signed too.")
    ] = None,
    safe: Annotated[
        str | None, typer.Option(help="What the owners of this Safe sign: its address, 0x….")
    ] = None,
) -> None:
    """Print what an approver signs on another device; --json: as EIP-712 typed data."""
    if reject:
        reason = ask("Reason", reason, "--reason TEXT")
    elif reason is not None and not approval_id.startswith("pur_"):
        raise InvalidRequest("--reason goes with --reject")
    disputes = approval_id.startswith("pur_")
    with opened(act=disputes) as coordinator:
        if disputes:
            reason = ask("Reason", reason, "--reason TEXT")
            asked = coordinator.dispute_statement(approval_id, reason=reason)
        else:
            asked = coordinator.statement(approval_id, reason=reason)
        safes = safes_of(coordinator) if safe is None else [_address(safe)]
    if mode.json:
        emit(asked.message.document() if safe is None else _of_safe(asked, safes[0]))
        return
    show_words(asked)
    heading("Its hash, to compare with the one that the device shows")
    lines_of("0x" + asked.message.digest.hex())
    for one in safes:
        _show_safe(asked, one)
    _show_how(approval_id, reason, safes)


def _show_how(approval_id: str, reason: str | None, safes: list[str]) -> None:
    from shlex import quote

    verb, said, more = "approvals approve", "", ""
    if reason is not None:
        verb, said = "approvals reject", f" --reason {quote(reason)}"
        more = f" --reject{said}"
    if approval_id.startswith("pur_"):
        verb, more = "purchase dispute", said
    first = f"coordinator approvals statement {approval_id}{more}"
    decide = f"coordinator {verb} {approval_id} --approver NAME{said}"
    given = " --signature 0x… --statement statement.json"
    next_commands(
        f"{first} --json > statement.json",
        "cast wallet sign --data --from-file statement.json --account NAME",
        f"{decide}{given}",
    )
    if safes:
        heading("For a Safe")
        next_commands(
            f"{first} --safe {safes[0]} --json > safe.json",
            "cast wallet sign --data --from-file safe.json --account OWNER",
            f"{decide} --signature 0x… --signature 0x…",
        )


def _show_safe(asked: SigningRequest, safe: str) -> None:
    from coordinator.domain.signatures.safe_signatures import safe_message_digest

    digest = safe_message_digest(asked.message.digest, chain_id=asked.trust.chain_id, safe=safe)
    heading(f"What owners of the Safe sign: its SafeMessage's hash\n{safe}")
    lines_of("0x" + digest.hex())


def _of_safe(asked: SigningRequest, safe: str) -> dict[str, Any]:
    from coordinator.domain.signatures.safe_signatures import safe_message

    return safe_message(asked.message.digest, chain_id=asked.trust.chain_id, safe=safe)


def _address(text: str) -> str:
    from coordinator.domain.address import checksummed

    try:
        return checksummed(text)
    except ValueError as fault:
        raise InvalidRequest(f"--safe: {fault}") from None
