"""A policy file that got a typo stops new spending and nothing else: least of all a pause."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator import ConfigurationError, Coordinator
from coordinator.cli import main
from tests.integration.ledger.deciding import ID_SECRET, PROVIDER, SIGNER_KEY

POLICY = f"""
[organisation]
total_limit = "1000"

[agents.ada]
per_purchase_limit = "unlimited"
total_limit = "500"
approval_threshold = "50"

[providers.paper-api]
address = "{PROVIDER}"

[approvals]
approvers = ["alice"]
"""
TYPO = POLICY.replace("total_limit", "total_limt", 1)
Run = Callable[..., Any]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The policy file of a treasury with one purchase that waits for people."""
    settings = {
        "COORDINATOR_NETWORK": "base-sepolia",
        "COORDINATOR_ID_SECRET": ID_SECRET,
        "TREASURY_PRIVATE_KEY": SIGNER_KEY,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    with Coordinator.from_env(act=False) as coordinator:
        asked = coordinator.agent("ada").purchase(
            provider="paper-api", amount="75", purpose="x", idempotency_key="k", wait=False
        )
        assert asked.needs_approval
    return path


def spoil(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"typo": TYPO.encode(), "bytes": b"\xff\xfe\x00"}[how])


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str, code: int = 0) -> tuple[Any, str]:
        capsys.readouterr()
        ended = main([*arguments, "--json"])
        printed = capsys.readouterr()
        assert ended == code, printed
        return json.loads(printed.out), printed.err

    return run


@pytest.mark.parametrize("how", ["typo", "missing", "bytes"])
def test_spending_is_paused_whatever_the_policy_file_holds(file: Path, run: Run, how: str) -> None:
    spoil(file, how)

    told, warned = run("pause", "--by", "olga", "--reason", "an agent went mad")

    assert told["changed"]
    # It was not even read.
    assert "policy_file_faulty" not in warned
    told, _ = run("pause", "--agent", "ada", "--by", "olga", "--reason", "and this one")
    assert told["changed"]


def test_everything_is_paused_before_any_policy_was_applied(
    file: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COORDINATOR_DATABASE_URL", "sqlite:///fresh.db")
    file.unlink()

    told, _ = run("pause", "--by", "olga", "--reason", "not yet")

    assert told["changed"]


def test_people_decide_and_read_by_the_policy_in_force_and_are_warned(file: Path, run: Run) -> None:
    spoil(file, "typo")
    (waiting,), _ = run("approvals", "list")
    approval = waiting["approval_id"]

    for command in (
        ("limits", "--agent", "ada"),
        ("report",),
        ("agents", "list"),
        ("purchase", "list"),
        ("approvals", "show", approval),
        ("approvals", "approve", approval, "--approver", "alice", "--dry-run"),
        ("approvals", "reject", approval, "--approver", "alice", "--reason", "no", "--yes"),
        ("unpause", "--by", "alice", "--reason", "nothing was paused"),
    ):
        _, warned = run(*command)
        assert warned.count("policy_file_faulty") == 1, command
        assert "total_limt" in warned


def test_new_spending_is_refused_while_the_file_that_should_decide_it_is_faulty(
    file: Path, run: Run
) -> None:
    spoil(file, "typo")

    with Coordinator.from_env(act=False) as coordinator:
        agent = coordinator.agent("ada")
        for ask in (
            lambda: agent.purchase(provider="paper-api", amount="5", purpose="x", wait=False),
            lambda: agent.check(provider="paper-api", amount="5", purpose="x"),
            lambda: agent.hold("5"),
        ):
            with pytest.raises(ConfigurationError, match="total_limt"):
                ask()
        assert coordinator.pause("stop", by="olga")
        assert coordinator.approvals()
        assert coordinator.limits("ada")
        # It was spent already: it counts.
        assert agent.record("5").ok
    file.write_text(POLICY)
    with Coordinator.from_env(act=False) as coordinator:
        assert coordinator.unpause("mended", by="alice")
        assert coordinator.agent("ada").hold("5").ok


def test_a_faulty_file_is_an_error_where_no_policy_is_in_force(
    file: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COORDINATOR_DATABASE_URL", "sqlite:///fresh.db")
    spoil(file, "typo")

    told, _ = run("limits", "--agent", "ada", code=2)

    assert "total_limt" in told["error"]["message"]
