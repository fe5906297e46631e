"""A treasury's owners at the command line, on a real Anvil: plan it and deploy it."""

from __future__ import annotations

from pathlib import Path

import pytest
from eth_account import Account

from coordinator.chain.safe.addresses import ROLES
from tests.integration.local_chain import LocalChain
from tests.integration.owners_desk import Desk, by, fund, make_desk
from tests.integration.treasuries import MEMBER_KEY, X402_WALLET, owners


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
    assert f"COORDINATOR_SAFE_ADDRESS={planned['safe']}" in desk.run("show")
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


def test_code_that_is_missing_is_named_before_anything_is_sent(desk: Desk, tmp_path: Path) -> None:
    desk.chain.rpc.call("anvil_setCode", ROLES.address, "0x")
    assert desk.json("plan")["missing_contracts"] == ["Roles 2.1.0"]
    height = desk.chain.height
    told = desk.run("deploy", "--creation-code", str(tmp_path), code=2)
    assert f"the code of Roles 2.1.0 is not in {tmp_path}" in told
    assert "@gnosis-guild/zodiac@4.0.3" in told
    assert desk.chain.height == height


def test_other_code_at_an_address_is_refused(desk: Desk) -> None:
    desk.chain.rpc.call("anvil_setCode", ROLES.address, "0x00")
    assert "other code on this chain than the contract that was audited" in desk.run("plan", code=2)


@pytest.mark.campaign
def test_another_salt_is_another_treasury_of_the_same_owners(desk: Desk) -> None:
    usual = desk.json("plan")["safe"]
    assert desk.json("deploy", "--salt", "1")["executed"]
    shown = desk.json("show", "--salt", "1")
    assert shown["differences"] == []
    assert shown["safe"] != usual
    assert desk.json("show", code=6)["differences"] == [f"there is no Safe at {usual}"]


def test_whoever_has_no_key_is_told_what_to_add(desk: Desk) -> None:
    public(desk)
    desk.settings["COORDINATOR_SIGNER"] = f"address:{Account.from_key(MEMBER_KEY).address}"
    assert "add --signer keystore:NAME" in desk.run("deploy", "--yes", code=2)
    assert "at the cost of" in desk.run("deploy", *by(0), code=2)


def test_a_key_that_owns_the_safe_must_not_be_the_worker_s(desk: Desk) -> None:
    desk.settings["COORDINATOR_SIGNER"] = "env:OWNER_0"
    told = desk.run("plan", code=2)
    assert f"the worker's key {owners()[0].address} must not own the Safe" in told


def test_the_simulated_chain_has_no_safe(desk: Desk) -> None:
    desk.settings["COORDINATOR_NETWORK"] = "simulated"
    assert "the simulated chain has no Safe" in desk.run("plan", code=2)


def test_an_x402_limit_needs_the_wallet(desk: Desk) -> None:
    desk.write(("disputes_daily = 3", 'x402_daily_limit = "48"\ndisputes_daily = 3'))
    assert "needs COORDINATOR_X402_SIGNER" in desk.run("plan", code=2)
    desk.settings["COORDINATOR_X402_SIGNER"] = f"address:{X402_WALLET}"
    assert desk.json("deploy")["executed"]
    left = {one["name"]: one["left"] for one in desk.json("show")["allowances"]}
    assert left["x402"] == "24.00"
    words = [call["says"] for call in desk.json("plan", "--salt", "1")["transaction"]["calls"]]
    assert any(f"the recipient is the x402 wallet {X402_WALLET}" in text for text in words)
