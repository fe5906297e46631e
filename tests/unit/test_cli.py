"""The command line's promises that need no chain: start-up, exit codes, JSON, bad input, files."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer.main

from coordinator import cli, doctor
from coordinator.cli import approvals, decisions, init, output, purchases
from coordinator.cli.decisions import Decidable
from coordinator.cli.exits import of_fault, of_purchase, of_refusal
from coordinator.cli.times import moment
from coordinator.cli.waiting import watched
from coordinator.config import SECRET_NAMES, Settings, read_policy
from coordinator.doctor.check import START_ANVIL, start_anvil
from coordinator.domain.errors import (
    ChainUnavailable,
    ConfigurationError,
    CoordinatorError,
    IdempotencyConflict,
    ImpossibleState,
    InvalidRequest,
    LedgerUnavailable,
    OutcomeUnknown,
    TxReverted,
    UnknownId,
)
from coordinator.domain.limits.rules import Rules
from coordinator.domain.policy.text import parse_policy
from coordinator.domain.purchase.blocker import Blocker, BlockerCode
from coordinator.domain.purchase.decision import Facts, decide
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.purchase import Purchase, PurchaseTransaction
from coordinator.domain.purchase.request import Request
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.usdc import Usdc

ROOT = Path(__file__).resolve().parents[2]
PROVIDER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
# Anvil's sixth account: public, from the mnemonic "test test … junk".
KEY = "0x8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba"
HEAVY = {"alembic", "coincurve", "eth_account", "pydantic", "requests", "sqlalchemy", "web3"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with no settings but the secrets."""
    for name in list(os.environ):
        if name.startswith("COORDINATOR_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TREASURY_PRIVATE_KEY", KEY)
    monkeypatch.setenv("COORDINATOR_ID_SECRET", "5a" * 32)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands(group: Any = None, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its path, groups that run by themselves too."""
    group = group or typer.main.get_command(cli.make_app())
    for name, found in group.commands.items():
        if hasattr(found, "commands"):
            yield from commands(found, f"{path}{name} ")
        if not hasattr(found, "commands") or found.invoke_without_command:
            yield f"{path}{name}", found


def test_help_loads_nothing_that_acts() -> None:
    code = (
        "import json, sys\n"
        "from coordinator.cli import main\n"
        "status = main(['--help'])\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
        "sys.exit(status)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert ran.returncode == 0, ran.stderr
    assert "purchase" in ran.stdout
    assert not set(json.loads(ran.stdout.splitlines()[-1])) & HEAVY


def test_every_command_of_the_design_is_there() -> None:
    wanted = {
        *("demo", "init", "doctor", "deploy", "fund", "withdraw", "limits", "report", "gas"),
        *("recover", "rebuild", "backup", "migrate", "pause", "unpause", "worker", "reconcile"),
        "reconcile explain",
        *(f"agents {name}" for name in ("list", "show", "disable", "enable")),
        *(f"limits {name}" for name in ("usage", "rebalance", "overlays", "withdraw")),
        *(f"{runs} {n}" for runs in ("sessions", "tasks") for n in ("list", "open", "close")),
        *(f"{runs} report" for runs in ("sessions", "tasks")),
        *(f"increases {name}" for name in ("list", "ask", "approve", "reject")),
        *(f"costs {name}" for name in ("list", "hold", "post", "void", "record")),
        "review",
        *(f"alerts {name}" for name in ("list", "test")),
        *(f"approvals {name}" for name in ("list", "show", "approve", "reject")),
        *(f"audit {name}" for name in ("show", "verify", "export", "head")),
        *(f"wallet {name}" for name in ("new", "import", "list", "address", "change-password")),
        *(f"policy {name}" for name in ("check", "show", "apply", "diff", "export", "replay")),
    }
    purchase = ("request", "show", "list", "wait", "cancel", "settle", "dispute", "receipt")
    wanted |= {f"purchase {name}" for name in purchase}
    assert wanted <= {path for path, _ in commands()}


@pytest.mark.parametrize("option", ["--json", "--debug", "--verbose"])
def test_every_command_takes_the_common_options(option: str) -> None:
    without = [p for p, c in commands() if option not in {o for q in c.params for o in q.opts}]
    assert without == []


def test_every_command_says_what_it_does() -> None:
    assert [path for path, found in commands() if not found.help] == []


@pytest.mark.parametrize(
    "path",
    [
        *("deploy", "fund", "withdraw", "rebuild", "approvals approve", "approvals reject"),
        *("purchase request", "purchase settle", "purchase dispute"),
        *("limits rebalance", "limits withdraw", "sessions close", "tasks close"),
        *("increases approve", "increases reject"),
    ],
)
def test_what_moves_money_asks_and_knows_a_dry_run(path: str) -> None:
    options = {option for p in dict(commands())[path].params for option in p.opts}
    assert {"--yes", "-y", "--dry-run"} <= options


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (InvalidRequest("x"), 2),
        (UnknownId("x"), 2),
        (IdempotencyConflict("x"), 2),
        (ConfigurationError("x"), 2),
        (LedgerUnavailable("x"), 1),
        (ImpossibleState("x"), 1),
        (CoordinatorError("x"), 1),
        (ChainUnavailable("x"), 5),
        (TxReverted("x"), 5),
        (OutcomeUnknown("x", tx_hash="0x0"), 5),
    ],
)
def test_each_fault_has_its_exit_code(fault: CoordinatorError, code: int) -> None:
    assert of_fault(fault) == code


def test_a_refusal_of_the_node_is_the_chains_exit_code() -> None:
    from coordinator.chain.rpc.client import RpcRefusal, RpcRefused

    assert of_fault(RpcRefused(RpcRefusal(-32000, "no"))) == 5


def purchase(status: str, reason: str | None = None) -> Purchase:
    given: dict[str, Any] = {field.name: None for field in dataclasses.fields(Purchase)}
    given |= {"id": "pur_1", "status": Status(status), "amount": Usdc("1")}
    given["reason"] = Reason(ReasonCode(reason), "because") if reason else None
    return Purchase(**given)


@pytest.mark.parametrize(
    ("status", "reason", "until", "code"),
    [
        ("funded", None, "funded", 0),
        ("started", None, "funded", 0),
        ("settled", None, "final", 0),
        ("approved", None, None, 0),
        ("denied", "daily_limit", "funded", 3),
        ("denied", "provider_not_allowed", None, 3),
        ("denied", "agent_not_registered", "funded", 3),
        ("denied", "insufficient_usdc", "funded", 5),
        ("denied", "insufficient_gas", "funded", 5),
        ("awaiting_approval", "approval_required", "funded", 4),
        ("awaiting_approval", "approval_required", None, 4),
        ("rejected", "rejected", "funded", 1),
        ("expired", "expired", "funded", 1),
        ("cancelled", "cancelled", "funded", 1),
        ("failed", "expired", "funded", 1),
        ("failed", "insufficient_gas", "funded", 5),
        ("failed", "insufficient_usdc", "funded", 5),
        ("failed", "reverted", "funded", 5),
        ("cancelled", "reverted", "funded", 5),
        ("cancelled", "insufficient_usdc", "funded", 5),
        ("approved", None, "funded", 5),
        ("created", None, "funded", 5),
        ("funded", None, "delivered", 5),
        ("delivered", None, "delivered", 0),
        ("delivered", None, "final", 5),
    ],
)
def test_each_state_of_a_purchase_has_its_exit_code(
    status: str, reason: str | None, until: str | None, code: int
) -> None:
    assert of_purchase(purchase(status, reason), until=until) == code


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("not_an_approver", 3),
        ("approval_required", 3),
        ("daily_limit", 3),
        ("paused", 3),
        ("approval_not_found", 1),
        ("approval_expired", 1),
        ("rejected", 1),
        ("not_cancellable", 1),
        ("not_settleable", 1),
        ("dispute_window_closed", 1),
        ("insufficient_usdc", 5),
    ],
)
def test_each_refusal_has_its_exit_code(reason: str, code: int) -> None:
    assert of_refusal(Reason(ReasonCode(reason), "because")) == code


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


REQUEST = ("purchase", "request", "--agent", "research-agent", "--provider", "paper-api")
BAD = {
    "amount": ["abc", "-1", "0", "1e3", "NaN", "0.0000001", " 25", "1,000", "", "٣"],
    "provider": [
        "0x0000000000000000000000000000000000000000",
        "0x70997970c51812dc3A010C7d01b50e0d17dc79C8",
        "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc",
        "not a name",
    ],
    "purpose": ["", "   ", "a\x07b", "x" * 1_000_000],
}


@pytest.mark.parametrize(
    ("option", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_malformed_input_is_one_json_error_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], folder: Path, option: str, value: str
) -> None:
    terms = {"amount": "25.00", "purpose": "papers"} | {option: value}
    options = [f"--{name}={given}" for name, given in terms.items()]

    code, out, _ = said(capsys, *REQUEST, *options, "--json")

    assert code == 2
    error = json.loads(out)["error"]
    assert error["code"] == f"invalid_{option}"
    assert "\n" not in error["message"]
    assert list(folder.iterdir()) == []


def test_malformed_input_is_one_sentence_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, *REQUEST, "--amount", "1e3", "--purpose", "papers")
    assert (code, out) == (2, "")
    assert err.startswith("error: '1e3' is not an amount")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [("nope",), ("purchase", "nope"), ("purchase", "show"), ("gas", "--nope"), REQUEST],
)
def test_wrong_usage_is_an_error_with_code_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    code, out, _ = said(capsys, *arguments, "--json")
    assert code == 2
    assert json.loads(out)["error"]["code"] == "usage"


@pytest.mark.parametrize("missing", ["COORDINATOR_ID_SECRET", "TREASURY_PRIVATE_KEY"])
def test_a_missing_secret_is_a_configuration_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.delenv(missing)
    monkeypatch.setenv("COORDINATOR_NETWORK", "base-sepolia")
    command = ("audit", "head") if missing == "COORDINATOR_ID_SECRET" else ("gas",)
    code, out, _ = said(capsys, *command, "--json")
    assert code == 2
    assert missing in json.loads(out)["error"]["message"]


def test_all_wrong_settings_are_told_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COORDINATOR_NETWORK", "mars")
    monkeypatch.setenv("COORDINATOR_TYPO", "1")
    code, _, err = said(capsys, "limits")
    assert code == 2
    assert "COORDINATOR_TYPO" in err
    assert "COORDINATOR_NETWORK" in err


def test_a_fault_of_a_policy_file_names_line_and_key(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    text = init.template("policy.toml").replace("per_purchase_limit", "per_purchase_limt", 1)
    (folder / "policy.toml").write_text(text)
    code, out, _ = said(capsys, "policy", "check", "--json")
    assert code == 2
    message = json.loads(out)["error"]["message"]
    told = r"policy\.toml:\d+: agents\.research-agent\.per_purchase_limt is not a key"
    assert re.match(told, message)


@pytest.mark.parametrize("debug", [False, True])
def test_a_traceback_is_shown_only_for_debugging(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    def broken() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("coordinator.api.coordinator.Coordinator.from_env", broken)
    code, _, err = said(capsys, "limits", *(["--debug"] if debug else []))
    assert code == 1
    assert "error: unexpected" in err
    assert ("Traceback" in err) is debug


def test_ctrl_c_is_the_users_abort(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("coordinator.api.coordinator.Coordinator.from_env", interrupted)
    code, out, _ = said(capsys, "limits", "--json")
    assert code == 1
    assert json.loads(out)["error"]["code"] == "aborted"


def test_without_a_terminal_nothing_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "approvals", "approve", "apr_1", "--json")
    assert code == 2
    assert "--approver" in json.loads(out)["error"]["message"]
    assert said(capsys, "approvals", "review")[0] == 2
    assert said(capsys, "init")[0] == 2


def test_init_writes_files_that_only_their_owner_reads_and_a_policy_that_holds(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    code, out, _ = said(capsys, "init", "--yes", "--approver", "carol", "--json")
    assert code == 0
    told = json.loads(out)
    env = (folder / ".env").read_text()
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    assert re.search(r"^COORDINATOR_ID_SECRET=[0-9a-f]{64}$", env, re.MULTILINE)
    assert re.search(r"^TREASURY_PRIVATE_KEY=0x[0-9a-f]{64}$", env, re.MULTILINE)
    assert f"# The key of {told['address']}." in env
    assert list(read_policy(folder / "policy.toml").approvals.approvers) == ["carol"]


def test_init_overwrites_nothing(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "policy.toml").write_text("mine")
    assert said(capsys, "init", "--yes")[0] == 0
    before = (folder / ".env").read_text()
    code, out, _ = said(capsys, "init", "--yes", "--json")
    assert (code, json.loads(out)["error"]["code"]) == (2, "exists")
    assert (folder / ".env").read_text() == before
    assert (folder / "policy.toml").read_text() == "mine"


def test_init_keeps_keys_for_real_usdc_out_of_the_environment(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    for key in (("--key", "new-env"), ("--signer", "env:TREASURY_PRIVATE_KEY")):
        assert said(capsys, "init", "--yes", "--network", "base", *key)[0] == 2
    assert list(folder.iterdir()) == []


def test_init_asks_for_a_credential_where_approvers_sign(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    told = said(capsys, "init", "--yes", "--network", "base-sepolia", "--json")
    assert told[0] == 2 and "--credential" in told[1]
    wrong = said(
        capsys, "init", "--yes", "--network", "base-sepolia", "--credential", "key:1", "--json"
    )
    assert wrong[0] == 2 and "is not a credential" in wrong[1]
    assert list(folder.iterdir()) == []


def test_two_inits_never_share_a_secret(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    secrets = set()
    for name in ("one", "two"):
        assert said(capsys, "init", "--yes", "--folder", name)[0] == 0
        secrets |= set(
            re.findall(r"=((?:0x)?[0-9a-f]{64})$", (folder / name / ".env").read_text(), re.M)
        )
    assert len(secrets) == 4


def test_the_shipped_policy_allows_the_example_call_without_approval() -> None:
    policy = parse_policy(init.template("policy.toml"))
    for provider in ("paper-api", PROVIDER):
        request = Request.of(
            agent="research-agent",
            provider=provider,
            amount="25.00",
            purpose="Academic paper API access",
            service="papers",
            category="api",
            task="task-42",
            session="sess-1",
        )
        facts = Facts(Rules(policy), 1_800_000_000, Usdc("1"), lambda keys: {})
        assert decide(request, facts).outcome is Status.APPROVED


def answers(network: str, provider: str | None) -> init.Answers:
    credential = None if network == "anvil" else f"address:0x{'22' * 20}"
    return init.Answers(network, "", "existing", None, None, credential, provider)


def test_the_examples_provider_has_a_public_key_and_is_for_local_chains_only() -> None:
    assert PROVIDER in init.policy_text(answers("anvil", None))
    for network in ("base-sepolia", "base"):
        none = init.policy_text(answers(network, None))
        assert PROVIDER not in none
        assert parse_policy(none).providers == {}
        assert parse_policy(none).approvals.signatures == "required"
        named = parse_policy(init.policy_text(answers(network, "0x" + "11" * 20)))
        assert named.providers["paper-api"].address == "0x" + "11" * 20


def test_env_example_has_every_setting_and_secret_with_its_default() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    fields = {f"COORDINATOR_{name.upper()}": f for name, f in Settings.model_fields.items()}
    assert set(given) == {*fields, *SECRET_NAMES}
    for name, field in fields.items():
        assert given[name] == ("" if field.default is None else str(field.default)), name
    above = [lines[i - 1] for i, line in enumerate(lines) if line.split("=")[0] in fields]
    assert all(line.startswith("#") or "=" in line for line in above)


def test_the_doctor_reports_everything_when_nothing_is_there(folder: Path) -> None:
    found = doctor.run({})
    assert {check.status for check in found} == {"ok", "warn", "fail"}
    wanted = {"settings", "id secret", "key", "policy", "endpoint", "database", "worker", "clock"}
    assert wanted <= {check.name for check in found}
    assert all(check.found for check in found)
    assert list(folder.iterdir()) == []


def test_the_doctor_survives_settings_that_are_wrong() -> None:
    found = {check.name: check for check in doctor.run({"COORDINATOR_NETWORK": "mars"})}
    assert found["settings"].status == "fail"
    assert "COORDINATOR_NETWORK" in found["settings"].found


def test_ids_are_never_cut_even_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rows = [("pur_" + "0123456789" * 2, "awaiting_approval", "research-agent", "1000000.00")]
    output.table("id", "status", "agent", "USDC", rows=rows, right=("USDC",))
    text = capsys.readouterr().out
    assert all(len(line) <= 40 for line in text.splitlines())
    letters = "".join(text.split())
    assert letters.count("0") == rows[0][0].count("0") + rows[0][3].count("0")


def test_what_is_piped_has_no_colour_and_keeps_ids_on_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    long = "0x" + "ab" * 32
    output.card(
        "Purchase", "funded", [("escrow", long), ("link", f"https://example.org/tx/{long}")]
    )
    text = capsys.readouterr().out
    assert f"https://example.org/tx/{long}" in text
    assert "\x1b" not in text


def test_invisible_characters_are_written_out_and_markup_means_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.card("Approval", None, [("purpose", "[red]pay\u202e evil[/red] naïve")])
    assert "[red]pay\\u202e evil[/red] naïve" in capsys.readouterr().out


def test_times_are_ago_a_day_or_rfc3339() -> None:
    assert moment("2026-05-01") == int(datetime(2026, 5, 1, tzinfo=UTC).timestamp())
    assert moment("2026-05-01T02:00:00+02:00") == moment("2026-05-01")
    assert moment(None) is None
    for wrong in ("yesterday", "0d", "24", "٣d"):
        with pytest.raises(InvalidRequest):
            moment(wrong)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_at_every_width_amounts_and_ids_stand_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    bought = "pur_01J9Z8K3M4N5P6Q7R8S9T0V1W2"
    columns = ("id", "status", "agent", "provider", "USDC", "asked (UTC)")
    row = (bought, "awaiting_approval", "a-research-agent", PROVIDER, "123456.75", "05-01 12:00")
    output.table(*columns, rows=[row], right=("USDC",), wrap=("agent", "provider"))
    limits = ("scope", "window", "limit", "spent", "held", "remaining", "resets (UTC)")
    amounts = ("123456.78", "223456.78", "323456.78", "423456.78")
    limit = ("agent:a-research-agent", "per purchase", *amounts, "12-01 00:00")
    output.table(*limits, rows=[limit], right=limits[2:6], wrap=("scope", "window"))
    text = capsys.readouterr().out
    assert all(len(line) <= width for line in text.splitlines())
    words = text.split()
    assert {bought, PROVIDER, "123456.75", "awaiting_approval", *amounts} <= set(words)
    assert "12-01 00:00" in text


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "--version")
    assert code == 0
    assert re.fullmatch(r"coordinator \d+\.\d+\S*\n", out)


def test_without_a_chain_it_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(**_: object) -> None:
        raise ChainUnavailable("the endpoint 127.0.0.1 did not answer")

    monkeypatch.setattr("coordinator.api.coordinator.Coordinator.from_env", down)
    code, _, err = said(capsys, "limits")
    assert code == 5
    assert len(err.splitlines()) == 1
    assert "nothing more was sent; start the endpoint or change COORDINATOR_RPC_URL" in err


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


PAUSED = Blocker(BlockerCode.PAUSED, "spending is paused by olga: stop")
ALONE = Blocker(BlockerCode.NOBODY_ACTS, "no worker is running")
GOES_ON = "continues with a worker, or with: coordinator purchase wait pur_1"


@pytest.mark.parametrize(
    ("asked", "blocker", "told"),
    [
        (False, None, "nothing was requested"),
        (True, None, f"pur_1 is approved and {GOES_ON}"),
        (True, ALONE, f"pur_1 is approved and {GOES_ON}"),
        (True, PAUSED, "pur_1 is approved, and waits: spending is paused by olga: stop"),
    ],
)
def test_ctrl_c_tells_what_goes_on_without_the_person(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    asked: bool,
    blocker: Blocker | None,
    told: str,
) -> None:
    agent = SimpleNamespace(purchase=lambda **_: purchase("approved"))
    coordinator = SimpleNamespace(
        agent=lambda _: agent,
        opened=SimpleNamespace(treasury_address="0x" + "22" * 20),
        wiring=SimpleNamespace(blockers=SimpleNamespace(of=lambda _: blocker)),
        start=(lambda: None) if asked else interrupted,
        wait_for=interrupted,
        get=lambda _: purchase("approved"),
    )
    monkeypatch.setattr(purchases, "opened", lambda: nullcontext(coordinator))
    code, _, err = said(capsys, *REQUEST, "--amount", "1", "--purpose", "x")
    assert (code, err) == (1, f"error: stopped by you: {told}\n")


def test_at_its_timeout_a_wait_says_how_far_it_got(capsys: pytest.CaptureFixture[str]) -> None:
    purchases._tell_timeout(replace(purchase("funded"), transactions=()), "final", 2)
    purchases._tell_timeout(purchase("funded"), "funded", 2)
    purchases._tell_timeout(purchase("settled"), "final", 2)
    said = "funded, not final after 2 s: funded, waiting for the provider to start\n"
    assert capsys.readouterr().err == said


def test_at_its_timeout_a_wait_names_the_blocker(capsys: pytest.CaptureFixture[str]) -> None:
    blocker = Blocker(BlockerCode.NOBODY_ACTS, "no worker is running")
    purchases._tell_timeout(replace(purchase("approved"), blocker=blocker), "funded", 60)
    assert capsys.readouterr().err == "approved, not funded after 60 s: no worker is running\n"


def reviewed(monkeypatch: pytest.MonkeyPatch, approver: str, *typed: str) -> list[str]:
    """The approvals that a review with these answers decided, with two that wait."""
    policy = parse_policy(init.template("policy.toml"))
    waiting = dataclasses.replace(
        purchase("awaiting_approval"), amount=Usdc("75.00"), provider_name="paper-api"
    )
    decided: list[str] = []

    def approve(one: str, *_: object) -> int:
        decided.append(one)
        if one == "apr_1":
            raise UnknownId("it does not wait any more")
        return 0

    def one(approval_id: str) -> Decidable:
        item = SimpleNamespace(id=approval_id, purchase=waiting, expires_at=1_800_000_000)
        found = decisions._of_purchase(coordinator, item, False, 0)
        return dataclasses.replace(
            found,
            show=lambda _: True,
            refusal=lambda *_: None,
            approve=partial(approve, approval_id),
        )

    coordinator: Any = SimpleNamespace(
        wiring=SimpleNamespace(policies=SimpleNamespace(current=lambda: policy)),
    )
    answers = iter(typed)
    prompt: Callable[..., str] = lambda *_, **__: next(answers)  # noqa: E731
    monkeypatch.setattr(approvals, "opened", lambda: nullcontext(coordinator))
    monkeypatch.setattr(
        approvals, "waiting_decisions", lambda *_, **__: [one("apr_1"), one("apr_2")]
    )
    for module in (approvals, decisions, sys.modules["coordinator.cli.command"]):
        monkeypatch.setattr(module, "at_terminal", lambda: True)
    monkeypatch.setattr("typer.prompt", prompt)

    def confirm(question: str, **_: object) -> bool:
        assert question == f"Approve 75.00 USDC to paper-api as {approver}?"
        return next(answers) == "y"

    monkeypatch.setattr("typer.confirm", confirm)
    cli.main(["approvals", "review", "--approver", approver])
    assert next(answers, None) is None
    return decided


def test_a_review_takes_only_its_own_words_and_asks_before_it_pays(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reviewed(monkeypatch, "alice", "abort", "any", "a", "n", "quit") == []
    assert capsys.readouterr().err == "type a, r, s or q\n" * 2
    assert reviewed(monkeypatch, "alice", "s", "APPROVE", "y") == ["apr_2"]


def test_a_refusal_does_not_end_a_review_but_a_wrong_name_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reviewed(monkeypatch, "alice", "a", "y", "a", "y") == ["apr_1", "apr_2"]
    assert "it does not wait any more" in capsys.readouterr().err
    assert reviewed(monkeypatch, "eve") == []
    assert "eve is not an approver" in capsys.readouterr().err


def test_anvil_is_started_only_where_the_endpoint_is_this_machine() -> None:
    assert start_anvil("http://127.0.0.1:8545") == START_ANVIL
    assert start_anvil("http://localhost:8546,http://x") == START_ANVIL[:-2] + " --port 8546 &"
    assert start_anvil("http://10.0.0.5:8545") is None


def test_the_doctor_warns_of_secrets_that_others_can_read(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert said(capsys, "init", "--yes")[0] == 0
    for mode, status in ((0o644, "warn"), (0o600, "ok")):
        (folder / ".env").chmod(mode)
        (check,) = (c for c in doctor.run() if c.name == "settings")
        assert (check.status, check.action) == (
            status,
            "chmod 600 .env" if status == "warn" else None,
        )


def test_init_names_each_file_to_back_up_once(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(capsys, "init", "--yes")
    advice = out.partition("Back up, in separate places")[2].partition("Next")
    assert [line.split()[0] for line in advice[0].split("\n") if line] == [
        ".env",
        "coordinator.db",
    ]
    assert START_ANVIL in advice[2]


def test_a_terminal_shows_what_a_purchase_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = PurchaseTransaction("link", "0xab", None, None, 0, "signed", "")
    waiting = replace(purchase("approved"), transactions=(), updated_at=1_800_000_000)
    looks = iter(
        [
            replace(waiting, blocker=PAUSED),
            waiting,
            replace(waiting, transactions=(sent,)),
            purchase("funded"),
        ]
    )
    coordinator = SimpleNamespace(wait_for=lambda *_, **__: next(looks))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    shown: list[str] = []
    monkeypatch.setattr("rich.status.Status.update", lambda _, line: shown.append(line))
    found = watched(coordinator, "pur_1", "funded", 60)  # type: ignore[arg-type]
    assert found.status.value == "funded"
    assert shown[:2] == ["spending is paused by olga: stop", "approved, about to be sent"]
    assert shown[2].startswith("link sent, waiting for a block since ")


def test_a_limit_below_what_is_used_is_shown_as_exceeded() -> None:
    assert output.remaining_text("5.00") == "5.00"
    assert output.remaining_text("-5.00") == "exceeded by 5.00"
