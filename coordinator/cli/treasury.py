"""coordinator treasury: a Safe whose owners are people, and what the worker's key may do there."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.command import DryRun, Yes, command, confirm, fail, mode, new_app, note
from coordinator.cli.exits import ExitCode
from coordinator.cli.output import card, emit, next_commands, say
from coordinator.cli.receipts import write_new_json
from coordinator.cli.signing import open_signer
from coordinator.cli.treasury_card import (
    plan_dict,
    proposal_dict,
    show_on_chain,
    show_plan,
    show_proposal,
    shown_dict,
)
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.plain_text import decode_file

if TYPE_CHECKING:
    from coordinator.provisioning.safe_treasury import Proposal, SafeTreasury

app = new_app("treasury", "A Safe that pays: deploy it, see its limits on chain, change them.")

Salt = Annotated[
    int,
    typer.Option(min=0, max=2**53, help="Another number is another Safe of the same owners."),
]
Signers = Annotated[
    list[str] | None,
    typer.Option(
        "--signer",
        help="An owner's key, keystore:NAME or a device's; again for more. The first pays the gas.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(help="The file for owners to sign; default: named after the transaction."),
]
Builder = Annotated[
    Path | None,
    typer.Option(help="Write a file too that the Safe app's transaction builder imports."),
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="The file of the transaction.")]


@command(app, "plan")
def plan(salt: Salt = 0) -> None:
    """Say what would be deployed and configured; changes nothing."""
    treasury = _open(salt)
    found = treasury.plan()
    if mode.json:
        emit(plan_dict(treasury, found))
        return
    show_plan(treasury, found)
    next_commands("coordinator treasury show" if found.on_chain.set_up else _DEPLOY)


@command(app, "deploy")
def deploy(
    creation_code: Annotated[
        Path | None,
        typer.Option(help="The node_modules folder with the audited contracts' packages."),
    ] = None,
    signer: Signers = None,
    output: Output = None,
    builder: Builder = None,
    salt: Salt = 0,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Deploy the contracts that the chain lacks and the Safe, and set its limits up.

    Its owners sign the set-up: by --signer here, or in a file. On a local chain it is done without.
    """
    treasury = _open(salt)
    found = treasury.plan()
    if dry_run or found.proposal is None:
        if mode.json:
            emit(plan_dict(treasury, found) | {"dry_run": dry_run, "done": []})
        else:
            show_plan(treasury, found)
            if found.proposal is None:
                say("it is deployed and set up already", style="green")
        return ExitCode.OK
    signers = _opened(signer)
    payer = treasury.sender(signers).address
    if not mode.json:
        show_plan(treasury, found)
    if not treasury.local:
        confirm(f"Deploy on chain {treasury.chain_id} at the cost of {payer}?", yes=yes)
    done = treasury.deploy(creation_code, signers)
    for one in done:
        note(one)
    # Where a Safe is new its first number is known before; here others may have come between.
    proposal = treasury.plan().proposal
    assert proposal is not None
    if treasury.local:
        treasury.approve_locally(proposal)
    ended = _bring(
        treasury, proposal, "set-up", signers, output, builder, yes=yes, told={"done": done}
    )
    if ended == ExitCode.OK and not mode.json:
        next_commands("coordinator treasury show")
    return ended


@command(app, "show")
def show(salt: Salt = 0) -> int:
    """Show owners, limits and what is left of them, and prove each by the chain's storage."""
    treasury = _open(salt)
    shown = treasury.show()
    if mode.json:
        emit(shown_dict(treasury, shown))
    else:
        show_on_chain(treasury, shown)
        if shown.differences:
            next_commands(_next(treasury, shown.on_chain.set_up))
    return ExitCode.DISCREPANCIES if shown.differences else ExitCode.OK


