"""A treasury's owners at the command line, on a real Anvil: show, change, sign, revoke."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from coordinator.chain.local.owners import approve_as_owners
from coordinator.chain.safe.changes import take_approval_back
from coordinator.chain.safe.configuration import APPROVE, TRANSFER
from coordinator.chain.safe.multisend import InnerCall
from coordinator.chain.safe.proposals import Proposal
from coordinator.chain.safe.safe_transactions import ENABLE_MODULE
from coordinator.chain.safe.signatures import Signature
from coordinator.domain.errors import TxReverted
from coordinator.domain.usdc import Usdc
from tests.integration.local_chain import LocalChain
from tests.integration.owners_desk import Desk, by, fund, make_desk
from tests.integration.treasuries import MEMBER_KEY, owners

CHANGES = (
    ('per_purchase_limit = "100"\ndeadline', 'per_purchase_limit = "120"\ndeadline'),
    ('daily_limit = "720"\ntotal', 'daily_limit = "600"\ntotal'),
    ('"2027-12-31"', '"2028-03-01"'),
    (
        "[approvals]",
        '[providers.more]\naddress = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"\n[approvals]',
    ),
)
DAILY_AND_TOTAL = 'daily_limit = "600"\ntotal_limit = "3000"'
# Twenty days and the usual deadline before the bound.
NEAR = int(datetime(2027, 12, 10, 1, tzinfo=UTC).timestamp())
NEXT = Account.from_key("0x" + "c2" * 32).address


@pytest.fixture(scope="module")
def _desk(
    _chain_with_safes: LocalChain, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    made = make_desk(_chain_with_safes, tmp_path_factory.mktemp("desk"))

    def lay() -> None:
        made.json("deploy")
        fund(made.chain)

    with made.chain.laid_under(lay):
        yield made


@pytest.fixture
def deployed(_desk: Desk, chain: LocalChain, tmp_path: Path) -> Desk:
    """A treasury that was deployed by its command, the same for each test."""
    return make_desk(chain, tmp_path)


def test_a_purchase_is_funded_from_the_safe_that_was_deployed(deployed: Desk) -> None:
    safe = deployed.treasury.address
    deployed.chain.fund(safe, usdc="1000", wei=0)
    deployed.pay_from_the_safe()
    bought = deployed.purchase(
        *("--agent", "ada", "--provider", "papers", "--amount", "40.00"),
        *("--purpose", "A year of papers", "--yes"),
    )
    assert bought["status"] == "funded"
    assert deployed.chain.balance(safe) == Usdc("960")
    left = {one["name"]: one["left"] for one in deployed.json("show")["allowances"]}
    assert (left["daily"], left["total"]) == ("200.00", "4960.00")


def test_what_the_policy_changes_is_signed_and_executed(deployed: Desk) -> None:
    deployed.write(*CHANGES)
    assert deployed.json("show", code=6)["differences"][-3:] == [
        "providers.more has no place on the chain",
        "the chain lets a purchase be 100.00 USDC, and the policy 120.00",
        "the chain bounds deadlines by 2027-12-31 00:00, and the policy by 2028-03-01 00:00",
    ]
    dry = deployed.json("propose", "--dry-run")
    assert not list(deployed.folder.glob("change*"))

    told = deployed.json("propose", "--builder", "app.json", code=4)
    assert told["transaction"]["calls"] == dry["transaction"]["calls"]
    assert len(told["transaction"]["calls"]) == 2
    imported = json.loads((deployed.folder / "app.json").read_text())
    assert imported["chainId"] == str(told["transaction"]["chain_id"])
    assert [t["data"] for t in imported["transactions"]] == [
        call["data"] for call in told["transaction"]["calls"]
    ]
    file = told["file"]
    assert "1 of 2" in deployed.run("sign", file, "--yes", *by(0))
    assert "1 of 2 owners have signed" in deployed.run("execute", file, "--yes", code=4)
    deployed.run("sign", file, "--yes", *by(2))
    deployed.run("execute", file, "--dry-run")
    assert deployed.json("execute", file, "--yes")["executed"]

    assert deployed.json("show")["differences"] == []
    assert deployed.json("propose")["transaction"] is None


def test_signatures_come_from_elsewhere_and_from_the_chain(deployed: Desk) -> None:
    deployed.write(*CHANGES)
    asked = deployed.json("propose", code=4)
    typed = encode_typed_data(full_message=asked["transaction"]["typed_data"])
    elsewhere = "0x" + bytes(Account.sign_message(typed, owners()[1].key).signature).hex()
    digest = bytes.fromhex(asked["transaction"]["hash"][2:])
    approve_as_owners(deployed.chain.rpc, deployed.treasury.address, digest, [owners()[2].address])
    dry = deployed.json("execute", asked["file"], "--signature", elsewhere, "--dry-run")
    assert dry["signed"] == 2
    deployed.json("execute", asked["file"], "--signature", elsewhere, "--yes")
    assert deployed.json("show")["differences"] == []


@pytest.mark.campaign
def test_owners_sign_with_keystores(deployed: Desk) -> None:
    for number in (1, 2):
        light = Account.encrypt(owners()[number].key, "long enough", kdf="pbkdf2", iterations=1)
        (deployed.folder / f"owner-{number}").write_text(json.dumps(light))
    deployed.settings["COORDINATOR_APPROVER_PASSWORD"] = "long enough"
    keystores = ("--signer", "keystore:./owner-1", "--signer", "keystore:./owner-2")
    assert deployed.json("revoke", "--yes", *keystores)["executed"]


def test_a_number_that_another_transaction_took_is_told(deployed: Desk) -> None:
    deployed.write(*CHANGES)
    file = deployed.json("propose", "--yes", *by(0), code=4)["file"]
    deployed.treasury.owners_do(take_approval_back(deployed.treasury.places))
    for command in (("sign", file, *by(1)), ("execute", file)):
        assert "took its number, 1: write it anew" in deployed.run(*command, "--yes", code=2)


def test_a_stranger_neither_signs_nor_counts(deployed: Desk) -> None:
    deployed.write(*CHANGES)
    asked = deployed.json("propose", code=4)
    file = asked["file"]
    assert "no owner of the Safe" in deployed.run(
        "sign", file, "--yes", "--signer", "env:TREASURY_PRIVATE_KEY", code=2
    )
    digest = bytes.fromhex(asked["transaction"]["hash"][2:])
    foreign = bytes(Account.from_key(MEMBER_KEY).unsafe_sign_hash(digest).signature).hex()
    told = deployed.run("execute", file, "--signature", foreign, "--yes", code=2)
    assert "it is no owner of the Safe" in told


@pytest.mark.campaign
def test_a_file_that_is_there_is_not_written_over(deployed: Desk) -> None:
    deployed.json("revoke", code=4)
    assert "revoke-1.json exists already" in deployed.run("revoke", code=2)
    assert deployed.json("revoke", "--output", "again.json", code=4)["file"] == "again.json"
    assert "can't be read" in deployed.run("sign", "nothing.json", *by(0), "--yes", code=2)


def test_a_call_that_nobody_knows_is_said_to_be_one(deployed: Desk) -> None:
    deployed.write(*CHANGES)
    treasury = deployed.treasury
    thief = deployed.chain.stranger
    strange = (
        InnerCall(treasury.places.usdc, TRANSFER.call(thief, 5_000_000)),
        InnerCall(treasury.places.usdc, APPROVE.call(treasury.places.vault, 0) + b"\0"),
        InnerCall(thief, APPROVE.call(treasury.places.vault, 0)),
    )
    forged = Proposal(
        chain_id=treasury.chain_id, safe=treasury.address, nonce=treasury.nonce, calls=strange
    )
    document = forged.document(["a", "routine", "change"])
    (deployed.folder / "forged.json").write_text(json.dumps(document))

    said = deployed.json("sign", "forged.json", "--dry-run")["transaction"]["calls"]

    assert said[0]["says"] == f"send 5.00 USDC to {thief}"
    assert all(call["says"].startswith("NOT KNOWN HERE") for call in said[1:])


def test_what_was_spent_does_not_come_back_by_a_change(deployed: Desk) -> None:
    deployed.chain.fund(deployed.treasury.address, usdc="1000", wei=0)
    deployed.treasury.buy("60", "40")
    deployed.write(('daily_limit = "720"\ntotal_limit = "5000"', DAILY_AND_TOTAL))
    deployed.json("propose", "--yes", *by(0, 1))
    shown = deployed.json("show")
    assert shown["differences"] == []
    left = {one["name"]: one["left"] for one in shown["allowances"]}
    assert left["daily"] == "140.00"
    assert left["total"] == "2900.00"


def test_a_leaked_key_is_stopped_by_one_transaction(deployed: Desk) -> None:
    treasury = deployed.treasury
    deployed.chain.fund(treasury.address, usdc="1000", wei=0)
    hoarded = treasury.approve("50")
    treasury.do(hoarded.to, hoarded.data)
    assert deployed.chain.allowance(treasury.address) == Usdc("50")
    assert any("standing approval" in d for d in deployed.json("show", code=6)["differences"])

    assert "has no role of the Safe" in deployed.run("revoke", "--key", NEXT, code=2)

    assert deployed.json("revoke", "--key", treasury.member, "--yes", *by(0, 1))["executed"]

    assert deployed.chain.allowance(treasury.address) == Usdc("0")
    refused = treasury.refusal(hoarded.to, hoarded.data)
    assert refused is not None
    assert refused.name == "NoMembership"
    # No command gives it back unasked; another key takes over.
    assert "rotate-key" in deployed.run("show", code=6)
    assert "if that key leaked" in deployed.run("propose", "--dry-run")
    assert deployed.json("rotate-key", NEXT, "--yes", *by(0, 1))["executed"]
    deployed.settings["COORDINATOR_SIGNER"] = f"address:{NEXT}"
    shown = deployed.json("show")
    assert shown["differences"] == []
    assert shown["members"] == [NEXT]


def test_closed_roles_stop_every_key_and_open_again_by_a_proposal(deployed: Desk) -> None:
    treasury = deployed.treasury
    deployed.json("revoke", "--module", "--yes", *by(1, 2))
    nothing = treasury.approve("1")
    with pytest.raises(TxReverted, match="GS104"):
        treasury.do(nothing.to, nothing.data)
    assert deployed.json("show", code=6)["differences"]
    deployed.json("propose", "--yes", *by(1, 2))
    assert deployed.json("show")["differences"] == []


def test_what_owners_did_elsewhere_is_named(deployed: Desk) -> None:
    treasury, stranger = deployed.treasury, deployed.chain.stranger
    add_owner = Signature("addOwnerWithThreshold(address,uint256)").call(stranger, 1)
    treasury.owners_do(
        InnerCall(treasury.address, add_owner),
        InnerCall(treasury.address, ENABLE_MODULE.call(stranger)),
    )
    told = deployed.json("show", code=6)["differences"]
    assert f"{stranger} owns the Safe, and is no owner in the policy" in told
    assert any("threshold is 1, not 2" in text for text in told)
    assert any("module" in text and stranger in text for text in told)
    proposed = deployed.json("propose", "--dry-run")["transaction"]["calls"]
    assert [call["says"] for call in proposed] == [
        f"let {stranger} act in the Safe's name no longer",
        f"let {stranger} own the Safe no longer; ONE owner signs alone",
        "from then on 2 owners sign together",
    ]


@pytest.mark.parametrize(
    "threshold", [1, *(pytest.param(n, marks=pytest.mark.campaign) for n in (2, 3))]
)
def test_owners_follow_the_policy(deployed: Desk, threshold: int) -> None:
    stranger = deployed.chain.stranger
    deployed.pay_from_the_safe()
    deployed.write((owners()[0].address, stranger), ("threshold = 2", f"threshold = {threshold}"))
    told = deployed.json("propose", "--yes", *by(0, 1))
    assert told["executed"]
    words = [call["says"] for call in told["transaction"]["calls"]]
    assert words[:2] == [
        f"let {stranger} own the Safe; 2 owners sign together",
        f"let {owners()[0].address} own the Safe no longer; 2 owners sign together",
    ]
    alone = "ONE owner signs alone" if threshold == 1 else f"{threshold} owners sign together"
    assert words[2:] == [f"from then on {alone}"] * (threshold != 2)
    shown = deployed.json("show")
    assert (shown["differences"], shown["threshold_on_chain"]) == ([], threshold)
    assert set(shown["owners_on_chain"]) == {stranger, *(o.address for o in owners()[1:])}


def test_what_no_proposal_mends_is_told_by_it(deployed: Desk) -> None:
    treasury = deployed.treasury
    handler = Signature("setFallbackHandler(address)").call(deployed.chain.stranger)
    treasury.owners_do(InnerCall(treasury.address, handler))
    told = deployed.json("propose", code=6)
    assert told["transaction"] is None
    (difference,) = told["differences"]
    assert difference.startswith(f"the Safe's fallback handler is {deployed.chain.stranger}")


def test_a_policy_with_fewer_owners_is_followed_too(deployed: Desk) -> None:
    listed = [f'"{owner.address}"' for owner in owners()]
    deployed.pay_from_the_safe()
    deployed.write((", ".join(listed), listed[2]), ("threshold = 2", "threshold = 1"))
    deployed.json("propose", "--yes", *by(0, 1))
    assert deployed.json("show")["differences"] == []


def test_the_doctor_compares_chain_and_policy(deployed: Desk) -> None:
    row = deployed.doctor()
    assert (row["status"], row["found"]) == (
        "ok",
        "2 of 3 owners, limits as the policy says, 240.00 USDC may go",
    )
    text = deployed.policy.read_text()
    deployed.write(*CHANGES)
    row = deployed.doctor()
    assert row["status"] == "fail"
    assert "the conditions of the role coordinator for createTransaction" in row["found"]
    deployed.policy.write_text(text[: text.index("[treasury]")])
    assert deployed.doctor()["status"] == "warn"


def test_a_deadline_that_comes_near_is_warned_of(deployed: Desk) -> None:
    deployed.chain.rpc.call("evm_setNextBlockTimestamp", NEAR)
    deployed.chain.mine()
    (warned,) = deployed.json("show")["warnings"]
    assert warned.startswith("treasury.deadline_before ends all purchases in 19 days")
    row = deployed.doctor()
    assert (row["status"], row["found"]) == ("warn", warned)
