"""The first hour of a stranger, through the installed command alone, on a real Anvil."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest import mock

import pytest

from coordinator.chain.abi import token_abi
from coordinator.chain.actp.abi import kernel_abi
from coordinator.chain.local.anvil import Anvil
from coordinator.chain.rpc.client import Rpc
from coordinator.cli import main
from coordinator.domain.usdc import Usdc

# The tests share a treasury and follow each other.

COORDINATOR: Final = Path(sys.executable).parent / "coordinator"
BUY: Final = ("purchase", "request", "--agent", "research-agent", "--provider", "paper-api")
_FEES: Final = {"maxFeePerGas": hex(10**10), "maxPriorityFeePerGas": hex(10**9)}
PAYEE: Final = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
PURCHASE_KEYS: Final = {
    *("purchase_id", "status", "agent", "provider", "provider_name", "amount", "purpose"),
    *("service", "category", "task", "session", "idempotency_key", "escrow_id", "approval_id"),
    *("created_at", "updated_at", "deadline", "settle", "policy_hash", "approvals", "reason"),
    *("limits", "spent", "provider_received", "platform_fee", "penalty", "refunded", "gas_wei"),
    "transactions",
}
REPORT_KEYS: Final = {
    *("as_of_block", "since", "until", "opening", "deposits", "paid", "fees", "penalties"),
    *("refunds", "withdrawals", "closing", "total_limit", "spent", "held", "remaining"),
    *("by_agent", "by_category", "by_provider", "pending_approvals", "stranded"),
    *("discrepancies", "gas"),
}


@dataclass(frozen=True)
class Shell:
    """A folder with its ``.env``, in which commands run."""

    folder: Path
    url: str

    def environment(self, **settings: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("COORDINATOR_")}
        kept.pop("TREASURY_PRIVATE_KEY", None)
        return {**kept, "HOME": str(self.folder), **settings}

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """The installed command, in a process of its own."""
        return subprocess.run(
            [COORDINATOR, *arguments],
            cwd=self.folder,
            env=self.environment(**settings),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def command(self, *arguments: str, code: int = 0) -> Any:
        """What the installed command printed on stdout, which must be JSON alone."""
        ran = self.run(*arguments, "--json")
        assert ran.returncode == code, (ran.stdout, ran.stderr)
        assert "Traceback" not in ran.stderr
        return json.loads(ran.stdout)

    def json(self, *arguments: str, code: int = 0, **settings: str) -> Any:
        """The same in this process, which has imported everything already."""
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self.environment(**settings), clear=True),
            mock.patch("sys.stdin", io.StringIO()),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            ended = main([*arguments, "--json"])
        assert ended == code, (out.getvalue(), err.getvalue())
        assert "Traceback" not in err.getvalue()
        return json.loads(out.getvalue())


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A treasury that was set up by init, deploy and fund."""
    with Anvil.start() as anvil:
        made = Shell(tmp_path_factory.mktemp("treasury"), anvil.url)
        told = made.command("init", "--yes", "--network", "anvil", "--rpc-url", anvil.url)
        assert told["policy_written"] is True
        planned = made.json("deploy", "--dry-run")
        assert (planned["deployed"], made.command("deploy")["deployed"]) == (False, True)
        again = made.json("deploy")
        assert again["deployed"] is False
        assert again["kernel"] == planned["kernel"]
        funded = made.command("fund")
        assert funded["treasury"] == told["address"]
        assert (funded["usdc_balance"], funded["eth_balance"]) == ("1000.00", "0.05")
        yield made


def _doctor(shell: Shell) -> dict[str, Any]:
    return {row["check"]: row for row in shell.command("doctor")}


def _balance(shell: Shell, account: str) -> Usdc:
    (path,) = (shell.folder / ".local" / "deployments").iterdir()
    token = json.loads(path.read_text())["contracts"]["usdc"]["address"]
    call = {"to": token, "data": token_abi().call("balanceOf", account)}
    return Usdc.from_base_units(int(Rpc([shell.url]).call("eth_call", call, "latest"), 16))


