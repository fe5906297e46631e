"""An approver's day at the command line, on a real Anvil: look, sign here or elsewhere, be told."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from coordinator.chain.local.anvil import Anvil
from coordinator.chain.rpc.client import Rpc
from coordinator.cli import main
from tests.integration.local_chain import LocalChain
from tests.integration.safes import deploy_safe, owner_accounts
from tests.integration.signers_of_approvers import KEYS, credential
from tests.integration.test_cli import BUY, COORDINATOR, Shell
from tests.integration.typing_person import at_a_terminal

# The tests share a treasury; each decides purchases of its own.

PASSWORD = "correct horse"
ALICES = ("--signer", "keystore:keys/alice")
OPENED = {"COORDINATOR_APPROVER_PASSWORD": PASSWORD}
APPROVALS = """[approvals]
required = 2
[approvals.approvers]
alice = {{ credentials = ["{alice}"] }}
bob = {{ credentials = ["{bob}"] }}
sam = {{ credentials = ["safe:{safe}"] }}
"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A treasury whose approvers sign: two with keys, one with a Safe of three owners."""
    with Anvil.start() as anvil:
        made = Shell(tmp_path_factory.mktemp("treasury"), anvil.url)
        made.json("init", "--yes", "--network", "anvil", "--rpc-url", anvil.url)
        made.json("deploy")
        made.json("fund")
        chain = LocalChain(Rpc([anvil.url]), made.folder / "chain")
        safe = deploy_safe(chain, owner_accounts(3), 2).address
        keys = {name: str(credential(name)) for name in ("alice", "bob")}
        policy = made.folder / "policy.toml"
        table = re.compile(r"^\[approvals\].*?(?=^\[)", re.MULTILINE | re.DOTALL)
        said = APPROVALS.format(safe=safe, **keys)
        text = table.sub(lambda _: said, policy.read_text())
        policy.write_text(re.sub(r'(daily|total)_limit = ".*?"', r'\1_limit = "5000"', text))
        # A file that opens at once: how long one takes is another test's.
        light = Account.encrypt(KEYS["alice"], PASSWORD, kdf="pbkdf2", iterations=1)
        (made.folder / "keys").mkdir()
        (made.folder / "keys" / "alice").write_text(json.dumps(light))
        yield made


def ask(shell: Shell, amount: str = "60.00") -> str:
    told = shell.json(*BUY, "--amount", amount, "--purpose", "A year of papers", code=4)
    return str(told["approval_id"])


def file_of(shell: Shell, approval_id: str, *options: str) -> Any:
    return shell.json("approvals", "statement", approval_id, *options)


def piped(shell: Shell, *arguments: str, **settings: str) -> str:
    """What a person reads of a command in a pipe."""
    out = io.StringIO()
    with (
        contextlib.chdir(shell.folder),
        mock.patch.dict(os.environ, shell.environment(**settings), clear=True),
        contextlib.redirect_stdout(out),
    ):
        assert main(arguments) == 0
    return out.getvalue()


def sign(document: Any, key: str | bytes) -> str:
    """Sign as a wallet on another device does."""
    signable: Any = encode_typed_data(full_message=document)
    return "0x" + bytes(Account.from_key(key).sign_message(signable).signature).hex()


@pytest.mark.campaign
def test_two_approvers_sign_one_at_a_terminal_and_one_elsewhere(shell: Shell) -> None:
    place: dict[str, Any] = {"folder": shell.folder, "environment": shell.environment()}
    watch = [COORDINATOR, "approvals", "watch"]
    with (
        at_a_terminal(watch, **place) as person,
        at_a_terminal([*watch, "--json"], **place) as program,
    ):
        person.sees("watching")
        asked = ask(shell)
        shown = person.sees(f"coordinator approvals show {asked}")
        assert "research-agent asks: 60.00 USDC to paper-api" in shown
        line = json.loads(program.sees("}\n").strip())
        assert line["approval_id"] == asked
        assert line["background"]["provider"]["first_payment"] is True
        for watching in (person, program):
            watching.interrupts()
            assert watching.ends() == 0
    approve = [COORDINATOR, "approvals", "approve", asked, "--approver", "alice", *ALICES]
    with at_a_terminal(approve, **place) as alice:
        shown = alice.sees("Sign and approve 60.00 USDC to paper-api as alice? [y/N]")
        assert "What is signed\n  Approve purchase" in shown
        assert "first payment to this address" in shown
        assert "can't be undone" in " ".join(shown.split())
        alice.types("y")
        alice.sees("Password")
        alice.types_unseen(PASSWORD)
        assert alice.ends() == 4, alice.shown
    assert PASSWORD not in alice.shown

    document = file_of(shell, asked)
    (shell.folder / "statement.json").write_text(json.dumps(document))
    given = ("--signature", sign(document, KEYS["bob"]), "--statement", "statement.json")
    funded = shell.json("approvals", "approve", asked, "--approver", "bob", *given, "--yes")
    assert funded["status"] == "funded"

    late = shell.run("approvals", "approve", asked, "--approver", "sam", "--yes", TZ="Asia/Tokyo")
    assert late.returncode == 1
    assert re.search(r"approved by alice, \d{4}-\d\d-\d\d \d\d:\d\d JST", late.stderr), late.stderr
    assert "approved by bob, " in late.stderr


