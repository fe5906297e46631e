"""Who approves sees every limit, and what would be refused, as it is at that moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from coordinator import Coordinator, UnknownId, Usdc
from coordinator.cli import approvals as review_command
from coordinator.cli import main
from coordinator.domain.purchase.purchase import Purchase
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import (
    HOUR,
    ID_SECRET,
    PROVIDER,
    SIGNER_KEY,
    Clock,
    ask,
    contents,
)
from tests.integration.stores import on_both

LIMITED = {
    "providers": {"paper-api": {"daily_limit": "100"}},
    "tasks": {"default": {"total_limit": "200"}},
    "sessions": {"default": {"total_limit": "300"}},
}


def waiting(coordinator: Coordinator, amount: str = "75.00") -> Purchase:
    return ask(
        coordinator.agent("ada"), amount, task="t-1", session="s-1", category="data", service="x"
    )


def scopes(limits: Any) -> dict[str, tuple[Usdc, bool]]:
    return {str(state.limit.scope): (state.remaining, state.broken) for state in limits}


@on_both
def test_all_limits_of_a_purchase_are_judged_without_its_own_hold(
    opener: Opener, database: str
) -> None:
    coordinator = opener(LIMITED)
    purchase = waiting(coordinator)
    before = contents(database)

    judged = coordinator.judge_approval(purchase.approval_id or "")

    assert contents(database) == before
    found = scopes(judged.limits)
    assert found["provider:paper-api"] == (Usdc("100"), False)
    assert found["task:t-1"] == (Usdc("200"), False)
    assert found["session:s-1"] == (Usdc("300"), False)
    assert not judged.refusals
    shown = judged.as_dict()
    terms = ("category", "service", "task", "session")
    assert [shown[name] for name in terms] == ["data", "x", "t-1", "s-1"]
    assert shown["reason"]["code"] == "approval_required"


@on_both
def test_what_would_be_refused_is_told_before_as_approving_tells_it(opener: Opener) -> None:
    coordinator = opener(LIMITED)
    purchase = waiting(coordinator)
    approval = purchase.approval_id or ""
    opener({"providers": {"paper-api": {"daily_limit": "70"}}})

    judged = coordinator.judge_approval(approval, approver="alice")
    answer = coordinator.approve(approval, approver="alice")

    assert scopes(judged.limits)["provider:paper-api"] == (Usdc("70"), True)
    assert not answer.done
    assert [*judged.refusals] == [answer.reason]
    assert judged.undecidable is None
    stranger = coordinator.judge_approval(approval, approver="mallory")
    assert [reason.code for reason in stranger.refusals] == ["not_an_approver", "provider_limit"]
    with pytest.raises(UnknownId):
        coordinator.judge_approval("apr_none")


@on_both
def test_an_approval_whose_time_is_over_is_not_shown_as_waiting(
    opener: Opener, clock: Clock
) -> None:
    coordinator = opener(LIMITED)
    purchase = waiting(coordinator)
    clock.now += HOUR

    judged = coordinator.judge_approval(purchase.approval_id or "", approver="alice")

    assert not judged.waits
    assert [reason.code for reason in judged.refusals] == ["approval_expired"]
    answer = coordinator.approve(purchase.approval_id or "", approver="alice")
    assert [*judged.refusals] == [answer.reason]


POLICY = f"""
[organisation]
total_limit = "1000"

[agents.ada]
per_purchase_limit = "unlimited"
total_limit = "500"
approval_threshold = "50"

[providers.paper-api]
address = "{PROVIDER}"
daily_limit = "200"

[approvals]
approvers = ["alice"]
"""


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COORDINATOR_NETWORK", "base-sepolia")
    monkeypatch.setenv("COORDINATOR_ID_SECRET", ID_SECRET)
    monkeypatch.setenv("TREASURY_PRIVATE_KEY", SIGNER_KEY)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.toml").write_text(POLICY)
    return tmp_path


def buy(*amounts: str) -> list[str]:
    with Coordinator.from_env(act=False) as coordinator:
        asked = [
            coordinator.agent("ada").purchase(
                provider="paper-api", amount=amount, purpose="x", wait=False
            )
            for amount in amounts
        ]
    return [purchase.approval_id or "" for purchase in asked]


def test_a_dry_run_says_what_the_real_one_says(
    shell: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (approval,) = buy("75.00")
    (shell / "policy.toml").write_text(POLICY.replace('"200"', '"70"'))
    command = ["approvals", "approve", approval, "--approver", "alice", "--json"]
    told = []
    for more in (["--dry-run"], ["--yes", "--no-wait"]):
        capsys.readouterr()
        code = main([*command, *more])
        told.append((code, json.loads(capsys.readouterr().out)["error"]))

    assert told[0] == told[1]
    assert told[0][0] == 3
    # To be rejected it need not fit.
    command = ["approvals", "reject", approval, "--approver", "alice", "--reason", "no", "--json"]
    assert main([*command, "--dry-run"]) == 0
    capsys.readouterr()
    assert main(["approvals", "list", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    (broken,) = [state for state in listed["limits"] if state["broken"]]
    assert broken["scope"] == "provider:paper-api"
    assert listed["refusals"][0]["code"] == "provider_limit"


def test_a_review_shows_what_was_decided_meanwhile_as_decided(
    shell: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = buy("75.00", "80.00")
    monkeypatch.setattr(review_command, "at_terminal", lambda: True)
    asked: list[str] = []

    def answer(text: str, **_: object) -> str:
        # While the person looks at the first, a colleague rejects the second.
        asked.append(text)
        with Coordinator.from_env(act=False) as other:
            assert other.reject(second, approver="alice", reason="no").done
        return "s"

    monkeypatch.setattr(typer, "prompt", answer)

    assert main(["approvals", "review", "--approver", "alice", "--no-wait"]) == 0

    printed = capsys.readouterr()
    assert first in printed.out
    assert len(asked) == 1
    assert "rejected" in printed.out
    assert "decided or expired in the meantime" in printed.err