def test_a_small_purchase_is_funded_and_asked_again_is_the_same_one(shell: Shell) -> None:
    assert _doctor(shell)["contracts"]["status"] == "ok"
    terms = (*BUY, "--amount", "25.00", "--purpose", "Academic paper API access")
    terms += ("--service", "papers", "--category", "api", "--task", "task-42")
    would = shell.json(*terms, "--dry-run")
    assert (would["dry_run"], would["outcome"], would["reason"]) == (True, "approved", None)
    assert (would["agent"], would["amount"]) == ("research-agent", "25.00")

    bought = shell.command(*terms, "--idempotency-key", "task-42/papers")

    assert set(bought) >= PURCHASE_KEYS
    assert (bought["status"], bought["amount"], bought["task"]) == ("funded", "25.00", "task-42")
    steps = {done["step"]: done for done in bought["transactions"]}
    assert {"create", "link"} <= set(steps)
    for done in steps.values():
        assert done["status"] == "mined"
        assert done["url"] == f"tx:{done['hash']}"
        assert done["block"] > 0
    again = shell.json(*terms, "--idempotency-key", "task-42/papers")
    assert again["purchase_id"] == bought["purchase_id"]
    other = shell.json(*terms, "--session", "s", "--idempotency-key", "task-42/papers", code=2)
    assert other["error"]["code"] == "idempotency_conflict"
    shown = shell.json("purchase", "show", bought["purchase_id"])
    assert shown["escrow_id"] == bought["escrow_id"]


def test_a_large_purchase_waits_for_an_approver(shell: Shell) -> None:
    asked = shell.json(*BUY, "--amount", "75.00", "--purpose", "A large set", code=4)
    (waiting,) = shell.json("approvals", "list")
    assert waiting["purchase_id"] == asked["purchase_id"]
    assert (waiting["amount"], waiting["required"], waiting["approved_by"]) == ("75.00", 1, [])
    assert {"agent", "provider", "purpose", "created_at", "expires_at", "limits"} <= set(waiting)
    approve = ("approvals", "approve", waiting["approval_id"], "--approver")

    assert shell.json(*approve, "alice", code=2)["error"]["code"] == "not_confirmed"
    assert shell.json(*approve, "eve", "-y", code=3)["error"]["code"] == "not_an_approver"
    assert shell.json(*approve, "alice", "--dry-run")["dry_run"] is True
    approved = shell.command(*approve, "alice", "--yes")

    assert approved["status"] == "funded"
    assert [said["approver"] for said in approved["approvals"]] == ["alice"]
    assert shell.json("approvals", "list") == []


def test_a_rejected_and_a_denied_purchase_hold_nothing(shell: Shell) -> None:
    asked = shell.json(*BUY, "--amount", "60.00", "--purpose", "Not needed", code=4)
    reject = ("approvals", "reject", asked["approval_id"], "--approver", "bob", "-y")
    rejected = shell.json(*reject, "--reason", "too dear")
    assert (rejected["status"], rejected["reason"]["code"]) == ("rejected", "rejected")

    denied = shell.json(*BUY, "--amount", "120.00", "--purpose", "Too large", code=3)
    assert denied["reason"]["code"] == "per_purchase_limit"
    nobody = ("purchase", "request", "--agent", "nobody", "--provider", "paper-api")
    unknown = shell.json(*nobody, "--amount", "5.00", "--purpose", "x", code=3)
    assert unknown["reason"]["code"] == "agent_not_registered"
    held = {row["scope"]: row["held"] for row in shell.json("limits", "--agent", "research-agent")}
    spent_on = shell.json("purchase", "list", "--status", "funded")
    assert held["organisation"] == str(
        Usdc.from_base_units(sum(Usdc(p["amount"]).base_units for p in spent_on))
    )