def test_without_a_signature_one_sentence_says_what_to_type(shell: Shell) -> None:
    asked = ask(shell)
    approve = ("approvals", "approve", asked, "--approver", "alice", "--yes")
    told = shell.json(*approve, code=2)["error"]
    assert told["code"] == "signature_required"
    assert "--signer keystore:NAME" in told["message"]
    assert f"approvals statement {asked}" in told["message"]
    other = shell.json(*approve[:-2], "bob", "--yes", *ALICES, code=2, **OPENED)["error"]
    assert other["code"] == "signature_invalid" and "the policy gives bob" in other["message"]
    assert shell.json(*approve[:-2], "eve", "--yes", code=3)["error"]["code"] == "not_an_approver"


def test_the_environments_key_signs_and_a_reason_is_signed_too(shell: Shell) -> None:
    asked = ask(shell)
    key = {"COORDINATOR_APPROVER_SIGNER": "keystore:keys/alice", **OPENED}
    reject = ("approvals", "reject", asked, "--approver", "alice", "--reason", "too dear", "--yes")
    assert shell.json(*reject, **key)["status"] == "rejected"
    told = shell.json("approvals", "show", asked)
    assert told["purchase"]["approvals"][0]["reason"] == "too dear"
    late = shell.json("approvals", "approve", asked, "--approver", "bob", "--yes", code=1)
    assert late["purchase"]["approvals"][0]["approver"] == "alice"


def test_owners_of_a_safe_sign_what_it_signs(shell: Shell) -> None:
    asked = ask(shell)
    (safe,) = re.findall("safe:(0x[0-9a-fA-F]{40})", (shell.folder / "policy.toml").read_text())
    document = file_of(shell, asked, "--safe", safe)
    assert document["primaryType"] == "SafeMessage"
    parts = [sign(document, bytes(owner.key)) for owner in owner_accounts(3)[1::-1]]
    approve = ("approvals", "approve", asked, "--approver", "sam", "--yes", "--signature")
    few = shell.json(*approve, parts[0], code=3)["error"]
    assert few["code"] == "signature_invalid"
    told = shell.json(*approve, parts[0], "--signature", parts[1], code=4)
    assert [said["approver"] for said in told["approvals"]] == ["sam"]


def test_a_signature_of_something_else_is_told_apart(shell: Shell) -> None:
    first, second = ask(shell, "61.00"), ask(shell, "62.00")
    document = file_of(shell, first)
    (shell.folder / "other.json").write_text(json.dumps(document))
    signature = sign(document, KEYS["bob"])
    given = ("--signature", signature, "--statement", "other.json", "--yes")
    told = shell.json("approvals", "approve", second, "--approver", "bob", *given, code=3)["error"]
    assert told["code"] == "signature_invalid"
    assert f"its id is '{first}', not '{second}'" in told["message"]
    (shell.folder / "other.json").write_text("{}")
    nothing = shell.json("approvals", "approve", second, "--approver", "bob", *given, code=2)
    assert "not one that this program makes" in nothing["error"]["message"]


@pytest.mark.parametrize("command", ["show", "statement"])
def test_at_sixty_columns_in_a_pipe_nothing_is_cut_or_coloured(shell: Shell, command: str) -> None:
    asked = ask(shell)
    told = piped(shell, "approvals", command, asked, COLUMNS="60")
    head, _, commands = told.partition("\nNext\n")
    # A hash alone is wider, and stays whole.
    lines = [line.rstrip() for line in head.splitlines() if " " in line.strip()]
    assert max(map(len, lines)) <= 60, head
    assert "\x1b" not in told
    assert {asked, "60.00"} <= set(told.split())
    assert re.search(r"0x[0-9a-fA-F]{40}\b", told)
    if command == "show":
        wanted = ("Left after", "in the last 7 days", "What is signed", "What happens next")
        assert all(part in told for part in wanted), told
    else:
        assert f"approvals statement {asked} --json > statement.json" in commands
