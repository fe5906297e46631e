"""A treasury's owners at the command line, on a real Anvil: deploy, show, change, sign, revoke."""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from eth_account import Account

from coordinator.chain.safe.configuration import APPROVE
from coordinator.chain.safe.creation_code import CHECKOUT
from coordinator.chain.safe.multisend import InnerCall
from coordinator.cli import main
from coordinator.domain.usdc import Usdc
from tests.integration.local_chain import LocalChain
from tests.integration.treasuries import ETHER, owners

POLICY = """
[organisation]
total_limit = "5000"
daily_limit = "720"
[agents.ada]
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
KEY = "0x" + "c1" * 32
NEXT = Account.from_key("0x" + "c2" * 32).address
OWNER = [f"0x{'a' + str(number)}" * 1 for number in range(3)]


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
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self.settings, clear=True),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            ended = main(["treasury", *arguments])
        assert ended == code, (out.getvalue(), err.getvalue())
        return out.getvalue() + err.getvalue()

    def json(self, *arguments: str, code: int = 0) -> Any:
        printed = self.run(*arguments, "--json", code=code)
        return json.loads(printed[printed.index("{") : printed.rindex("}") + 1])

    def balance(self, account: str) -> Usdc:
        return self.chain.balance(account)


@pytest.fixture
def desk(_chain_with_safes: LocalChain, chain: LocalChain, tmp_path: Path) -> Desk:
    listed = ", ".join(f'"{owner.address}"' for owner in owners())
    made = Desk(chain, tmp_path)
    made.policy.write_text(
        POLICY.format(
            provider=chain.provider, other_provider=chain.other_provider, owners=listed
        )
    )
    made.settings = {
        "COORDINATOR_RPC_URL": chain.url,
        "COORDINATOR_DEPLOYMENTS_FOLDER": str(chain.folder),
        "COORDINATOR_STATE_FOLDER": str(tmp_path / "state"),
        "COORDINATOR_DATABASE_URL": f"sqlite:///{tmp_path}/coordinator.db",
        "COORDINATOR_ID_SECRET": secrets.token_hex(32),
        "TREASURY_PRIVATE_KEY": KEY,
        **{f"OWNER_{n}": "0x" + owner.key.hex() for n, owner in enumerate(owners())},
    }
    return made


def by(*numbers: int) -> list[str]:
    """The options by which these owners sign; the first pays."""
    return [word for n in numbers for word in ("--signer", f"env:OWNER_{n}")]


@pytest.fixture
def deployed(desk: Desk) -> Desk:
    told = desk.json("deploy")
    assert told["executed"]
    for owner in owners():
        desk.chain.fund(owner.address, usdc="0", wei=ETHER)
    return desk


def test_a_plan_says_in_words_what_would_be_and_a_deployment_does_it(desk: Desk) -> None:
    height = desk.chain.height
    planned = desk.json("plan")
    assert desk.json("deploy", "--dry-run")["transaction"] == planned["transaction"]
    assert desk.chain.height == height
    assert not planned["safe_created"]
    words = [call["says"] for call in planned["transaction"]["calls"]]
    assert not any("NOT KNOWN" in text for text in words)
    assert "set the allowance daily to 240.00 USDC; 10.00 USDC come back every 60 minutes" in str(
        words
    )
    create = next(text for text in words if "createTransaction" in text)
    assert f"papers ({desk.chain.provider}) or maps ({desk.chain.other_provider})" in create
    assert "the amount is at most 100.00 USDC" in create
    assert "the deadline is before 2027-12-31 00:00:00 UTC" in create

    told = desk.json("deploy")

    assert told["executed"]
    assert told["transaction"]["hash"] == planned["transaction"]["hash"]
    shown = desk.json("show")
    assert shown["differences"] == []
    assert shown["safe"] == planned["safe"]
    assert shown["owners_on_chain"] == [owner.address for owner in owners()]
    assert shown["members"] == [Account.from_key(KEY).address]
    left = {one["name"]: (one["left"], one["refills_at"]) for one in shown["allowances"]}
    assert left["daily"] == ("240.00", None)
    assert left["disputes"] == ("3", None)
    assert desk.json("deploy")["transaction"] is None


def test_the_set_up_waits_for_owners_where_the_chain_is_not_ones_own(desk: Desk) -> None:
    pass


def test_look(deployed: Desk) -> None:
    print(deployed.run("show"))
    deployed.write(('daily_limit = "720"\ntotal', 'daily_limit = "600"\ntotal'), ('"2027-12-31"', '"2028-03-01"'), ('[approvals]', '[providers.more]\naddress = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"\n[approvals]'))
    print(deployed.run("show", code=6))
    print(deployed.run("propose", "--dry-run"))
    print(deployed.run("propose", code=4))
    print(deployed.run("sign", "change-1.json", "--yes", *by(0)))
    print(deployed.run("execute", "change-1.json", "--yes", code=4))
    print(deployed.run("sign", "change-1.json", "--yes", *by(1)))
    print(deployed.run("execute", "change-1.json", "--yes"))
    print(deployed.run("show"))
    print(deployed.run("propose"))
    print(deployed.run("rotate-key", NEXT, "--dry-run"))
    print(deployed.run("revoke", "--dry-run"))
    print(deployed.run("rotate-key", NEXT, "--yes", *by(0, 1)))
    print(deployed.run("show", code=6))
    print(deployed.run("revoke", "--module", "--yes", *by(0, 1)))
    print(deployed.run("show", code=6))
    print(deployed.run("propose", "--dry-run"))
    assert 0