def test_what_is_left_open_is_driven_by_recover_and_by_a_worker(shell: Shell) -> None:
    one = shell.json(*BUY, "--amount", "2.00", "--purpose", "Later", "--no-wait")
    assert one["status"] == "approved"
    recovered = shell.json("recover")
    assert recovered["idle"] is True
    (was,) = recovered["open"]
    assert (was["purchase_id"], was["before"], was["status"]) == (
        one["purchase_id"],
        "approved",
        "funded",
    )
    worker = subprocess.Popen(
        [COORDINATOR, "worker", "--json"],
        cwd=shell.folder,
        env=shell.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert worker.stderr is not None
    for line in worker.stderr:
        if "executor_acts" in line:
            break
    driven = shell.run(*BUY, "--amount", "3.00", "--purpose", "Driven", "--no-wait", "--json")
    assert "a worker is alive" in driven.stderr
    done = shell.json("purchase", "wait", json.loads(driven.stdout)["purchase_id"])
    assert done["status"] == "funded"
    worker.send_signal(signal.SIGTERM)
    out, err = worker.communicate(timeout=20)
    assert (worker.returncode, json.loads(out)) == (0, {"stopped": True})
    assert "Traceback" not in err


def test_a_delivered_purchase_is_settled_in_an_approvers_name(shell: Shell) -> None:
    bought = shell.json(*BUY, "--amount", "10.00", "--purpose", "To be settled")
    settle = ("purchase", "settle", bought["purchase_id"], "--approver", "alice", "--yes")
    assert shell.json(*settle, code=1)["error"]["code"] == "not_settleable"
    _deliver(shell, bought)

    settled = shell.json(*settle)

    assert settled["status"] == "settled"
    assert settled["spent"] == "10.00"
    receipt = shell.json("purchase", "receipt", bought["purchase_id"])
    assert receipt["purchase"]["status"] == "settled"
    assert receipt["audit_head"].count(":") == 1
    assert {"purchase_approved", "purchase_settled"} <= {row["event"] for row in receipt["audit"]}


def _deliver(shell: Shell, bought: dict[str, Any]) -> None:
    """Be the provider, whose account the node has unlocked: start and deliver."""
    rpc = Rpc([shell.url])
    (path,) = (shell.folder / ".local" / "deployments").iterdir()
    kernel = json.loads(path.read_text())["contracts"]["kernel"]["address"]
    for state, proof in ((3, b""), (4, (3600).to_bytes(32, "big"))):
        data = kernel_abi().call("transitionState", bought["escrow_id"], state, proof)
        call = {"from": bought["provider"], "to": kernel, "data": data, "gas": hex(500_000)}
        rpc.call("eth_sendTransaction", call | _FEES)
    delivered = shell.json("purchase", "wait", bought["purchase_id"], "--until", "delivered")
    assert delivered["status"] == "delivered"


def test_withdrawals_need_an_approver_and_arrive(shell: Shell) -> None:
    out = ("withdraw", "--to", PAYEE, "--amount", "10.00", "--reason", "payday", "--approver")
    assert shell.json(*out, "eve", "-y", code=3)["error"]["code"] == "not_an_approver"
    assert shell.json(*out, "alice", "--dry-run")["dry_run"] is True
    assert _balance(shell, PAYEE) == Usdc("0")
    large = ("withdraw", "--to", PAYEE, "--amount", "5000", "--reason", "x", "--approver", "alice")
    assert shell.json(*large, "--dry-run", code=5)["error"]["code"] == "insufficient_usdc"

    sent = shell.command(*out, "alice", "--yes")

    assert (sent["status"], sent["amount"], sent["recipient"]) == ("done", "10.00", PAYEE)
    assert [done["step"] for done in sent["transactions"]] == ["withdraw"]
    assert _balance(shell, PAYEE) == Usdc("10")
    wrong = ("withdraw", "--to", PAYEE[:-1] + "e", "--amount", "1", "--approver", "alice")
    refused = shell.json(*wrong, "--reason", "x", "-y", code=2)
    assert refused["error"]["code"] == "invalid_recipient"


def test_pauses_stop_new_spending_until_an_approver_unpauses(shell: Shell) -> None:
    assert shell.json("pause", "--by", "alice", "--reason", "an audit")["changed"] is True
    denied = shell.json(*BUY, "--amount", "2.00", "--purpose", "x", code=3)
    assert denied["reason"]["code"] == "paused"
    unpause = ("unpause", "--reason", "done", "--by")
    assert shell.json(*unpause, "eve", code=3)["error"]["code"] == "not_an_approver"
    assert shell.json(*unpause, "alice") == {"changed": True, "paused": []}


def test_books_report_gas_and_audit_agree_with_the_chain(shell: Shell) -> None:
    address = shell.json("gas")["address"]
    reconciled = shell.command("reconcile")
    assert set(reconciled) == {"from_block", "to_block", "events", "discrepancies"}
    assert reconciled["discrepancies"] == []
    report = shell.command("report")
    assert set(report) >= REPORT_KEYS
    assert report["deposits"] == "1000.00"
    assert Usdc(report["closing"]) == _balance(shell, address)
    gas = shell.command("gas")
    assert {"address", "balance_wei", "balance_eth", "purchases_left", "warning"} <= set(gas)
    assert gas["balance_wei"] == int(Rpc([shell.url]).call("eth_getBalance", address, "latest"), 16)
    assert gas["by_step"]["create"]["count"] >= 1
    head = shell.json("audit", "head")["audit_head"]
    verified = shell.command("audit", "verify", "--head", head)
    assert (verified["ok"], verified["faults"]) == (True, [])
    longer = f"{int(head.partition(':')[0]) + 1}:{'0' * 64}"
    assert shell.json("audit", "verify", "--head", longer, code=6)["ok"] is False
    exported = shell.run("audit", "export").stdout.splitlines()
    assert json.loads(exported[0])["audit_head"] == head


def test_usdc_that_left_by_another_way_is_a_discrepancy_that_can_be_explained(
    shell: Shell,
) -> None:
    rpc = Rpc([shell.url])
    treasury = shell.json("gas")["address"]
    rpc.call("anvil_impersonateAccount", treasury)
    (path,) = (shell.folder / ".local" / "deployments").iterdir()
    token = json.loads(path.read_text())["contracts"]["usdc"]["address"]
    data = token_abi().call("transfer", PAYEE, Usdc("1").base_units)
    rpc.call("eth_sendTransaction", {"from": treasury, "to": token, "data": data} | _FEES)

    (found,) = shell.json("reconcile", code=6)["discrepancies"]

    assert (found["kind"], found["amount"]) == ("unexplained_outflow", "1.00")
    by = ("--by", "alice", "--reason", "a test")
    unknown = shell.json("reconcile", "explain", "dis_0", *by, code=2)
    assert unknown["error"]["code"] == "not_found"
    assert shell.json("reconcile", "explain", found["id"], *by)["explained"] is True
    assert shell.json("reconcile")["discrepancies"] == []


def test_an_endpoint_that_is_down_or_contracts_that_are_wrong_hold_nothing(shell: Shell) -> None:
    before = shell.json("purchase", "list")
    down = {"COORDINATOR_RPC_URL": "http://127.0.0.1:1"}
    refused = shell.json(*BUY, "--amount", "2.00", "--purpose", "x", code=5, **down)
    assert refused["error"]["code"] == "chain_unavailable"
    assert shell.json("purchase", "list", **down) == before
    assert {"fail"} < {row["status"] for row in shell.json("doctor", code=5, **down)}
    payee = {"COORDINATOR_KERNEL_ADDRESS": PAYEE}
    wrong = shell.json(*BUY, "--amount", "2.00", "--purpose", "x", code=2, **payee)
    assert wrong["error"]["code"] == "configuration"
    assert shell.json("purchase", "list") == before


def test_on_a_testnet_funding_is_an_order_that_the_token_may_refuse(shell: Shell) -> None:
    (path,) = (shell.folder / ".local" / "deployments").iterdir()
    contracts = json.loads(path.read_text())["contracts"]
    testnet = {f"COORDINATOR_{n.upper()}_ADDRESS": c["address"] for n, c in contracts.items()}
    testnet = {k: v for k, v in testnet.items() if k.split("_")[1] in ("KERNEL", "VAULT", "USDC")}
    testnet |= {"COORDINATOR_NETWORK": "base-sepolia", "COORDINATOR_START_BLOCK": "1"}
    testnet |= {"COORDINATOR_DATABASE_URL": "sqlite:///testnet.db"}
    assert shell.json("fund", code=2, **testnet)["error"]["code"] == "not_confirmed"

    refused = shell.json("fund", "--usdc", "5", "--yes", code=5, **testnet)

    assert (refused["kind"], refused["status"], refused["amount"]) == ("mint", "failed", "5.00")
    assert "minter" in refused["message"]
    real = {"COORDINATOR_NETWORK": "base", "COORDINATOR_SIGNER": "keystore:none.json"}
    assert shell.json("fund", "--yes", code=2, **real)["error"]["code"] == "configuration"


def test_people_read_tables_with_whole_ids_and_no_colour(shell: Shell) -> None:
    ids = [found["purchase_id"] for found in shell.json("purchase", "list")]
    listed = shell.run("purchase", "list", COLUMNS="100").stdout
    assert all(purchase_id in listed for purchase_id in ids)
    assert "\x1b[" not in listed
    shown = shell.run("purchase", "show", ids[-1]).stdout
    assert "25.00 USDC" in shown
    assert "tx:0x" in shown


def test_a_backup_and_a_rebuild_from_the_export_keep_what_was_bought(shell: Shell) -> None:
    made = shell.json("backup", "copy.db")
    head = shell.json("audit", "head")["audit_head"]
    assert (made["ok"], made["audit_head"], made["faults"]) == (True, head, [])
    again = shell.json("backup", "copy.db", code=2)
    assert "exists already" in again["error"]["message"]
    written = shell.json("audit", "export", "--output", "audit.jsonl")
    assert (written["audit_head"], written["rows"]) == (head, int(head.partition(":")[0]))
    agents = {p["purchase_id"]: p["agent"] for p in shell.json("purchase", "list")}
    other = {"COORDINATOR_DATABASE_URL": "sqlite:///rebuilt.db"}
    asked = ("rebuild", "--audit", "audit.jsonl", "--head")
    assert (
        shell.json(*asked, "no head", "-y", code=2, **other)["error"]["code"] == "invalid_request"
    )
    rebuilt = shell.json(*asked, head, "-y", **other)
    assert rebuilt["discrepancies"] == []
    assert {p["purchase_id"]: p["agent"] for p in shell.json("purchase", "list", **other)} == agents
    assert shell.json("audit", "verify", "--head", head, **other)["ok"] is True
    recovered = shell.json("recover", **other)
    assert recovered["idle"] is True
    assert (recovered["steps_finished"], recovered["nonces_adopted"]) == (0, 0)
    assert [pause["scope"] for pause in recovered["paused"]] == ["organisation"]


@pytest.mark.parametrize("contract", ["usdc", "vault", "kernel"])
def test_a_contract_as_payee_is_told_before_anything_is_paid(shell: Shell, contract: str) -> None:
    (path,) = (shell.folder / ".local" / "deployments").iterdir()
    address = json.loads(path.read_text())["contracts"][contract]["address"]
    text = (shell.folder / "policy.toml").read_text()
    other = re.sub(r'(?<=\naddress = ")0x\w+', address, text, count=1)
    assert other != text
    (shell.folder / "other.toml").write_text(other)
    told = {"COORDINATOR_POLICY_FILE": "other.toml"}

    refused = shell.json("policy", "check", code=2, **told)
    found = shell.json("doctor", code=2, **told)

    assert address in refused["error"]["message"]
    (payees,) = (row for row in found if row["check"] == "payees")
    assert payees["status"] == "fail" and address in payees["found"]
