"""coordinator rotate: give the treasury another key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.command import Timeout, Yes, command, confirm_person, mode, new_app, opened
from coordinator.cli.command import operator_name as by_name
from coordinator.cli.exits import ExitCode
from coordinator.cli.output import emit, say, table
from coordinator.domain.chain.gas import eth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.domain.chain.rotation import FormerAccount

app = new_app("rotate", "Give the treasury another key; the former one ends its escrows.")

By = Annotated[str | None, typer.Option(help="Your name, for the audit log.")]


@command(app, "begin")
def begin(by: By = None, yes: Yes = False) -> None:
    """Make COORDINATOR_SIGNER the treasury, in place of COORDINATOR_FORMER_SIGNERS.

    Of a Safe it becomes the key that signs: its owners change the role by `treasury rotate-key`.
    Every process is stopped before, and started again afterwards with the new settings.
    """
    with opened(act=False) as coordinator:
        w = coordinator.opened
        present = w.signer.address
        former = [one.address for one in w.former_signers[:1]]
        instead = f" in place of {former[0]}" if former else ""
        safe = w.settings.safe_address
        confirm_person(
            f"Let {present} sign for the treasury {safe}{instead}?"
            if safe is not None
            else f"Make {present} the treasury{instead}? New purchases are paid from it; a server"
            " that names the former address stops.",
            yes=yes,
        )
        begun = w.rotation.begin(by=by_name(by))
        found = w.rotation.status()
    if mode.json:
        emit(
            {
                "treasury": safe or present,
                "begun": begun,
                "formers": [one.as_dict() for one in found],
            }
        )
        return
    if safe is not None:
        say(f"{present} signs for the treasury {safe}{'' if begun else ' already'}")
        say(f"send it ETH, then start `coordinator worker`; it needs its role in {safe}")
        return
    say(f"the treasury is {present}{'' if begun else ' already'}")
    say(f"send it ETH, then start `coordinator worker`; USDC is moved by it from {former[0]}")


@command(app, "status")
def status() -> None:
    """Show what former accounts have left to do."""
    with opened(act=False) as coordinator:
        w = coordinator.claimed
        _tell(w.own_addresses[0], w.rotation.status())


@command(app, "finish")
def finish(by: By = None, yes: Yes = False, timeout_seconds: Timeout = 60) -> int:
    """Let former accounts be ours no more, and move their ETH. Exit code 5: one is not done yet."""
    with opened(act=False) as coordinator:
        w = coordinator.claimed
        found = w.rotation.status()
        if any(one.waits_for for one in found):
            _tell(w.own_addresses[0], found)
            return ExitCode.CHAIN
        confirm_person("Let the former accounts be ours no more, and move their ETH?", yes=yes)
        found = w.rotation.finish(by=by_name(by), timeout_seconds=timeout_seconds)
        _tell(w.own_addresses[0], found)
    return ExitCode.OK


def _tell(present: str, found: Sequence[FormerAccount]) -> None:
    if mode.json:
        emit({"treasury": present, "formers": [one.as_dict() for one in found]})
        return
    say(f"treasury {present}")
    if not found:
        say("its key was never rotated")
        return
    table(
        "former account",
        "USDC",
        "ETH",
        "waits for",
        rows=((one.address, str(one.usdc), eth(one.gas_balance_wei), _left(one)) for one in found),
        wrap=("former account", "waits for"),
    )


def _left(account: FormerAccount) -> str:
    if account.last_block is not None:
        return "finished"
    return "; ".join(account.waits_for) or "coordinator rotate finish"
