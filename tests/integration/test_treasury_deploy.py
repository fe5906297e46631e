"""A treasury's owners at the command line, on a real Anvil: plan it and deploy it."""

from __future__ import annotations

from pathlib import Path

import pytest
from eth_account import Account

from tests.integration.local_chain import LocalChain
from tests.integration.owners_desk import Desk, by, fund, make_desk
from tests.integration.treasuries import MEMBER_KEY, owners


@pytest.fixture
def desk(_chain_with_safes: LocalChain, chain: LocalChain, tmp_path: Path) -> Desk:
    fund(chain)
    return make_desk(chain, tmp_path)


def public(desk: Desk) -> None:
    """Take the chain for one that is not ours: nobody acts without a key."""
    d = desk.chain.deployment
    desk.settings |= {
        "COORDINATOR_NETWORK": "base-sepolia",
        "COORDINATOR_KERNEL_ADDRESS": d.kernel,
        "COORDINATOR_VAULT_ADDRESS": d.vault,
        "COORDINATOR_USDC_ADDRESS": d.usdc,
    }


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
    assert shown["members"] == [Account.from_key(MEMBER_KEY).address]
    left = {one["name"]: (one["left"], one["refills_at"]) for one in shown["allowances"]}
    assert left["daily"] == ("240.00", None)
    assert left["disputes"] == ("3", None)
    assert desk.json("deploy")["transaction"] is None


def test_owners_sign_the_set_up_where_the_chain_is_not_ones_own(desk: Desk) -> None:
    public(desk)
    told = desk.json("deploy", "--yes", *by(0), code=4)
    assert (told["signed"], told["needed"], told["file"]) == (1, 2, "set-up-0.json")
    assert "there is no role" not in desk.run("plan")
    assert desk.json("show", code=6)["differences"][-1].startswith("the Safe has no roles at")
    assert "no roles of this policy's owners" in desk.run("propose", code=2)

    desk.json("sign", "set-up-0.json", "--yes", *by(2))
    assert desk.json("execute", "set-up-0.json", "--yes", *by(1))["executed"]

    assert desk.json("show")["differences"] == []


def test_one_owner_who_is_enough_sets_it_up_at_once(desk: Desk) -> None:
    public(desk)
    desk.write(("threshold = 2", "threshold = 1"))
    assert desk.json("deploy", "--yes", *by(1))["executed"]
    assert desk.json("show")["differences"] == []


def test_a_policy_without_the_table_says_where_to_begin(desk: Desk) -> None:
    text = desk.policy.read_text()
    desk.policy.write_text(text[: text.index("[treasury]")])
    assert "the policy has no [treasury]" in desk.run("plan", code=2)