@command(app, "propose")
def propose(
    signer: Signers = None,
    output: Output = None,
    builder: Builder = None,
    salt: Salt = 0,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Bring the chain to the policy: limits, providers, deadline, key, owners; owners sign it."""
    treasury = _open(salt)
    proposal = treasury.change()
    for key in treasury.given_roles(proposal) if proposal is not None else ():
        note(f"this gives {key} its roles: if that key leaked, use `{_ROTATE}` instead")
    return _decide(treasury, proposal, "change", signer, output, builder, dry_run=dry_run, yes=yes)


@command(app, "revoke")
def revoke(
    key: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Only this key; default: every one.")
    ] = None,
    module: Annotated[
        bool, typer.Option("--module", help="Close the roles as a whole, whoever has one.")
    ] = False,
    signer: Signers = None,
    output: Output = None,
    builder: Builder = None,
    salt: Salt = 0,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Stop a leaked key at once: it loses its roles, and what it got approved is taken back."""
    treasury = _open(salt)
    if key is not None and module:
        raise InvalidRequest("--module stops every key: give it or --key")
    proposal = treasury.revoke(key, module=module)
    if not mode.json:
        note("until it is executed the key may still spend what the limits leave")
    return _decide(treasury, proposal, "revoke", signer, output, builder, dry_run=dry_run, yes=yes)


@command(app, "rotate-key")
def rotate_key(
    to: Annotated[str, typer.Argument(metavar="ADDRESS", help="The worker's next key.")],
    signer: Signers = None,
    output: Output = None,
    builder: Builder = None,
    salt: Salt = 0,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Give the roles to another key, and take them from the present one, in one transaction."""
    treasury = _open(salt)
    proposal = treasury.rotate(to)
    return _decide(
        treasury, proposal, "rotate-key", signer, output, builder, dry_run=dry_run, yes=yes
    )


@command(app, "sign")
def sign(
    file: File,
    signer: Signers = None,
    salt: Salt = 0,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Say in words what a file has owners sign, sign it with your key, and add that to the file.

    On another device: sign its typed_data there, and give the result to `treasury execute`.
    """
    treasury = _open(salt)
    proposal = _read(file)
    treasury.check(proposal)
    if not mode.json:
        show_proposal(treasury, proposal)
    if not dry_run:
        if not signer:
            raise InvalidRequest("--signer keystore:NAME is missing")
        confirm("Sign this?", yes=yes)
        for one in _opened(signer):
            proposal = treasury.signed(proposal, one)
        _replace(file, proposal.document(treasury.says(proposal)))
    found, needed = treasury.signatures_of(proposal)
    if mode.json:
        emit(proposal_dict(treasury, proposal, found, needed) | {"dry_run": dry_run})
    elif not dry_run:
        say(f"{len(found)} of {needed} signatures are in {file}", style="green")
        next_commands(
            f"coordinator treasury {'execute' if len(found) >= needed else 'sign'} {file}"
        )
    return ExitCode.OK


@command(app, "execute")
def execute(
    file: File,
    signature: Annotated[
        list[str] | None,
        typer.Option(help="An owner's signature that was made elsewhere, 0x…; again for more."),
    ] = None,
    signer: Signers = None,
    salt: Salt = 0,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Check the signatures of a file, each by its owner, and execute it where they are enough.

    The first --signer pays; without one the worker's key does.
    """
    treasury = _open(salt)
    proposal = _read(file).signed_with(*signature or ())
    return _decide(treasury, proposal, "execute", signer, file, None, dry_run=dry_run, yes=yes)


_DEPLOY = "coordinator treasury deploy"
_ROTATE = "coordinator treasury rotate-key ADDRESS"


def _next(treasury: SafeTreasury, set_up: bool) -> str:
    """Return what to do about differences; a key without a role may have lost it on purpose."""
    if not set_up:
        return _DEPLOY
    proposal = treasury.change()
    gives = proposal is not None and treasury.given_roles(proposal)
    return _ROTATE if gives else "coordinator treasury propose"


def _decide(
    treasury: SafeTreasury,
    proposal: Proposal | None,
    what: str,
    signer: list[str] | None,
    output: Path | None,
    builder: Path | None,
    *,
    dry_run: bool,
    yes: bool,
) -> int:
    """Say a transaction in words, and bring it on unless it is a dry run."""
    if proposal is None:
        return _nothing_to_sign(treasury)
    found, needed = treasury.signatures_of(proposal)
    if not mode.json:
        show_proposal(treasury, proposal)
    if dry_run:
        if mode.json:
            emit(proposal_dict(treasury, proposal, found, needed) | {"dry_run": True})
        return ExitCode.OK
    return _bring(treasury, proposal, what, _opened(signer), output, builder, yes=yes)


def _nothing_to_sign(treasury: SafeTreasury) -> int:
    """Tell that the roles are as the policy says; what owners change elsewhere may still differ."""
    left = treasury.show().differences
    if mode.json:
        emit({"transaction": None, "differences": [*left]})
    elif not left:
        say("the chain has all that the policy says", style="green")
    else:
        say("the roles have all that the policy says; the owners change the rest in the Safe app:")
        for text in left:
            say(f"  {text}", style="red")
    return ExitCode.DISCREPANCIES if left else ExitCode.OK


def _bring(
    treasury: SafeTreasury,
    proposal: Proposal,
    what: str,
    signers: Sequence[Any],
    output: Path | None,
    builder: Path | None,
    *,
    yes: bool,
    told: dict[str, Any] | None = None,
) -> int:
    """Sign with the keys that are owners', then execute where they are enough; else write files."""
    owners = treasury.check(proposal).owners
    mine = [one for one in signers if one.address in owners]
    if mine:
        confirm(f"Sign this with {' and '.join(one.address for one in mine)}?", yes=yes)
    for one in mine:
        proposal = treasury.signed(proposal, one)
    found, needed = treasury.signatures_of(proposal)
    answer = proposal_dict(treasury, proposal, found, needed) | (told or {})
    if builder is not None:
        title = f"{what} of the treasury {treasury.places.safe}"
        write_new_json(builder, proposal.builder_document(title=title, now=int(time.time())))
        note(f"for the Safe app: {builder}; what is signed there can't be executed here")
    if len(found) < needed:
        return _ask_owners(proposal, what, output, answer)
    payer = treasury.sender(signers).address
    if not treasury.local:
        confirm(f"Execute it at the cost of {payer}?", yes=yes)
    tx_hash = treasury.execute(proposal, signers)
    if mode.json:
        emit(answer | {"executed": True, "tx_hash": tx_hash})
    else:
        card("Executed", "ok", [("transaction", tx_hash), ("paid by", payer)])
    return ExitCode.OK


def _ask_owners(proposal: Proposal, what: str, output: Path | None, answer: dict[str, Any]) -> int:
    """Write what owners have to sign, and say what to do; executing takes more of them."""
    signed, needed = answer["signed"], answer["needed"]
    if what == "execute":
        return fail(
            "more_signatures_required",
            f"{signed} of {needed} owners have signed: `coordinator treasury sign {output}`, or"
            " --signature 0x…",
            ExitCode.AWAITING_APPROVAL,
        )
    file = output or Path(f"{what}-{proposal.nonce}.json")
    write_new_json(file, answer["transaction"])
    if mode.json:
        emit(answer | {"executed": False, "file": str(file)})
        return ExitCode.AWAITING_APPROVAL
    say(f"{signed} of {needed} owners have signed; the transaction is in {file}")
    next_commands(
        f"coordinator treasury sign {file} --signer keystore:NAME",
        f"coordinator treasury execute {file}",
    )
    return ExitCode.AWAITING_APPROVAL


def _open(salt: int) -> SafeTreasury:
    from coordinator.config import environment, load_settings
    from coordinator.provisioning.safe_treasury import open_treasury
    from coordinator.wiring import wire

    env = environment()
    return open_treasury(wire(env, load_settings(env)), salt_nonce=salt)


def _opened(specs: list[str] | None) -> list[Any]:
    return [open_signer(spec) for spec in specs or ()]


def _read(file: Path) -> Proposal:
    from coordinator.provisioning.safe_treasury import Proposal

    try:
        document = json.loads(decode_file(file.read_bytes()))
    except OSError as fault:
        raise InvalidRequest(f"{file} can't be read: {fault.strerror}") from None
    except (ValueError, RecursionError):
        raise InvalidRequest(f"{file} is not JSON") from None
    return Proposal.of_document(document)


def _replace(file: Path, document: dict[str, Any]) -> None:
    """Write the file anew, whole or not at all."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    write_new_json(beside, document)
    beside.replace(file)
