"""The desk of a Safe's owners: a folder with a policy and settings, where they type commands."""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from coordinator.chain.safe.configuration import Places
from coordinator.cli import main
from tests.integration.local_chain import LocalChain
from tests.integration.treasuries import ETHER, MEMBER_KEY, SafeTreasury, owners, usual_limits

POLICY = """
[organisation]
total_limit = "5000"
daily_limit = "720"
[agents.ada]
approval_threshold = "unlimited"
per_purchase_limit = "100"
daily_limit = "200"
[providers.papers]
address = "{provider}"
[providers.maps]
address = "{other_provider}"
[approvals]
approvers = ["alice"]
[treasury]
owners = [{owners}]
threshold = 2
daily_limit = "720"
total_limit = "5000"
per_purchase_limit = "100"
deadline_before = "2027-12-31"
disputes_daily = 3
bonds_daily_limit = "72"
"""


@dataclass
class Desk:
    """A folder with a policy and settings, where owners type commands."""

    chain: LocalChain
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def policy(self) -> Path:
        return self.folder / "policy.toml"

    def write(self, *changes: tuple[str, str]) -> None:
        text = self.policy.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.policy.write_text(text)

    def run(self, *arguments: str, code: int = 0) -> str:
        """What a command of `treasury` told, on both outputs."""
        return self._run("treasury", *arguments, code=code)

    def doctor(self) -> dict[str, Any]:
        """The doctor's row of the treasury, which pays from the Safe."""
        self.pay_from_the_safe()
        rows = json.loads(self._run("doctor", "--json", code=None))
        return next(row for row in rows if row["check"] == "treasury")

    def pay_from_the_safe(self) -> None:
        places = self.treasury.places
        self.settings |= {
            "COORDINATOR_PAYER": "safe",
            "COORDINATOR_SAFE_ADDRESS": places.safe,
            "COORDINATOR_ROLES_ADDRESS": places.roles,
        }

    def purchase(self, *arguments: str) -> Any:
        """A purchase, asked for by a command and funded by it."""
        return json.loads(self._run("purchase", "request", *arguments, "--json", code=0))

    def _run(self, *arguments: str, code: int | None) -> str:
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self.settings, clear=True),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            ended = main(arguments)
        assert code is None or ended == code, (out.getvalue(), err.getvalue())
        return out.getvalue() + err.getvalue()

    def json(self, *arguments: str, code: int = 0) -> Any:
        printed = self.run(*arguments, "--json", code=code)
        return json.loads(printed[printed.index("{") : printed.rindex("}") + 1])

    @property
    def treasury(self) -> SafeTreasury:
        """The same treasury, to do with its keys what no command does."""
        limits, deployed = usual_limits(self.chain), self.chain.deployment
        places = Places.predicted(
            limits, kernel=deployed.kernel, vault=deployed.vault, usdc=deployed.usdc
        )
        return SafeTreasury(self.chain, limits, places)


def make_desk(chain: LocalChain, folder: Path) -> Desk:
    """A desk whose policy says what the tests' usual limits say."""
    listed = ", ".join(f'"{owner.address}"' for owner in owners())
    made = Desk(chain, folder)
    text = POLICY.format(
        provider=chain.provider, other_provider=chain.other_provider, owners=listed
    )
    made.policy.write_text(text)
    made.settings = {
        "COORDINATOR_RPC_URL": chain.url,
        "COORDINATOR_DEPLOYMENTS_FOLDER": str(chain.folder),
        "COORDINATOR_STATE_FOLDER": str(folder / "state"),
        "COORDINATOR_DATABASE_URL": f"sqlite:///{folder}/coordinator.db",
        "COORDINATOR_ID_SECRET": secrets.token_hex(32),
        "TREASURY_PRIVATE_KEY": "0x" + MEMBER_KEY.hex(),
        **{f"OWNER_{n}": "0x" + owner.key.hex() for n, owner in enumerate(owners())},
    }
    return made


def by(*numbers: int) -> list[str]:
    """The options by which these owners sign; the first pays."""
    return [word for n in numbers for word in ("--signer", f"env:OWNER_{n}")]


def fund(chain: LocalChain) -> None:
    """Give the owners and the worker's key ETH for gas."""
    for account in (*(owner.address for owner in owners()), usual_limits(chain).member):
        chain.fund(account, usdc="0", wei=ETHER)
