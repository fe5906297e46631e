"""Budgets from a shell: sessions, costs, increases, shares, without any chain."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from coordinator import cli
from coordinator.domain.policy.text import parse_policy

POLICY = """
[organisation]
total_limit = "1000"

[agents.ada]
per_purchase_limit = "unlimited"
daily_limit = "10"
approval_threshold = "50"
priority = 8
categories = { data = { daily_limit = "8" } }

[agents.bert]
per_purchase_limit = "unlimited"
daily_limit = "unlimited"
approval_threshold = "50"
priority = 4

[pools.crew]
daily_limit = "90"
agents = ["ada", "bert"]
minimums = { bert = "30" }

[providers.paper-api]
address = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
daily_limit = "70"

[categories]
default = "other"
[categories.data]
[categories.other]
total_limit = "600"

[tasks.default]
total_limit = "10"
[sessions.default]
total_limit = "20"

[increases]
maximum = "100"

[service_levels]
full = { from = 50, features = ["high_quality"] }
standard = { from = 20 }
minimal = { from = 5 }
emergency = { from = 0 }

[approvals.approvers]
alice = {}
bob = {}
ada = { agent = true, up_to = "70" }
"""


class Shell:
    """Runs commands in this process, in a folder of their own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def text(self, *arguments: str, code: int = 0) -> str:
        """What a person reads on stdout and stderr."""
        ended = cli.main(arguments)
        out, err = self._capsys.readouterr()
        assert (ended, "Traceback" in err) == (code, False), (out, err)
        return out + err

    def json(self, *arguments: str, code: int = 0) -> Any:
        """The JSON that stands on stdout alone."""
        ended = cli.main([*arguments, "--json"])
        out, err = self._capsys.readouterr()
        assert (ended, "Traceback" in err) == (code, False), (out, err)
        return json.loads(out)


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    for name in list(os.environ):
        if name.startswith("COORDINATOR_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COORDINATOR_NETWORK", "base-sepolia")
    monkeypatch.setenv("COORDINATOR_RPC_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("COORDINATOR_ID_SECRET", "5a" * 32)
    monkeypatch.setenv("TREASURY_PRIVATE_KEY", "0x" + "11" * 32)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.toml").write_text(POLICY)
    return Shell(capsys)


def amounts(limits: list[dict[str, Any]]) -> dict[tuple[str, str], str]:
    return {(one["scope"], one["window"]): one["limit"] for one in limits}


def test_all_limits_are_shown_or_those_of_what_is_named(shell: Shell) -> None:
    shell.json("sessions", "open", "s-1", "--agent", "ada", "--limit", "total=30")
    shell.json("tasks", "open", "t-1", "--category-limit", "data:total=0.25")
    everything = amounts(shell.json("limits"))
    organisation = ("organisation", "total")
    assert everything == {
        organisation: "1000.00",
        ("agent:ada", "daily"): "10.00",
        ("agent_category:ada/data", "daily"): "8.00",
        ("pool:crew", "daily"): "90.00",
        ("category:other", "total"): "600.00",
        ("provider:paper-api", "daily"): "70.00",
        ("session:s-1", "total"): "30.00",
        ("task:t-1", "total"): "10.00",
        ("task_category:t-1/data", "total"): "0.25",
    }
    for options, wanted in (
        (("--agent", "ada"), {"agent:ada", "agent_category:ada/data", "pool:crew"}),
        (("--pool", "crew"), {"pool:crew"}),
        (("--session", "s-2"), {"session:s-2"}),
        (("--provider", "paper-api"), {"provider:paper-api"}),
        (("--category", "other"), {"category:other"}),
        (("--task", "t-1", "--category", "data"), {"task:t-1", "task_category:t-1/data"}),
    ):
        found = {scope for scope, _ in amounts(shell.json("limits", *options))}
        assert found == wanted | {"organisation"}
    assert "session:s-1" in shell.text("limits")


@pytest.mark.parametrize(
    "arguments",
    [
        ("limits", "--agent", "eve"),
        ("limits", "--pool", "others"),
        ("limits", "--category", "x"),
        ("limits", "--provider", "x"),
        ("limits", "usage", "--by", "year"),
        ("limits", "usage", "--scope", "nobody"),
        ("limits", "usage", "--since", "soon"),
        ("limits", "rebalance", "--pool", "others", "--dry-run"),
        ("limits", "rebalance", "--pool", "crew", "--method", "magic", "--dry-run"),
        ("limits", "rebalance", "--pool", "crew"),
        ("limits", "withdraw", "ovl_1", "--by", "olga", "--reason", "a test"),
        ("sessions", "open", "s-1", "--limit", "total"),
        ("sessions", "open", "s-1", "--limit", "total=1", "--limit", "total=2"),
        ("sessions", "open", "s-1", "--limit", "yearly=1"),
        ("sessions", "open", "s-1", "--agent", "eve"),
        ("tasks", "open", "t-1", "--category-limit", "total=1"),
        ("tasks", "close", "t-1"),
        (
            "increases",
            "ask",
            "--agent",
            "ada",
            "--amount",
            "1",
            "--reason",
            "x",
            "--window",
            "hourly",
        ),
        ("increases", "approve", "inc_1", "--approver", "alice", "-y"),
        ("approvals", "approve", "inc_1", "--approver", "alice", "-y"),
        ("costs", "hold", "--agent", "ada", "--amount", "1e3"),
        ("costs", "hold", "--agent", "ada", "--amount", "1", "--expires-after", "9d"),
        ("costs", "post", "cst_1"),
        ("costs", "post", "cst_1", "--amount", "1"),
        ("costs", "void", "cst_1"),
        ("costs", "list", "--status", "denied"),
        ("agents", "disable", "eve", "--by", "olga", "--reason", "a test"),
        ("agents", "enable", "eve", "--by", "olga", "--reason", "a test"),
        ("limits", "usage", "--scope", "agent:eve"),
        ("limits", "usage", "--scope", "pool:others"),
        ("limits", "usage", "--scope", "category:x"),
        ("limits", "usage", "--scope", "provider:x"),
        ("agents", "disable", "ada"),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(shell: Shell, arguments: tuple[str, ...]) -> None:
    error = shell.json(*arguments, code=2)["error"]
    assert error["code"] in ("invalid_request", "invalid_amount", "not_found", "not_confirmed")
    assert "\n" not in error["message"]


def test_what_left_the_policy_keeps_its_usage(shell: Shell) -> None:
    shell.json("costs", "record", "--agent", "bert", "--amount", "3")
    text = POLICY.replace("bert", "cora")
    Path("policy.toml").write_text(text)
    shell.json("policy", "apply")
    usage = shell.json("limits", "usage", "--scope", "agent:bert", "--by", "month")
    assert usage[-1]["spent"] == "3.00"
    for verb in ("pause", "unpause"):
        told = shell.text(verb, "--agent", "bert", "--by", "alice", "--reason", "a test", code=2)
        assert "'bert' is not an agent of the policy" in told


def test_a_draft_tells_what_a_check_warns_of(shell: Shell) -> None:
    signs = 'credentials = ["address:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"]'
    text = POLICY[: POLICY.index("[approvals.approvers]")]
    Path("signed.toml").write_text(f"{text}[approvals.approvers]\nalice = {{ {signs} }}\n")
    shell.json("policy", "apply", "policy.toml")
    for verb in ("check", "draft", "apply"):
        told = shell.text("policy", verb, "signed.toml")
        assert "alice has one credential" in told
        assert 'set signatures = "required"' in told


def test_costs_are_held_posted_voided_and_recorded(shell: Shell) -> None:
    hold = ("costs", "hold", "--agent", "ada", "--category", "data", "--amount")
    held = shell.json(*hold, "4", "--purpose", "a model call")
    assert (held["status"], held["amount"], held["category"]) == ("held", "4.00", "data")
    posted = shell.json("costs", "post", held["cost_id"], "--amount", "1.5")
    assert (posted["status"], posted["posted"]) == ("posted", "1.50")
    assert shell.json("costs", "post", held["cost_id"], "--amount", "1.50")["posted"] == "1.50"
    ended = shell.json("costs", "void", held["cost_id"], code=1)
    assert (ended["error"]["code"], ended["cost"]["status"]) == ("ended_before", "posted")
    other = shell.json(*hold, "2")
    assert shell.json("costs", "void", other["cost_id"])["status"] == "voided"
    whole = shell.json(*hold, "1")
    assert shell.json("costs", "post", whole["cost_id"])["posted"] == "1.00"
    assert shell.json("costs", "record", "--agent", "ada", "--amount", "3")["status"] == "posted"

    assert shell.json(*hold, "6", "--dry-run", code=3)["reasons"][0]["code"] == "daily_limit"
    assert shell.json(*hold, "4", "--dry-run")["ok"] is True
    refused = shell.json(*hold, "6", code=3)
    assert refused["status"] == "denied"
    assert [r["code"] for r in refused["reasons"]] == ["daily_limit", "category_limit"]
    assert len(shell.json("costs", "list")) == 4
    assert [c["cost_id"] for c in shell.json("costs", "list", "--status", "voided")] == [
        other["cost_id"]
    ]
    usage = shell.json("limits", "usage", "--scope", "agent:ada", "--by", "month")
    assert (usage[-1]["spent"], usage[-1]["held"]) == ("5.50", "0.00")

    # A script's void is no last word: its agent may be spending still.
    late = shell.json("costs", "post", other["cost_id"], "--amount", "0.5")
    assert (late["status"], late["posted"]) == ("posted", "0.50")
    for told in (shell.text("costs", "list"), shell.text(*hold, "0.25")):
        assert "data" in told
    assert "may spend" in shell.text(*hold, "6", code=3)


def test_a_report_shows_costs_beside_purchases(shell: Shell) -> None:
    shell.json("costs", "record", "--agent", "ada", "--amount", "3")
    found = shell.json("report")
    assert found["off_chain"] == {"spent": "3.00", "held": "0.00"}
    assert found["by_agent"]["ada"]["off_chain"] == {"spent": "3.00", "held": "0.00"}
    assert "Costs without an escrow" in shell.text("report")


@pytest.mark.parametrize("kind", ["session", "task"])
def test_sessions_and_tasks_are_opened_looked_at_and_closed(shell: Shell, kind: str) -> None:
    group = f"{kind}s"
    opened = shell.json(
        *(group, "open", "r-1", "--agent", "ada", "--limit", "total=5"),
        *("--limit", "daily=2", "--by", "olga"),
    )
    assert (opened[kind], opened["agent"], opened["opened_by"]) == ("r-1", "ada", "olga")
    assert opened["limits"] == {"total_limit": "5.00", "daily_limit": "2.00"}
    assert "opened before" in shell.text(group, "open", "r-1", code=2)
    hold = ("costs", "hold", "--agent", "ada", f"--{kind}", "r-1", "--amount")
    shell.json(*hold, "2.01", code=3)
    shell.json(*hold, "1.25")
    report = shell.json(group, "report", "r-1")
    assert (report["off_chain"], report["status"]) == ("1.25", "open")
    assert len(report["limits"]) == 2
    readable = shell.text(group, "report", "r-1")
    assert "1.25 USDC in 1 costs" in readable and "by_category" not in readable

    assert shell.json(group, "close", "r-1", "--dry-run")["status"] == "open"
    assert shell.json(group, "close", "r-1", "--by", "olga")["closed_by"] == "olga"
    assert "closed already" in shell.text(group, "close", "r-1")
    assert shell.json(group, "list", "--open") == []
    (listed,) = shell.json(group, "list")
    assert (listed[kind], listed["status"]) == ("r-1", "closed")
    assert "r-1" in shell.text(group, "list")
    assert shell.json(group, "report", "r-1")["off_chain"] == "0.00"
    assert "not opened by name" in shell.text(group, "report", "r-2")


def test_increases_wait_among_approvals_and_are_decided_there_too(shell: Shell) -> None:
    ask = ("increases", "ask", "--agent", "ada", "--reason", "the month's end", "--amount")
    asked = shell.json(*ask, "15", "--lasts", "2h", code=4)
    assert (asked["status"], asked["scope"], asked["window"]) == ("waiting", "agent:ada", "daily")
    assert shell.json(*ask, "100.01", code=3)["reason"]["code"] == "increase_limit"
    bought = ("purchase", "request", "--agent", "bert", "--provider", "paper-api", "--no-wait")
    shell.json(*bought, "--amount", "60", "--purpose", "papers", code=4)

    purchase, increase = shell.json("approvals", "list")
    assert (purchase["kind"], increase["kind"]) == ("purchase", "increase")
    assert purchase.keys() <= increase.keys()
    assert increase["approval_id"] == asked["increase_id"]
    assert (increase["amount"], increase["purpose"]) == ("15.00", "the month's end")
    assert increase["limits"][0]["limit"] == "10.00"
    assert asked["increase_id"] in shell.text("approvals", "list")
    assert asked["increase_id"] in shell.text("increases", "list")

    approve = ("approvals", "approve", asked["increase_id"], "--approver")
    assert shell.json(*approve, "eve", "-y", code=3)["error"]["code"] == "not_an_approver"
    assert shell.json(*approve, "alice", code=2)["error"]["code"] == "not_confirmed"
    assert shell.json(*approve, "alice", "--dry-run")["status"] == "waiting"
    assert shell.json(*approve, "alice", "-y")["status"] == "granted"
    assert shell.json(*approve, "bob", "-y", code=1)["error"]["code"] == "approval_not_found"
    assert amounts(shell.json("limits", "--agent", "ada"))["agent:ada", "daily"] == "25.00"
    assert shell.json("approvals", "show", asked["increase_id"])["status"] == "granted"

    (overlay,) = shell.json("limits", "overlays")
    assert (overlay["kind"], overlay["scope"], overlay["in_force"]) == ("grant", "agent:ada", True)
    assert overlay["id"] in shell.text("limits", "overlays")
    withdraw = ("limits", "withdraw", overlay["id"], "--by", "olga", "--reason", "too much")
    assert shell.json(*withdraw, "--dry-run")["withdrawn"] is False
    assert shell.json(*withdraw)["withdrawn"] is True
    assert shell.json("limits", "overlays") == []
    assert amounts(shell.json("limits", "--agent", "ada"))["agent:ada", "daily"] == "10.00"


def test_a_dry_run_tells_who_may_decide_a_purchase(shell: Shell) -> None:
    bought = ("purchase", "request", "--provider", "paper-api", "--no-wait", "--purpose", "x")
    shell.json(*bought, "--agent", "bert", "--amount", "60", code=4)
    (waiting,) = shell.json("approvals", "list")
    look = ("approvals", "approve", waiting["approval_id"], "--dry-run", "--approver")
    for approver in ("alice", "ada"):
        assert shell.json(*look, approver)["dry_run"] is True
    for approver in ("bert", "eve"):
        assert shell.json(*look, approver, code=3)["error"]["code"] == "not_an_approver"


def test_a_review_goes_through_increases_too(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = ("increases", "ask", "--agent", "bert", "--reason", "x", "--scope", "pool:crew")
    ids = [shell.json(*ask, "--amount", "5", code=4)["increase_id"] for _ in range(3)]
    answers = iter(["a", "r", "not now", "q"])
    monkeypatch.setattr("coordinator.cli.approvals.at_terminal", lambda: True)
    monkeypatch.setattr("typer.prompt", lambda *_, **__: next(answers))
    monkeypatch.setattr("typer.confirm", lambda *_, **__: True)
    assert "3 of 3" in shell.text("approvals", "review", "--approver", "alice")
    status = {one["increase_id"]: one["status"] for one in shell.json("increases", "list", "--all")}
    assert [status[one] for one in ids] == ["granted", "rejected", "waiting"]


def test_an_increase_is_rejected_with_a_reason(shell: Shell) -> None:
    ask = ("increases", "ask", "--agent", "ada", "--amount", "5", "--reason", "please")
    first, second = shell.json(*ask, code=4), shell.json(*ask, code=4)
    no = ("--approver", "bob", "--reason", "not now", "-y")
    rejected = shell.json("increases", "reject", first["increase_id"], *no)
    assert (rejected["status"], rejected["reason"]["code"]) == ("rejected", "rejected")
    assert shell.json("approvals", "reject", second["increase_id"], *no)["status"] == "rejected"
    again = shell.json("increases", "reject", first["increase_id"], *no, code=1)
    assert again["error"]["code"] == "approval_not_found"
    assert shell.json("increases", "list") == []
    assert len(shell.json("increases", "list", "--all")) == 2
    assert "rejected" in shell.text("increases", "list", "--all")


def test_a_pool_is_shared_out_with_a_look_before(shell: Shell) -> None:
    share = ("limits", "rebalance", "--pool", "crew", "--method", "by_priority")
    looked = shell.json(*share, "--dry-run")
    assert looked["after"] == {"ada": "40.00", "bert": "50.00"}
    assert (looked["before"], looked["sum"], looked["applied"]) == ({}, "90.00", False)
    assert shell.json("limits", "overlays") == []
    assert shell.json(*share, "-y", "--by", "olga", "--reason", "a test")["applied"] is True
    shares = amounts(shell.json("limits", "--pool", "crew"))
    assert shares["pool_agent:crew/ada", "daily"] == "40.00"
    told = shell.text("limits", "rebalance", "--pool", "crew", "--method", "fixed", "--dry-run")
    assert [line.split() for line in told.splitlines() if line.startswith(("ada", "sum"))] == [
        ["ada", "40.00", "45.00"],
        ["sum", "90.00"],
    ]
    emergency = ("increases", "ask", "--agent", "ada", "--pool", "crew", "--reason", "now")
    asked = shell.json(*emergency, "--amount", "30", code=4)
    granted = shell.json("increases", "approve", asked["increase_id"], "--approver", "bob", "-y")
    assert granted["amount"] == "20.00"
    shares = amounts(shell.json("limits", "--pool", "crew"))
    assert shares["pool_agent:crew/bert", "daily"] == "30.00"


def test_an_agent_is_disabled_enabled_and_shown_with_its_service_level(shell: Shell) -> None:
    shown = shell.json("agents", "show", "ada")
    assert (shown["enabled"], shown["service_level"]) == (True, "full")
    assert shown["features"] == ["high_quality"]
    shell.json("costs", "record", "--agent", "ada", "--amount", "8.5")
    assert shell.json("agents", "show", "ada")["service_level"] == "minimal"
    assert "minimal, 15 % of agent:ada is left" in shell.text("agents", "show", "ada")

    by = ("--by", "olga", "--reason", "misbehaves")
    changed = {"agent": "ada", "enabled": False, "changed": True}
    assert shell.json("agents", "disable", "ada", *by) == changed
    assert shell.json("agents", "disable", "ada", *by)["changed"] is False
    assert shell.json("agents", "list")[0]["enabled"] is False
    refused = shell.json("costs", "hold", "--agent", "ada", "--amount", "1", code=3)
    assert refused["reason"]["code"] == "agent_disabled"
    assert "ada is enabled" in shell.text("agents", "enable", "ada", *by)


def test_a_review_tells_what_stands_out(shell: Shell) -> None:
    shell.json("costs", "record", "--agent", "ada", "--amount", "9.5")
    found = shell.json("review")
    assert [(one["kind"], one["scope"]) for one in found] == [("nearly_depleted", "agent:ada")]
    assert "agent:ada has nearly used up its daily limit: 5 % remains" in shell.text("review")


def test_the_policy_of_these_tests_holds() -> None:
    assert parse_policy(POLICY).service_levels is not None
