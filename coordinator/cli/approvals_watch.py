"""coordinator approvals watch: tell each thing that begins to wait for approvers."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from coordinator.cli.command import mode, note, opened
from coordinator.cli.decisions import Decidable, waiting_decisions
from coordinator.cli.exits import ExitCode
from coordinator.cli.output import lines_of, local_time, say
from coordinator.domain.errors import LedgerUnavailable

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator


def watch() -> int:
    """Print what waits for approval and each new thing that does, until ctrl-c."""
    try:
        with opened(act=False) as coordinator:
            _watch(coordinator)
    except KeyboardInterrupt:
        return ExitCode.OK
    return ExitCode.OK


def _watch(coordinator: Coordinator) -> None:
    told: set[tuple[str, int]] = set()
    with coordinator.wiring.changes.watching() as changed:
        if not mode.json:
            note("watching what waits for approval; ctrl-c ends it")
        while True:
            changed.wait()
            changed.clear()
            try:
                waiting = waiting_decisions(coordinator)
            except LedgerUnavailable as fault:
                # The feed looks again until the database is there, and then says so.
                note(str(fault))
                continue
            # What has to be approved again has a new time to expire at.
            present = {(one.id, one.expires_at) for one in waiting}
            for one in waiting:
                if (one.id, one.expires_at) not in told:
                    _tell(one)
            sys.stdout.flush()
            told = present


def _tell(one: Decidable) -> None:
    if mode.json:
        print(json.dumps(one.told()))
        return
    who = f"{one.agent} asks: " if one.agent else ""
    say(one.id, style="bold")
    lines_of(f"{who}{one.what}", f"expires {local_time(one.expires_at)}")
    if one.why:
        lines_of(one.why)
    lines_of(f"coordinator approvals show {one.id}")
